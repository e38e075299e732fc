"""Inbox → inventory: takes deliveries in batches, decodes them, and applies their events in one transaction.

Pushes and deletes go first. Pulls are taken only while nothing else waits, in larger batches, since their effect is
written once for each tag, manifest and repository. A batch is bounded in deliveries, bytes and events, so that a flood
neither fills the memory nor delays a push for longer than one batch takes.

The inbox has partitions, by repository, and one worker at a time works on each. While whole batches wait, each batch is
of one partition, and several are applied concurrently, here and by other processes: while one waits for the database,
another decides.

If a batch fails, its deliveries are applied one at a time, and ``decide`` says what happens to those that fail again:
only a delivery whose content cannot be stored is quarantined, others are retried. No failure stops the inbox, and no
delivery is lost.

    waiting ──decoded, applied──▶ done ──INDEXER_INBOX_RETENTION──▶ trimmed
      │ ▲ │
      │ │ └──cannot be decoded or stored──▶ quarantined ──`indexer inbox retry`──▶ waiting
      │ └── postponed ◀── failed by a fault of the database or of our own
      └─────────────────────▲
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import structlog
from prometheus_client import Counter, Histogram

from indexer.background.loop import IterationResult, WakeEvent
from indexer.common.backoff import spread
from indexer.common.errors import Postponed
from indexer.ingest.batch import decode_batch
from indexer.ingest.decide import (
    ALIKE_IN_A_ROW,
    POSTPONED_SECONDS,
    Blame,
    FailureAction,
    Streak,
    blame,
    judge,
    wait_after,
)
from indexer.inventory.events import Event, EventAction
from indexer.store import apply, forwarding, inbox, own_requests, traits
from indexer.store.inbox import Delivery, Quarantine
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool, describe, transaction
from indexer.store.traits import Trait

log = structlog.get_logger()

BATCH = 200
PULLS_BATCH = 2000
BATCH_BYTES = 32 * 1024 * 1024

CONCURRENT_BATCHES = 2
"""More at once gained nothing on two cores (measured)."""

PULLS_NOTED_EVERY_SECONDS = 60.0
"""How often it is recorded that the registry announces pulls. Every worker updates that row, so a record with each
batch would make them wait for each other."""

IN_A_ROW = 5
"""Batches that each concurrent task applies before failures of any of them are handled."""

GATHER_SECONDS = 0.025
RUSH_GATHER_SECONDS = 0.25
RUSH_RATE = 200
"""Pauses after a batch that left nothing waiting, so that deliveries gather. A registry sends one event at a time and
waits for each answer: without a pause every delivery would be a batch by itself, on the cores that should answer the
next one. The longer pause is for more than ``RUSH_RATE`` deliveries a second. The first event after a rest is applied
at once. What the pauses gain is measured in docs/explanation/where-the-time-goes.md."""

REST_SECONDS = 0.5
"""How often the inbox is read when nothing wakes the worker: deliveries that another process stored do not."""

REASON_CHARACTERS = 500

EVENTS = Counter("indexer_events_total", "Events taken from the inbox, by outcome.", ["outcome"])
FAILURES = Counter(
    "indexer_ingest_failures_total",
    "Deliveries that could not be applied by themselves, by the cause of the failure.",
    ["blame"],
)
CLAIMS = Counter(
    "indexer_own_requests_total",
    "Pulls whose client claims to be the reconciler: own if it proved that, else why not.",
    ["outcome"],
)
LAG = Histogram(
    "indexer_ingest_lag_seconds",
    "From a delivery's receipt to its being applied.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """Events are queued for GitLab, too, and ``queued`` is set for the forwarder. ``pulls``: pulls as well."""

    queued: WakeEvent
    pulls: bool


class IngestWorker:
    """The loop from inbox to inventory. ``hurry`` ends a pause in which deliveries gather."""

    name = "ingest"

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        *,
        batch: int = BATCH,
        pulls_batch: int = PULLS_BATCH,
        pulls_apart: bool = True,
        forwarded: Forwarding | None = None,
        hurry: WakeEvent | None = None,
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._batch = batch
        self._pulls_batch = pulls_batch
        self._pulls_apart = pulls_apart
        self._forwarded = forwarded
        self._hurry = hurry if hurry is not None else WakeEvent()
        self._behind = False
        self._last_batch_at = 0.0
        self._one_by_one: deque[int] = deque()
        self._streak = Streak()
        self._pulls_noted_at = float("-inf")

    async def run_once(self) -> IterationResult:
        """Apply one batch; several concurrently, while whole batches wait."""
        if self._one_by_one:
            await self._apply_single()
            return IterationResult(items=1, rest_seconds=0)
        done = await (self._catch_up() if self._behind else self._apply_next())
        self._behind = done >= self._batch
        if pause := self._pause_after(done):
            await self._hurry.wait(pause)
        return IterationResult(items=done, rest_seconds=0 if done else REST_SECONDS)

    def _pause_after(self, done: int) -> float:
        """Return for how many seconds deliveries gather before the next batch."""
        now = monotonic()
        since, self._last_batch_at = self._last_batch_at, now
        if not done or self._behind:
            return 0.0
        return RUSH_GATHER_SECONDS if done > RUSH_RATE * (now - since) else GATHER_SECONDS

    async def _catch_up(self) -> int:
        """Apply batches concurrently while whole ones wait; return the number of deliveries."""

        async def apply_some() -> int:
            done = 0
            for _ in range(IN_A_ROW):
                count = await self._apply_next()
                done += count
                if count < self._batch or self._one_by_one:
                    break
            return done

        results = await asyncio.gather(
            *(apply_some() for _ in range(CONCURRENT_BATCHES)), return_exceptions=True
        )
        if failures := [result for result in results if isinstance(result, BaseException)]:
            raise failures[0]
        return sum(result for result in results if not isinstance(result, BaseException))

    async def _apply_next(self) -> int:
        """Apply the next batch; return the number of its deliveries."""
        taken: list[Delivery] = []
        try:
            async with transaction(self._pool) as held:
                taken = await self._claim(held)
                if not taken:
                    return 0
                applied = await self._apply(held, taken)
        except Exception as error:
            cause = blame(error)
            if not taken or cause is Blame.NOBODY:
                raise
            log.warning("batch_failed_taking_one_at_a_time", error=describe(error), blame=cause)
            self._one_by_one.extend(delivery.id for delivery in taken)
            if cause is Blame.SLOW:
                raise  # the database as a whole may be slow: after a round that failed the loop waits
            return len(taken)
        self._record_metrics(applied)
        return len(applied.deliveries)

    async def _apply_single(self) -> None:
        """Apply one delivery of a batch that failed, unless another worker has done so meanwhile.

        Raises ``Postponed`` where several in a row failed alike.
        """
        number = self._one_by_one[0]
        applied = None
        try:
            async with transaction(self._pool) as held:
                delivery = await inbox.take_delivery(held, number=number)
                if delivery is not None:
                    applied = await self._apply(held, [delivery])
        except Exception as error:
            if blame(error) is Blame.NOBODY:
                raise
            await self._handle_failure(number, error)
            return
        self._one_by_one.popleft()
        if applied is not None:
            self._record_metrics(applied)

    async def _handle_failure(self, number: int, error: Exception) -> None:
        """Quarantine or postpone a delivery that failed by itself, as ``judge`` decides.

        In a transaction of its own, so that the attempt is counted although its writes were rolled back.
        """
        cause = blame(error)
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            delivery = await inbox.take_delivery(held, number=number)
            if delivery is None:
                self._one_by_one.popleft()
                return
            self._streak.failed(error)
            FAILURES.labels(cause).inc()
            attempts = delivery.attempts + 1
            verdict = judge(error, attempts=attempts, streak=self._streak)
            reason = f"could not be applied: {describe(error)}"[:REASON_CHARACTERS]
            if verdict is FailureAction.QUARANTINE:
                await _finish(held, [delivery], [Quarantine(delivery=delivery, reason=reason)], now)
            else:
                wait = spread(wait_after(attempts))
                await inbox.delay_deliveries(held, ids=[number], seconds=wait, reason=reason, failed=True)
        self._one_by_one.popleft()
        if verdict is not FailureAction.QUARANTINE:
            log.error(
                "delivery_put_off",
                delivery=number,
                attempts=attempts,
                blame=cause,
                reason=reason,
                exc_info=error,
            )
        if verdict is FailureAction.STOP:
            raise await self._postpone_rest(reason)

    async def _postpone_rest(self, reason: str) -> Postponed:
        """Postpone the rest of the batch, so that other deliveries are applied first; return the error to raise."""
        rest = list(self._one_by_one)
        if rest:
            async with transaction(self._pool) as held:
                await inbox.delay_deliveries(
                    held, ids=rest, seconds=POSTPONED_SECONDS, reason=reason, failed=False
                )
        self._one_by_one.clear()
        return Postponed(
            f"{self._streak.count} deliveries in a row failed alike, so they wait ({ALIKE_IN_A_ROW} are too many to be "
            f"their own fault); the last {reason}",
            rest_seconds=POSTPONED_SECONDS / 2,
        )

    async def _claim(self, held: Connection) -> list[Delivery]:
        """Lock the next deliveries: those with a push or delete, else those with pulls only."""
        for can_wait, limit in ((False, self._batch), (True, self._pulls_batch)):
            found = await inbox.take_deliveries(held, can_wait=can_wait, limit=limit, limit_bytes=BATCH_BYTES)
            if found:
                return found
        return []

    async def _apply(self, held: Connection, taken: list[Delivery]) -> _Applied:
        """Decode and apply deliveries, in the caller's transaction."""
        batch = await decode_batch(taken)
        now = datetime.now(UTC)
        await apply.prepare(self._lookups, batch.events)
        applied = await apply.apply_events(
            held, self._lookups, batch.events, now=now, pulls_apart=self._pulls_apart
        )
        queued = 0
        if self._forwarded is not None:
            queued = await forwarding.enqueue_events(
                held, events=applied.fresh, originals=batch.originals, now=now, pulls=self._forwarded.pulls
            )
        await _finish(held, batch.deliveries, batch.refused, now)
        noted = await self._note_pulls(held, applied.fresh, now)
        return _Applied(
            deliveries=batch.deliveries,
            applied=applied.applied,
            repeated=applied.repeated,
            queued=queued,
            at=now,
            claims=tuple(own_requests.claims_of(applied.fresh)),
            pulls_noted=noted,
        )

    async def _note_pulls(self, held: Connection, fresh: Sequence[Event], now: datetime) -> bool:
        """Record that the registry announces pulls (our own count); return whether this wrote the row.

        Called last in the transaction, since every worker locks this row.
        """
        if monotonic() - self._pulls_noted_at < PULLS_NOTED_EVERY_SECONDS:
            return False
        if not any(e.action is EventAction.PULL and not e.is_blob and not e.imported for e in fresh):
            return False
        because = "a pull was announced"
        await traits.note_trait(held, trait=Trait.ANNOUNCES_PULLS, holds=True, because=because, at=now)
        return True

    def _record_metrics(self, batch: _Applied) -> None:
        """Count what was committed, and wake the forwarder."""
        if batch.applied or batch.repeated:
            self._streak.applied()
        if batch.queued and self._forwarded is not None:
            self._forwarded.queued.wake()
        EVENTS.labels("applied").inc(batch.applied)
        EVENTS.labels("repeated").inc(batch.repeated)
        if batch.pulls_noted:
            self._pulls_noted_at = monotonic()
        for outcome in batch.claims:
            CLAIMS.labels(outcome).inc()
        for delivery in batch.deliveries:
            if not delivery.imported:
                LAG.observe((batch.at - delivery.received_at).total_seconds())


async def _finish(
    held: Connection, deliveries: list[Delivery], refused: list[Quarantine], now: datetime
) -> None:
    if refused:
        await inbox.quarantine(held, refused=refused, now=now)
        EVENTS.labels("quarantined").inc(len(refused))
        log.warning("events_quarantined", count=len(refused), reason=refused[0].reason)
    await inbox.finish_deliveries(held, ids=[delivery.id for delivery in deliveries], now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    """A batch that was applied.

    ``applied``, ``repeated``: events that were new, or known already. ``queued``: events queued for GitLab. ``claims``:
    the outcome of each claim to be our own request.
    """

    deliveries: list[Delivery]
    applied: int
    repeated: int
    queued: int
    at: datetime
    claims: tuple[str, ...]
    pulls_noted: bool

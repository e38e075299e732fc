"""Inbox → inventory: takes deliveries in batches, decodes them, and applies what they tell in one transaction.

What changes state goes first: pulls are taken only while nothing else waits, in larger batches, since what they
change is written once per tag, manifest and repository. A batch is bounded in deliveries, bytes and events, so
that a flood neither fills the memory nor holds up a push for longer than one batch.

The inbox has lanes, by repository, and one worker at a time is in each: while whole batches wait, each is of one
lane, and several are applied side by side, here and by other processes; while one waits for the database, another
decides.

A delivery that breaks its batch is found by taking them one at a time. It is set aside only for what its content can
cause; whose fault a failure is says ``decide``. Nothing stalls the queue, and nothing is lost.

    waiting ──decoded, applied──▶ done ──age──▶ trimmed
      │ ▲ │
      │ │ └──cannot be decoded or stored──▶ quarantined ──`indexer inbox retry`──▶ waiting
      │ └── later ◀── failed by a fault of the database or of our own
      └─────────────────▲
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from indexer.background.loop import IterationResult, WakeEvent
from indexer.common.backoff import spread
from indexer.common.errors import Postponed
from indexer.ingest.decide import (
    ALIKE_IN_A_ROW,
    HELD_BACK_SECONDS,
    Blame,
    FailureAction,
    Streak,
    blame,
    judge,
    wait_after,
)
from indexer.ingest.envelope import Decoded, decode
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
BATCH_EVENTS = 5000
"""One more delivery is decoded only below this: an envelope may hold any number of events."""

SIDE_BY_SIDE = 2
"""More batches at once gained nothing on two cores."""

PULLS_NOTED_EVERY_SECONDS = 60.0
"""That the registry announces pulls is written down no more often: what is written in every batch is waited for."""

IN_A_ROW = 5
"""So many batches before those side by side wait for each other, and what failed is looked into."""

GATHER_SECONDS = 0.025
RUSH_GATHER_SECONDS = 0.25
RUSH_RATE = 200
"""Pauses after a batch that left nothing waiting: a registry sends one event at a time and waits for each answer, so
without them every delivery would be applied by itself, on the cores that should answer the next. The longer one is for
more than ``RUSH_RATE`` deliveries a second. The first event after a rest is applied at once. What they gain is measured
in docs/explanation/where-the-time-goes.md."""

REST_SECONDS = 0.5
"""Other processes store deliveries too, and do not ring our alarm."""

DECODED_ASIDE_BYTES = 1024 * 1024
"""From here on a batch is decoded in a thread: whoever else asks the event loop would wait for it."""

LONGEST_LIST_OF_REFUSED = 100
"""Events of one delivery that are quarantined each by itself."""

REASON_CHARACTERS = 500

EVENTS = Counter("indexer_events_total", "Events taken from the inbox, by what became of them.", ["outcome"])
FAILURES = Counter(
    "indexer_ingest_failures_total",
    "Deliveries that could not be applied when taken alone, by whose fault that is.",
    ["blame"],
)
CLAIMS = Counter(
    "indexer_own_requests_total",
    "Pulls whose client says it is the reconciler, by whether it proved that (own), or why not.",
    ["outcome"],
)
LAG = Histogram(
    "indexer_ingest_lag_seconds",
    "From a delivery's receipt to its being applied.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What is applied is queued for GitLab, too; ``queued`` rings for it. ``pulls``: pulls as well."""

    queued: WakeEvent
    pulls: bool


class IngestWorker:
    """The loop from inbox to inventory."""

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
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._batch = batch
        self._pulls_batch = pulls_batch
        self._pulls_apart = pulls_apart
        self._forwarded = forwarded
        self._behind = False
        self._looked_at = 0.0
        self._one_by_one: deque[int] = deque()
        self._streak = Streak()
        self._pulls_noted_at = float("-inf")

    async def run_once(self) -> IterationResult:
        """Apply a batch, and several side by side while whole ones wait; none waiting is a rest."""
        if self._one_by_one:
            await self._apply_single()
            return IterationResult(items=1, rest_seconds=0)
        done = await (self._catch_up() if self._behind else self._apply_next())
        self._behind = done >= self._batch
        if pause := self._pause_after(done):
            await asyncio.sleep(pause)
        return IterationResult(items=done, rest_seconds=0 if done else REST_SECONDS)

    def _pause_after(self, done: int) -> float:
        """Return for how many seconds deliveries gather before the next batch."""
        now = monotonic()
        since, self._looked_at = self._looked_at, now
        if not done or self._behind:
            return 0.0
        return RUSH_GATHER_SECONDS if done > RUSH_RATE * (now - since) else GATHER_SECONDS

    async def _catch_up(self) -> int:
        """Apply batches side by side, some after each other, while whole ones wait; return how many deliveries."""

        async def some() -> int:
            done = 0
            for _ in range(IN_A_ROW):
                count = await self._apply_next()
                done += count
                if count < self._batch or self._one_by_one:
                    break
            return done

        ends = await asyncio.gather(*(some() for _ in range(SIDE_BY_SIDE)), return_exceptions=True)
        if failures := [end for end in ends if isinstance(end, BaseException)]:
            raise failures[0]
        return sum(end for end in ends if not isinstance(end, BaseException))

    async def _apply_next(self) -> int:
        """Apply a batch of what waits; return how many deliveries it was."""
        taken: list[Delivery] = []
        try:
            async with transaction(self._pool) as held:
                taken = await self._take(held)
                if not taken:
                    return 0
                told = await self._apply(held, taken)
        except Exception as error:
            whose = blame(error)
            if not taken or whose is Blame.NOBODY:
                raise
            log.warning("batch_failed_taking_one_at_a_time", error=describe(error), blame=whose)
            self._one_by_one.extend(delivery.id for delivery in taken)
            if whose is Blame.SLOW:
                raise  # the database may be what is slow: a round that failed is followed by a wait
            return len(taken)
        self._say(told)
        return len(told.deliveries)

    async def _apply_single(self) -> None:
        """Apply one delivery of a batch that failed, or see to it; another worker may have done so by now.

        Raises ``Postponed`` where several in a row failed alike.
        """
        number = self._one_by_one[0]
        told = None
        try:
            async with transaction(self._pool) as held:
                delivery = await inbox.take_delivery(held, number=number)
                if delivery is not None:
                    told = await self._apply(held, [delivery])
        except Exception as error:
            if blame(error) is Blame.NOBODY:
                raise
            await self._see_to(number, error)
            return
        self._one_by_one.popleft()
        if told is not None:
            self._say(told)

    async def _see_to(self, number: int, error: Exception) -> None:
        """Do with a delivery that failed by itself what ``judge`` says.

        In a transaction of its own: how often it failed is counted though what it wrote is undone.
        """
        whose = blame(error)
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            delivery = await inbox.take_delivery(held, number=number)
            if delivery is None:
                self._one_by_one.popleft()
                return
            self._streak.failed(error)
            FAILURES.labels(whose).inc()
            attempts = delivery.attempts + 1
            verdict = judge(error, attempts=attempts, streak=self._streak)
            reason = f"could not be applied: {describe(error)}"[:REASON_CHARACTERS]
            if verdict is FailureAction.QUARANTINE:
                await _finish(held, [delivery], [Quarantine(delivery=delivery, reason=reason)], now)
            else:
                wait = spread(wait_after(attempts))
                await inbox.put_off(held, ids=[number], seconds=wait, reason=reason, failed=True)
        self._one_by_one.popleft()
        if verdict is not FailureAction.QUARANTINE:
            log.error(
                "delivery_put_off",
                delivery=number,
                attempts=attempts,
                blame=whose,
                reason=reason,
                exc_info=error,
            )
        if verdict is FailureAction.STOP:
            raise await self._stop(reason)

    async def _stop(self, reason: str) -> Postponed:
        """Let what failed with the others wait, so that what else there is gets its turn; say that, and why."""
        held_back = list(self._one_by_one)
        if held_back:
            async with transaction(self._pool) as held:
                await inbox.put_off(
                    held, ids=held_back, seconds=HELD_BACK_SECONDS, reason=reason, failed=False
                )
        self._one_by_one.clear()
        return Postponed(
            f"{self._streak.count} deliveries in a row failed alike, so they wait ({ALIKE_IN_A_ROW} are too many to be "
            f"their own fault); the last {reason}",
            rest_seconds=HELD_BACK_SECONDS / 2,
        )

    async def _take(self, held: Connection) -> list[Delivery]:
        """Lock what comes next: what changes state, or else pulls."""
        for can_wait, limit in ((False, self._batch), (True, self._pulls_batch)):
            found = await inbox.take_deliveries(held, can_wait=can_wait, limit=limit, limit_bytes=BATCH_BYTES)
            if found:
                return found
        return []

    async def _apply(self, held: Connection, taken: list[Delivery]) -> _Applied:
        """Decode and apply deliveries, in the caller's transaction."""
        if sum(len(delivery.body) for delivery in taken) > DECODED_ASIDE_BYTES or any(
            delivery.content_encoding for delivery in taken
        ):
            batch = await asyncio.to_thread(_decode, taken)
        else:
            batch = _decode(taken)
        now = datetime.now(UTC)
        await apply.prepare(self._lookups, batch.events)
        told = await apply.apply_events(
            held, self._lookups, batch.events, now=now, pulls_apart=self._pulls_apart
        )
        queued = 0
        if self._forwarded is not None:
            queued = await forwarding.enqueue_events(
                held, events=told.fresh, originals=batch.originals, now=now, pulls=self._forwarded.pulls
            )
        await _finish(held, batch.deliveries, batch.refused, now)
        noted = await self._note_pulls(held, told.fresh, now)
        return _Applied(
            deliveries=batch.deliveries,
            applied=told.applied,
            repeated=told.repeated,
            queued=queued,
            at=now,
            claims=tuple(own_requests.claims_of(told.fresh)),
            pulls_noted=noted,
        )

    async def _note_pulls(self, held: Connection, fresh: Sequence[Event], now: datetime) -> bool:
        """Write down that the registry announces pulls, our own included; last, since every worker writes this row."""
        if monotonic() - self._pulls_noted_at < PULLS_NOTED_EVERY_SECONDS:
            return False
        if not any(e.action is EventAction.PULL and not e.is_blob and not e.imported for e in fresh):
            return False
        because = "a pull was announced"
        await traits.note_trait(held, trait=Trait.ANNOUNCES_PULLS, holds=True, because=because, at=now)
        return True

    def _say(self, told: _Applied) -> None:
        """Count what was committed, and wake who waits for it."""
        if told.applied or told.repeated:
            self._streak.applied()
        if told.queued and self._forwarded is not None:
            self._forwarded.queued.wake()
        EVENTS.labels("applied").inc(told.applied)
        EVENTS.labels("repeated").inc(told.repeated)
        if told.pulls_noted:
            self._pulls_noted_at = monotonic()
        for outcome in told.claims:
            CLAIMS.labels(outcome).inc()
        for delivery in told.deliveries:
            if not delivery.imported:
                LAG.observe((told.at - delivery.received_at).total_seconds())


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
    """What a transaction came to: its deliveries, events that were new or not, those queued for GitLab, and when."""

    deliveries: list[Delivery]
    applied: int
    repeated: int
    queued: int
    at: datetime
    claims: tuple[str, ...]
    pulls_noted: bool


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Deliveries that were decoded, and what they hold."""

    deliveries: list[Delivery] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    originals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: list[Quarantine] = field(default_factory=list)


def _decode(deliveries: list[Delivery]) -> _Batch:
    """Decode deliveries until there are events enough."""
    batch = _Batch()
    for delivery in deliveries:
        if len(batch.events) + len(batch.refused) >= BATCH_EVENTS:
            break
        decoded = decode(
            delivery.body,
            content_encoding=delivery.content_encoding,
            received_at=delivery.received_at,
            imported=delivery.imported,
        )
        batch.deliveries.append(delivery)
        batch.events += decoded.events
        for event, original in zip(decoded.events, decoded.originals, strict=True):
            if not event.imported:  # GitLab is told what happens, not what had happened
                batch.originals.setdefault(event.id, original)
        batch.refused += _refused(delivery, decoded)
    return batch


def _refused(delivery: Delivery, decoded: Decoded) -> list[Quarantine]:
    """Return what of a delivery is to be quarantined: event by event, or, where that would be many rows, as a whole."""
    refused = decoded.refused
    if len(refused) > LONGEST_LIST_OF_REFUSED:
        reason = f"{len(refused)} of its events were refused, the first: {refused[0].reason}"
        return [Quarantine(delivery=delivery, reason=reason)]
    return [Quarantine(delivery=delivery, reason=each.reason, body=each.body) for each in refused]

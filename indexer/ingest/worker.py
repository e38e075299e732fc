"""Inbox → inventory: takes deliveries in batches, decodes them, and applies what they tell in one transaction.

What changes state goes first: pulls are taken only while nothing else waits, in larger batches, since what they
change is written once per tag, manifest and repository. A batch is bounded in deliveries, bytes and events, so
that a flood neither fills the memory nor holds up a push for longer than one batch.

A delivery that breaks its batch is found by taking them one at a time for a while, and quarantined with the
reason: nothing stalls the queue, and nothing is lost.

    waiting ──decoded, applied──▶ done ──age──▶ trimmed
       │
       └──cannot be decoded or applied──▶ quarantined ──`indexer inbox retry`──▶ waiting
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog
from prometheus_client import Counter, Histogram

from indexer.errors import StoreError
from indexer.ingest.envelope import decode
from indexer.inventory.events import Event
from indexer.loop import Alarm, Round
from indexer.store import apply, forwarding, inbox
from indexer.store.inbox import Delivery, Refused
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool, describe, transaction

log = structlog.get_logger()

BATCH = 200
PULLS_BATCH = 2000
BATCH_BYTES = 32 * 1024 * 1024
BATCH_EVENTS = 5000
"""One more delivery is decoded only below this: an envelope may hold any number of events."""

SMALL = 50
GATHER_SECONDS = 0.025
"""A pause after a batch of fewer than ``SMALL``: a registry sends one event at a time and waits for each answer, so
without it every delivery would be applied by itself, on the cores that should answer the next. The first event
after a rest is applied at once; with the pause a real 3.1.1 delivered 1.3 to 1.7 times as fast, as fast as to a
server that applies nothing (docs/explanation/performance.md)."""

REST_SECONDS = 0.5
"""Other processes store deliveries too, and do not ring our alarm."""

EVENTS = Counter("indexer_events_total", "Events taken from the inbox, by what became of them.", ["outcome"])
LAG = Histogram(
    "indexer_ingest_lag_seconds",
    "From a delivery's receipt to its being applied.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What is applied is queued for GitLab, too; ``queued`` rings for it. ``pulls``: pulls as well."""

    queued: Alarm
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
        self._careful = 0
        self._tried = 0

    async def run_once(self) -> Round:
        """Apply one batch; none waiting is a rest."""
        careful = self._careful > 0
        try:
            done = await self._apply(careful=careful)
        except (StoreError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            raise  # nothing is wrong with the deliveries
        except Exception as error:  # noqa: BLE001 - any failure here is some delivery's
            if not careful:
                log.warning("batch_failed_taking_one_at_a_time", error=describe(error))
                self._careful = self._batch
                return Round(items=0, rest_seconds=0)
            done = await self._quarantine_tried(describe(error)[:500])
        if self._careful:
            self._careful -= 1
        elif 0 < done < SMALL:
            await asyncio.sleep(GATHER_SECONDS)
        return Round(items=done, rest_seconds=0 if done else REST_SECONDS)

    async def _apply(self, *, careful: bool) -> int:
        async with transaction(self._pool) as held:
            taken = await self._take(held, careful=careful)
            if not taken:
                return 0
            self._tried = taken[0].id
            batch = _decode(taken)
            now = datetime.now(UTC)
            await apply.prepare(self._pool, self._lookups, batch.events)
            told = await apply.tell_all(
                held, self._lookups, batch.events, now=now, pulls_apart=self._pulls_apart
            )
            queued = await self._queue(held, told.fresh, batch, now)
            await self._finish(held, batch.deliveries, batch.refused, now)
        if queued and self._forwarded is not None:
            self._forwarded.queued.ring()
        EVENTS.labels("applied").inc(told.applied)
        EVENTS.labels("repeated").inc(told.repeated)
        for delivery in batch.deliveries:
            if not delivery.imported:
                LAG.observe((now - delivery.received_at).total_seconds())
        return len(batch.deliveries)

    async def _queue(self, held: Connection, fresh: Sequence[Event], batch: _Batch, now: datetime) -> int:
        if self._forwarded is None:
            return 0
        return await forwarding.enqueue_events(
            held, events=fresh, originals=batch.originals, now=now, pulls=self._forwarded.pulls
        )

    async def _take(self, held: Connection, *, careful: bool) -> list[Delivery]:
        """Lock what comes next: what changes state, or else pulls."""
        for can_wait, limit in ((False, self._batch), (True, self._pulls_batch)):
            found = await inbox.take_deliveries(
                held, can_wait=can_wait, limit=1 if careful else limit, limit_bytes=BATCH_BYTES
            )
            if found:
                return found
        return []

    async def _quarantine_tried(self, reason: str) -> int:
        """Set aside the one delivery that could not be applied."""
        async with transaction(self._pool) as held:
            delivery = await inbox.take_delivery(held, number=self._tried)
            if delivery is None:
                return 0
            refused = [Refused(delivery=delivery, reason=f"could not be applied: {reason}")]
            await self._finish(held, [delivery], refused, datetime.now(UTC))
        return 1

    async def _finish(
        self, held: Connection, deliveries: list[Delivery], refused: list[Refused], now: datetime
    ) -> None:
        if refused:
            await inbox.quarantine(held, refused=refused, now=now)
            EVENTS.labels("quarantined").inc(len(refused))
            log.warning("events_quarantined", count=len(refused), reason=refused[0].reason)
        await inbox.finish_deliveries(held, ids=[delivery.id for delivery in deliveries], now=now)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Deliveries that were decoded, and what they hold."""

    deliveries: list[Delivery] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    originals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


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
        batch.refused += [Refused(delivery=delivery, reason=r.reason, body=r.body) for r in decoded.refused]
    return batch

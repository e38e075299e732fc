"""Inbox → inventory: takes deliveries in batches, decodes them, and applies what they tell in one transaction.

A delivery that breaks its batch is found by taking them one at a time for a while, and quarantined with the
reason: nothing stalls the queue, and nothing is lost.

    waiting ──decoded, applied──▶ done ──age──▶ trimmed
       │
       └──cannot be decoded or applied──▶ quarantined ──`indexer inbox retry`──▶ waiting
"""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import structlog
from prometheus_client import Counter, Histogram

from indexer.errors import StoreError
from indexer.ingest.envelope import decode
from indexer.inventory.events import Event
from indexer.service import Round
from indexer.store import apply, inbox
from indexer.store.inbox import Delivery, Refused
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool, describe, transaction

log = structlog.get_logger()

BATCH = 200
REST_SECONDS = 0.5
"""Other processes store deliveries too, and do not ring our alarm."""

EVENTS = Counter("indexer_events_total", "Events taken from the inbox, by what became of them.", ["outcome"])
LAG = Histogram(
    "indexer_ingest_lag_seconds",
    "From a delivery's receipt to its being applied.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600),
)


class IngestWorker:
    """The loop from inbox to inventory."""

    name = "ingest"

    def __init__(self, pool: Pool, lookups: Lookups, *, batch: int = BATCH) -> None:
        self._pool = pool
        self._lookups = lookups
        self._batch = batch
        self._careful = 0

    async def run_once(self) -> Round:
        """Apply one batch; none waiting is a rest."""
        limit = 1 if self._careful else self._batch
        try:
            done = await self._apply(limit)
        except (StoreError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            raise  # nothing is wrong with the deliveries
        except Exception as error:  # noqa: BLE001 - any failure here is some delivery's
            if limit > 1:
                log.warning("batch_failed_taking_one_at_a_time", error=describe(error))
                self._careful = limit
                return Round(items=0, rest_seconds=0)
            done = await self._quarantine_next(describe(error)[:500])
        if self._careful:
            self._careful -= 1
        return Round(items=done, rest_seconds=0 if done else REST_SECONDS)

    async def _apply(self, limit: int) -> int:
        async with transaction(self._pool) as held:
            deliveries = await inbox.take_deliveries(held, limit=limit)
            if not deliveries:
                return 0
            events, refused = _decode(deliveries)
            now = datetime.now(UTC)
            await apply.prepare(self._pool, self._lookups, events)
            told = await apply.tell_all(held, self._lookups, events, now=now)
            await self._finish(held, deliveries, refused, now)
        EVENTS.labels("applied").inc(told.applied)
        EVENTS.labels("repeated").inc(told.repeated)
        for delivery in deliveries:
            LAG.observe((now - delivery.received_at).total_seconds())
        return len(deliveries)

    async def _quarantine_next(self, reason: str) -> int:
        """Set aside the delivery that could not be applied: the oldest one still waiting."""
        async with transaction(self._pool) as held:
            deliveries = await inbox.take_deliveries(held, limit=1)
            refused = [Refused(delivery=d, reason=f"could not be applied: {reason}") for d in deliveries]
            await self._finish(held, deliveries, refused, datetime.now(UTC))
        return len(deliveries)

    async def _finish(
        self, held: Connection, deliveries: list[Delivery], refused: list[Refused], now: datetime
    ) -> None:
        if refused:
            await inbox.quarantine(held, refused=refused, now=now)
            EVENTS.labels("quarantined").inc(len(refused))
            log.warning("events_quarantined", count=len(refused), reason=refused[0].reason)
        await inbox.finish_deliveries(held, ids=[delivery.id for delivery in deliveries], now=now)


def _decode(deliveries: list[Delivery]) -> tuple[list[Event], list[Refused]]:
    events: list[Event] = []
    refused: list[Refused] = []
    for delivery in deliveries:
        decoded = decode(
            delivery.body, content_encoding=delivery.content_encoding, received_at=delivery.received_at
        )
        events += decoded.events
        refused += [Refused(delivery=delivery, reason=r.reason, body=r.body) for r in decoded.refused]
    return events, refused

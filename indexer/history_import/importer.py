"""Puts an older history into the inbox: events that are not on record yet, as deliveries that are marked as imported.

The ingest worker applies them like any other delivery, after the registry's own. An imported event stays known, so the
same history may be imported again. See docs/adr/0036.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from indexer.audit.retention_rules import cut_of
from indexer.history_import.reading import HistoryLine
from indexer.history_import.recognise import Recognised, joined, recognise
from indexer.ingest.envelope import decode_events
from indexer.inventory.changes import AuditAction
from indexer.inventory.events import Event, EventAction
from indexer.store import import_absence, inbox
from indexer.store.identifiers import event_key
from indexer.store.import_absence import LogBounds
from indexer.store.inbox import Delivery
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Pool, connection, transaction

BATCH_EVENTS = 500
BATCH_BYTES = 8 * 1024 * 1024
_NAMESPACE = uuid.UUID("0b1b7c7e-5f0e-4a3e-9a55-2f6f6a0f8f36")

UNDECODABLE = "cannot be imported"
TOO_OLD = "older than INDEXER_AUDIT_KEEP"
UNCERTAIN = "may be on record already: the ids of that time's events are not kept any more"
NO_EVENT = "an entry that no notification made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which events are left out: those before ``cut``, and those that may be on record without their id.

    ``forgotten``: the ids of older events are not kept any more. ``bounds``: when the log began, and what was dropped.
    """

    cut: datetime | None
    forgotten: datetime
    bounds: LogBounds

    def refuse(self, event: Event) -> str | None:
        """Return why an event whose id is not known is left out; None: it is imported."""
        at = event.occurred_at
        if self.cut is not None and at < self.cut:
            return TOO_OLD
        if not self.bounds.began_at <= at < self.forgotten:
            return None
        left = self.bounds.left_until is not None and at < self.bounds.left_until
        return UNCERTAIN if left or event.action is EventAction.PULL else None


@dataclass(slots=True, kw_only=True)
class Imported:
    """What an import did: new ``events`` by action, from ``first`` to ``last``, ``left_out`` by reason."""

    events: Counter[str] = field(default_factory=Counter)
    known: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    first: datetime | None = None
    last: datetime | None = None


@dataclass(slots=True)
class _Batch:
    events: list[tuple[Event, Mapping[str, Any]]] = field(default_factory=list)
    size_bytes: int = 0


class Importer:
    """One import. ``on_left_out`` gets place and reason of each line that is refused. ``operator`` None: a dry run."""

    def __init__(
        self,
        pool: Pool,
        *,
        rules: Rules,
        operator: Operator | None,
        files: list[str],
        on_left_out: Callable[[str, str], None],
    ) -> None:
        self._pool = pool
        self._rules = rules
        self._operator = operator
        self._files = files
        self._on_left_out = on_left_out
        self._recorded = False
        self.done = Imported()

    async def take(self, lines: Iterator[HistoryLine], *, name: str) -> None:
        """Import the lines of a file, batch by batch."""
        batch = _Batch()
        for found in joined(self._recognised(lines, name)):
            if found.entry is not None:
                self.done.left_out[NO_EVENT] += 1
                continue
            self._decode(found, batch)
            if len(batch.events) >= BATCH_EVENTS or batch.size_bytes >= BATCH_BYTES:
                await self._store(batch)
                batch = _Batch()
        if batch.events:
            await self._store(batch)

    def _recognised(self, lines: Iterator[HistoryLine], name: str) -> Iterator[Recognised]:
        for line in lines:
            place = f"{name}:{line.number}"
            if line.refused is not None:
                self._refuse(place, line.refused)
                continue
            try:
                yield recognise(line.value, place=place)
            except (ValueError, RecursionError) as error:
                self._refuse(place, str(error))

    def _decode(self, found: Recognised, batch: _Batch) -> None:
        decoded = decode_events(found.events, received_at=datetime.now(UTC), imported=True)
        for refused in decoded.refused:
            self._refuse(found.place, refused.reason)
        for event, original in zip(decoded.events, decoded.originals, strict=True):
            batch.events.append((event, original))
            batch.size_bytes += len(json.dumps(original))

    def _refuse(self, place: str, reason: str) -> None:
        self.done.left_out[UNDECODABLE] += 1
        self._on_left_out(place, reason)

    async def _store(self, batch: _Batch) -> None:
        async with connection(self._pool) as held:
            known = await import_absence.find_known(held, events=[event for event, _ in batch.events])
        deliveries = []
        for event, original in batch.events:
            key = event_key(event.id)
            if key in known:
                self.done.known += 1
                continue
            known.add(key)
            reason = self._rules.refuse(event)
            if reason is not None:
                self.done.left_out[reason] += 1
                continue
            self._count(event)
            deliveries.append(_delivery(event, original))
        if deliveries and self._operator is not None:
            await self._put(deliveries, self._operator)

    def _count(self, event: Event) -> None:
        done, at = self.done, event.occurred_at
        done.events[event.action] += 1
        done.first = at if done.first is None else min(done.first, at)
        done.last = at if done.last is None else max(done.last, at)

    async def _put(self, deliveries: list[Delivery], operator: Operator) -> None:
        """Put a batch into the inbox; the first one brings the entry ``operator.history_imported``."""
        async with transaction(self._pool) as held:
            await inbox.put_deliveries(held, deliveries=deliveries)
            if not self._recorded:
                await record_action(
                    held,
                    action=AuditAction.OPERATOR_HISTORY_IMPORTED,
                    operator=operator,
                    at=deliveries[0].received_at,
                    detail={"files": self._files},
                )
        self._recorded = True


def _delivery(event: Event, original: Mapping[str, Any]) -> Delivery:
    body = json.dumps({"events": [original]}).encode("utf-8", "replace")
    return Delivery(
        received_at=event.received_at,
        body=body,
        content_type="application/vnd.docker.distribution.events.v1+json",
        can_wait=True,  # after live pushes and deletes
        spool_key=uuid.uuid5(_NAMESPACE, str(event_key(event.id))),
        imported=True,
    )


async def find_rules(
    pool: Pool, *, keep: timedelta | None, event_retention: timedelta, now: datetime
) -> Rules:
    """Return which events an import leaves out, by the settings and by what the log has dropped."""
    async with connection(pool) as held:
        bounds = await import_absence.log_bounds(held)
    return Rules(cut=cut_of(keep, now), forgotten=now - event_retention, bounds=bounds)

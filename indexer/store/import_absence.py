"""What is already on record of an older history that is imported (docs/adr/0036)."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.inventory.events import Event
from indexer.store.identifiers import event_key
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("import_absence")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """When the log began, and up to when months have left it (None: none has)."""

    began_at: datetime
    left_until: datetime | None


async def find_reconciled(connection: Connection, *, repository_ids: Collection[int]) -> dict[int, datetime]:
    """Return when repositories were last compared completely: what is not on record did not exist then."""
    rows = await connection.fetch(SQL["find_reconciled"], sorted(repository_ids))
    return {row["id"]: row["last_reconciled_at"] for row in rows if row["last_reconciled_at"] is not None}


async def find_known(connection: Connection, *, events: Sequence[Event]) -> set[uuid.UUID]:
    """Return the keys of events that were applied before, as far as the database knows or the log has them."""
    rows = await connection.fetch(
        SQL["find_known"],
        [event_key(event.id) for event in events],
        [event.repository for event in events],
        [event.occurred_at for event in events],
    )
    return {row["event_key"] for row in rows}


async def log_bounds(connection: Connection) -> LogBounds:
    """Return from when and up to when there is a log."""
    row = await connection.fetchrow(SQL["log_bounds"])
    return LogBounds(**dict(row))  # type: ignore[arg-type]  # an aggregate always has a row

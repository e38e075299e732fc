"""Which events were applied: a redelivery keeps its id and changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("events")


async def remember_events(
    connection: Connection, *, keys: Iterable[uuid.UUID], at: datetime
) -> set[uuid.UUID]:
    """Remember event keys and return those that are new."""
    return {row["event_key"] for row in await connection.fetch(SQL["remember_events"], sorted(keys), at)}


async def trim_events(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget event keys older than ``before``; return how many."""
    return int((await connection.execute(SQL["trim_events"], before, limit)).rsplit(" ", 1)[1])

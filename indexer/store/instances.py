"""Registry processes: every start of a registry is a new one, and what its predecessor had queued is lost."""

from __future__ import annotations

from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("instances")


async def newest(connection: Connection) -> datetime | None:
    """Return when the newest registry process was first heard of."""
    at: datetime | None = await connection.fetchval(SQL["newest"])
    return at

"""Registry instances: each start of a registry is a new one, and loses what its predecessor had queued."""

from __future__ import annotations

from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("instances")


async def newest(connection: Connection) -> datetime | None:
    """Return when the first event of the newest registry instance was received."""
    at: datetime | None = await connection.fetchval(SQL["newest"])
    return at

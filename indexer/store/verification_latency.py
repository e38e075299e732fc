"""How long it took from an event to the observation that agreed, by minute: for the status, over all processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from indexer.inventory.latency import bucket_of
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("verification_latency")


async def count_verified(connection: Connection, *, seconds: Iterable[float], at: datetime) -> None:
    """Count tags that were verified at ``at``, each so many seconds after its event."""
    counted = Counter(map(bucket_of, seconds))
    if counted:
        minute = at.replace(second=0, microsecond=0)
        await connection.execute(
            SQL["count_verified"], minute, list(counted), [counted[bucket] for bucket in counted]
        )


async def sum_verified(connection: Connection, *, since: datetime) -> dict[int, int]:
    """Return how many tags were verified since a minute, by bucket."""
    return {row["bucket"]: row["tags"] for row in await connection.fetch(SQL["sum_verified"], since)}


async def trim_verified(connection: Connection, *, before: datetime) -> None:
    """Forget the minutes before an instant."""
    await connection.execute(SQL["trim_verified"], before)

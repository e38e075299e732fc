"""How everything is doing: what waits, what was heard from whom, how well the tags are verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from indexer.store.listing.walk import Row
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_status")

INSTANCES = 100
"""Registry processes that are shown at most: each restart makes a new one."""

COUNTED_EXACTLY = 200_000
"""Up to so many tags verification is counted, above it is estimated from a sample of that size."""

RECENTLY = timedelta(minutes=15)
LATELY = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One look at everything, as rows."""

    ingest: Row
    backlog: Mapping[str, Row]
    instances: Sequence[Row]
    last_walk: Row | None
    loops: Sequence[Row]
    totals: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Shares of all tags, 0 to 1; None where there are no tags."""

    verified: float | None
    within_15_minutes: float | None
    within_24_hours: float | None
    broken: float | None
    sampled: bool


async def status(connection: Connection) -> Status:
    """Return how everything is doing."""
    backlog = await connection.fetch(SQL["backlog"])
    return Status(
        ingest=await connection.fetchrow(SQL["ingest"]),
        backlog={row["kind"]: row for row in backlog},
        instances=await connection.fetch(SQL["instances"], INSTANCES),
        last_walk=await connection.fetchrow(SQL["last_walk"]),
        loops=await connection.fetch(SQL["loops"]),
        totals=await connection.fetchrow(SQL["totals"]),
    )


async def verification(connection: Connection, *, tags: int, now: datetime) -> Verification:
    """Return how well the tags are verified. Reads all tags or a large sample: not for every call."""
    since = (now - RECENTLY, now - LATELY)
    sampled = tags > COUNTED_EXACTLY
    if sampled:
        row: Row = await connection.fetchrow(SQL["verified_sample"], *since, 100 * COUNTED_EXACTLY / tags)
    else:
        row = await connection.fetchrow(SQL["verified"], *since)
    return Verification(
        verified=_share(row["verified"], row["tags"]),
        within_15_minutes=_share(row["recently"], row["tags"]),
        within_24_hours=_share(row["lately"], row["tags"]),
        broken=_share(row["broken"], row["tags"]),
        sampled=sampled,
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None

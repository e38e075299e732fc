"""The parts of the log: closes one and opens the next, rebuilds the indexes of a closed one, and drops one.

Closing and dropping need an exclusive lock on the log for as long as they last. They give up soon if a reader keeps
them waiting, since everyone who comes after them would wait as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("parts")

LOCK_TIMEOUT = "2s"
REINDEX_TIMEOUT_SECONDS = 3600.0
"""An index of five million entries takes seconds, and then waits for every older transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """A part; ``last_position`` None: it is open."""

    first_position: int
    last_position: int | None
    opened_at: datetime
    closed_at: datetime | None
    dropped_at: datetime | None
    file: str | None


async def list_parts(connection: Connection) -> list[PartRow]:
    """Return all parts by position, including those that left the log."""
    return [PartRow(**dict(row)) for row in await connection.fetch(SQL["list_parts"])]


async def first_position(connection: Connection) -> int:
    """Return the first position that the log still has, or will have."""
    return int(await connection.fetchval(SQL["first_position"]))


async def hold_head(connection: Connection) -> int:
    """Keep the sealer out until the transaction ends; return the newest position. Waits at most ``LOCK_TIMEOUT``."""
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    return int(await connection.fetchval(SQL["hold_head"]))


async def next_part(connection: Connection, *, first: int, last: int, at: datetime) -> None:
    """End the open part, which begins at ``first``, with position ``last``, and open the next one.

    In the caller's transaction, which must hold the lock on the log's head: nothing is sealed meanwhile.
    """
    await _lock(connection)
    table = f"audit_entry_{int(first)}"
    end = int(last) + 1
    # Attaching a part reads all of it to check its bounds. A constraint would avoid that, but reads all of it when it
    # is added. So it is read once either way.
    await connection.execute(f"ALTER TABLE audit_entry DETACH PARTITION {table}")
    await connection.execute(
        f"ALTER TABLE audit_entry ATTACH PARTITION {table} FOR VALUES FROM ({int(first)}) TO ({end})"
    )
    await connection.execute(
        f"CREATE TABLE audit_entry_{end} PARTITION OF audit_entry FOR VALUES FROM ({end}) TO (MAXVALUE)"
    )
    await connection.execute(SQL["close_part"], first, last, at)
    await connection.execute(SQL["open_part"], end, at)


async def set_part_opened(connection: Connection, *, first: int, at: datetime) -> None:
    """Record that an empty part is opened only now."""
    await connection.execute(SQL["set_part_opened"], first, at)


async def part_to_reindex(connection: Connection) -> int | None:
    """Return the first position of a closed part whose indexes were not rebuilt; None: there is none."""
    found: int | None = await connection.fetchval(SQL["part_to_reindex"])
    return found


async def reindex_part(connection: Connection, *, first: int, at: datetime) -> None:
    """Rebuild the indexes of a closed part, one after the other, while it is read; not in a transaction.

    A process that ended meanwhile left an invalid index, which is dropped first.
    """
    rows = await connection.fetch(SQL["indexes_of_part"], f"audit_entry_{int(first)}")
    for row in rows:
        if not row["valid"]:
            await connection.execute(
                f'DROP INDEX CONCURRENTLY "{row["name"]}"', timeout=REINDEX_TIMEOUT_SECONDS
            )
    for row in rows:
        if row["valid"]:
            await connection.execute(
                f'REINDEX INDEX CONCURRENTLY "{row["name"]}"', timeout=REINDEX_TIMEOUT_SECONDS
            )
    await connection.execute(SQL["mark_reindexed"], first, at)


async def drop_part(
    connection: Connection, *, first: int, at: datetime, file: str | None, sha256: bytes | None
) -> bool:
    """Drop a part of the log for good, in the caller's transaction; False if it was dropped already."""
    if await connection.fetchval(SQL["mark_dropped"], first, at, file, sha256) is None:
        return False
    await _lock(connection)
    await connection.execute(f"DROP TABLE audit_entry_{int(first)}")
    return True


async def _lock(connection: Connection) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    await connection.execute("LOCK TABLE audit_entry IN ACCESS EXCLUSIVE MODE")

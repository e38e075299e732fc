"""The parts of the log: closing one and opening the next, packing one that is closed, and taking one out.

Closing and taking out need an exclusive lock on the log for as long as they last, and give up soon where a reader does
not let go: whoever waits behind them would wait as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("parts")

LOCK_TIMEOUT = "2s"
PACK_TIMEOUT_SECONDS = 3600.0
"""An index of five million entries takes seconds, and then waits for every transaction that is older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """A part as it is on record; ``last_position`` None: open."""

    first_position: int
    last_position: int | None
    opened_at: datetime
    closed_at: datetime | None
    dropped_at: datetime | None
    file: str | None


async def list_parts(connection: Connection) -> list[PartRow]:
    """Return all parts by position, those that left the log included."""
    return [PartRow(**dict(row)) for row in await connection.fetch(SQL["list_parts"])]


async def first_position(connection: Connection) -> int:
    """Return the first position that the log still holds, or would hold."""
    return int(await connection.fetchval(SQL["first_position"]))


async def hold_head(connection: Connection) -> int:
    """Keep the sealer out until the transaction ends; return the newest position. Waits for a while at most."""
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    return int(await connection.fetchval(SQL["hold_head"]))


async def next_part(connection: Connection, *, first: int, last: int, at: datetime) -> None:
    """End the open part, which begins at ``first``, with position ``last``, and open the next one.

    In the caller's transaction, which must hold the lock on the log's head: nothing is sealed meanwhile.
    """
    await _lock(connection)
    table = f"audit_entry_{int(first)}"
    end = int(last) + 1
    # A part that is attached is read through to prove its bounds, unless a constraint already does; and
    # the constraint is checked by the same reading. So it is read once.
    await connection.execute(f"ALTER TABLE audit_entry DETACH PARTITION {table}")
    await connection.execute(
        f"ALTER TABLE audit_entry ATTACH PARTITION {table} FOR VALUES FROM ({int(first)}) TO ({end})"
    )
    await connection.execute(
        f"CREATE TABLE audit_entry_{end} PARTITION OF audit_entry FOR VALUES FROM ({end}) TO (MAXVALUE)"
    )
    await connection.execute(SQL["close_part"], first, last, at)
    await connection.execute(SQL["open_part"], end, at)


async def relabel_part(connection: Connection, *, first: int, at: datetime) -> None:
    """Say that an empty part is opened only now."""
    await connection.execute(SQL["relabel_part"], first, at)


async def unpacked_part(connection: Connection) -> int | None:
    """Return the first position of a closed part that was not packed; None: there is none."""
    found: int | None = await connection.fetchval(SQL["unpacked_part"])
    return found


async def pack_part(connection: Connection, *, first: int, at: datetime) -> None:
    """Build the indexes of a closed part anew, one after the other, while it is read; not in a transaction.

    Whoever ended while doing so left an index behind that is not whole: it goes first.
    """
    rows = await connection.fetch(SQL["indexes_of_part"], f"audit_entry_{int(first)}")
    for row in rows:
        if not row["whole"]:
            await connection.execute(f'DROP INDEX CONCURRENTLY "{row["name"]}"', timeout=PACK_TIMEOUT_SECONDS)
    for row in rows:
        if row["whole"]:
            await connection.execute(
                f'REINDEX INDEX CONCURRENTLY "{row["name"]}"', timeout=PACK_TIMEOUT_SECONDS
            )
    await connection.execute(SQL["mark_packed"], first, at)


async def drop_part(
    connection: Connection, *, first: int, at: datetime, file: str | None, sha256: bytes | None
) -> bool:
    """Take a part out of the log for good, in the caller's transaction; False where it is gone already."""
    if await connection.fetchval(SQL["mark_dropped"], first, at, file, sha256) is None:
        return False
    await _lock(connection)
    await connection.execute(f"DROP TABLE audit_entry_{int(first)}")
    return True


async def _lock(connection: Connection) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    await connection.execute("LOCK TABLE audit_entry IN ACCESS EXCLUSIVE MODE")

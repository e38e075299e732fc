"""Space of tables that hold what waits: large during a burst, empty after it.

A vacuum gives back their heaps, but no page of an index. Both are gone when the empty table is truncated.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from indexer.common.errors import StoreBusy
from indexer.store.pool import Connection, translated
from indexer.store.queries import load

SQL = load("space")

WORTH_BYTES: Final = 256 * 1024


async def give_back_space(connection: Connection) -> list[str]:
    """Truncate what is empty and not in use, each in a transaction of its own; return the names of the tables."""
    emptied = []
    for row in await connection.fetch(SQL["worth_emptying"], WORTH_BYTES):
        with suppress(StoreBusy):  # in use: another time
            async with translated():
                await connection.execute(SQL[f"empty_{row['name']}"])
            emptied.append(row["name"])
    return emptied

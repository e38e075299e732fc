"""The Merkle tree over the log as it is stored: tiles of hashes, by level and index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("tiles")

Key = tuple[int, int]
"""Level and index."""


async def find_tiles(connection: Connection, *, keys: Iterable[Key]) -> dict[Key, bytes]:
    """Return the tiles that are on record."""
    wanted = sorted(keys)
    if not wanted:
        return {}
    rows = await connection.fetch(SQL["find_tiles"], [key[0] for key in wanted], [key[1] for key in wanted])
    return {(row["level"], row["index"]): row["hashes"] for row in rows}


async def put_tiles(connection: Connection, *, tiles: Mapping[Key, bytes]) -> None:
    """Write tiles, new or grown."""
    await connection.execute(
        SQL["put_tiles"], [key[0] for key in tiles], [key[1] for key in tiles], list(tiles.values())
    )

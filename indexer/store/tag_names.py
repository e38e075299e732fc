"""The names of a repository's tags and nothing else: a scan of the primary key."""

from __future__ import annotations

from collections.abc import Sequence

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("tag_names")


async def repository_number(connection: Connection, *, name: str) -> int | None:
    """Return the id of a repository."""
    number: int | None = await connection.fetchval(SQL["repository_number"], name)
    return number


async def tag_names(connection: Connection, *, repository_id: int, after: str, limit: int) -> Sequence[str]:
    """Return the names of live tags after a name ("": from the first), by byte."""
    rows = await connection.fetch(SQL["tag_names"], repository_id, after, limit)
    return [row["name"] for row in rows]

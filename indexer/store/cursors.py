"""The secret that seals the cursors of lists. It is in the database, so that every process reads every cursor."""

from __future__ import annotations

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("cursors")


async def cursor_secret(connection: Connection) -> bytes:
    """Return it: 64 bytes."""
    secret: bytes = await connection.fetchval(SQL["cursor_secret"])
    return secret

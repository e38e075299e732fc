"""What one process at a time may do, of all that share the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum, unique

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("advisory_locks")


@unique
class LockKey(IntEnum):
    """Keys of the advisory locks that a connection holds; of one number (those of walks have two)."""

    ACCOUNTS = 0x6C6F7373  # "loss"
    RETENTION = 0x6B656570  # "keep"
    PACKING = 0x7061636B  # "pack"
    PUSHING = 0x70757368  # "push"


@asynccontextmanager
async def alone(connection: Connection, what: LockKey) -> AsyncIterator[bool]:
    """Be the only one who does it, within; False where another is. The end of the connection ends it too."""
    if not await connection.fetchval(SQL["try_alone"], what):
        yield False
        return
    try:
        yield True
    finally:
        await connection.execute(SQL["leave"], what)

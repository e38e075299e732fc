"""What only one of all processes that share the database may do at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum, unique

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("advisory_locks")


@unique
class LockKey(IntEnum):
    """Keys of advisory locks that a connection holds: one number each (those of reconcile runs have two)."""

    ACCOUNTS = 0x6C6F7373  # "loss"
    RETENTION = 0x6B656570  # "keep"
    REINDEXING = 0x7061636B  # "pack"
    PUSHING = 0x70757368  # "push"
    PLANNING = 0x706C6E67  # "plng"


@asynccontextmanager
async def alone(connection: Connection, what: LockKey) -> AsyncIterator[bool]:
    """Hold a lock; yields False if another connection holds it. The end of the connection releases it, too."""
    if not await connection.fetchval(SQL["try_alone"], what):
        yield False
        return
    try:
        yield True
    finally:
        await connection.execute(SQL["leave"], what)

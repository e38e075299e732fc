"""What the log was signed to be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("checkpoints")

SIGNING_LOCK = 0x5EA1_0C4B
"""Of the advisory lock; any number that no other lock has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A checkpoint: how many entries, when and by whose key, and the signed note."""

    size: int
    signed_at: datetime
    verifier: str
    note: str


async def lock_signing(connection: Connection) -> bool:
    """Become the only one who signs until the transaction ends; False where another is."""
    return bool(await connection.fetchval(SQL["lock_signing"], SIGNING_LOCK))


async def newest_checkpoint(connection: Connection) -> Signed | None:
    """Return the checkpoint that was signed last."""
    row = await connection.fetchrow(SQL["newest_checkpoint"])
    return None if row is None else Signed(**dict(row))


async def checkpoint_of(connection: Connection, *, size: int) -> Signed | None:
    """Return the newest checkpoint of so many entries."""
    row = await connection.fetchrow(SQL["checkpoint_of"], size)
    return None if row is None else Signed(**dict(row))


async def add_checkpoint(connection: Connection, *, signed: Signed) -> None:
    """Add a checkpoint."""
    await connection.execute(
        SQL["add_checkpoint"], signed.size, signed.signed_at, signed.verifier, signed.note
    )

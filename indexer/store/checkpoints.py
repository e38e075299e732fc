"""Signed checkpoints of the log, and those that were pushed into the registry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("checkpoints")

SIGNING_LOCK = 0x5EA1_0C4B
"""Key of the advisory lock: any number that no other lock has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A checkpoint: of how many entries, signed when and by which key, and the signed note."""

    size: int
    signed_at: datetime
    verifier: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The checkpoint in a repository of the registry: of how many entries, and its manifest's digest.

    ``observed_at``: when the registry last served it.
    """

    repository: RepositoryName
    size: int
    digest: Digest
    pushed_at: datetime
    observed_at: datetime


CONFLICT_REMEMBERED = timedelta(hours=1)
"""A conflict that was not found again for so long is no longer shown: its server may be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A place with a checkpoint that this log does not continue; since when, and what in a sentence."""

    place: str
    found_at: datetime
    what: str


async def lock_signing(connection: Connection) -> bool:
    """Become the only one that signs until the transaction ends; False if another process is."""
    return bool(await connection.fetchval(SQL["lock_signing"], SIGNING_LOCK))


async def newest_checkpoint(connection: Connection) -> Signed | None:
    """Return the checkpoint that was signed last."""
    row = await connection.fetchrow(SQL["newest_checkpoint"])
    return None if row is None else Signed(**dict(row))


async def checkpoint_of(connection: Connection, *, size: int) -> Signed | None:
    """Return the newest checkpoint of ``size`` entries."""
    row = await connection.fetchrow(SQL["checkpoint_of"], size)
    return None if row is None else Signed(**dict(row))


async def add_checkpoint(connection: Connection, *, signed: Signed) -> None:
    """Add a checkpoint."""
    await connection.execute(
        SQL["add_checkpoint"], signed.size, signed.signed_at, signed.verifier, signed.note
    )


async def last_push(connection: Connection, *, repository: RepositoryName) -> Pushed | None:
    """Return the checkpoint that was last pushed to a repository."""
    row = await connection.fetchrow(SQL["last_push"], repository)
    return None if row is None else Pushed(**dict(row))


async def newest_push(connection: Connection) -> Pushed | None:
    """Return the checkpoint that was last pushed, to any repository."""
    row = await connection.fetchrow(SQL["newest_push"])
    return None if row is None else Pushed(**dict(row))


async def record_push(
    connection: Connection, *, repository: RepositoryName, size: int, digest: Digest, at: datetime
) -> None:
    """Record that a checkpoint was pushed to a repository."""
    await connection.execute(SQL["record_push"], repository, size, digest, at)


async def record_push_observed(connection: Connection, *, repository: RepositoryName, at: datetime) -> None:
    """Record that the registry served the pushed checkpoint."""
    await connection.execute(SQL["record_push_observed"], repository, at)


async def has_other_entries(
    connection: Connection, *, after: int, until: int, repository: RepositoryName
) -> bool:
    """Tell whether the log has entries in (after, until] that are not about ``repository``."""
    return bool(await connection.fetchval(SQL["has_other_entries"], after, until, repository))


async def put_conflict(connection: Connection, *, place: str, what: str, at: datetime) -> None:
    """Record a place with a checkpoint that this log does not continue."""
    await connection.execute(SQL["put_conflict"], place, what, at)


async def forget_conflict(connection: Connection, *, place: str) -> None:
    """Record that the checkpoint at a place is of this log."""
    await connection.execute(SQL["forget_conflict"], place)


async def list_conflicts(connection: Connection) -> list[Conflict]:
    """Return the places with checkpoints that this log does not continue, at most 20."""
    rows = await connection.fetch(SQL["list_conflicts"], CONFLICT_REMEMBERED)
    return [Conflict(**dict(row)) for row in rows]

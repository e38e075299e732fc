"""What the log was signed to be, and what of that was pushed into the registry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What stands in a repository of the registry: the checkpoint of so many entries, and its manifest's digest.

    When it was pushed, and when it was last seen there.
    """

    repository: RepositoryName
    size: int
    digest: Digest
    pushed_at: datetime
    observed_at: datetime


CONFLICT_REMEMBERED = timedelta(hours=1)
"""A place that nobody finds so any more, since its server is gone, is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A place where a checkpoint stands that this log did not grow out of; since when, and in words."""

    place: str
    found_at: datetime
    what: str


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


async def last_push(connection: Connection, *, repository: RepositoryName) -> Pushed | None:
    """Return what stood last in a repository."""
    row = await connection.fetchrow(SQL["last_push"], repository)
    return None if row is None else Pushed(**dict(row))


async def newest_push(connection: Connection) -> Pushed | None:
    """Return what was pushed last, whereto."""
    row = await connection.fetchrow(SQL["newest_push"])
    return None if row is None else Pushed(**dict(row))


async def record_push(
    connection: Connection, *, repository: RepositoryName, size: int, digest: Digest, at: datetime
) -> None:
    """Record that a checkpoint stands in a repository since an instant."""
    await connection.execute(SQL["record_push"], repository, size, digest, at)


async def record_push_observed(connection: Connection, *, repository: RepositoryName, at: datetime) -> None:
    """Record that what was pushed was looked at."""
    await connection.execute(SQL["record_push_observed"], repository, at)


async def has_other_entries(
    connection: Connection, *, after: int, until: int, repository: RepositoryName
) -> bool:
    """Tell whether the log has entries behind a position, up to another, that are not about a repository."""
    return bool(await connection.fetchval(SQL["has_other_entries"], after, until, repository))


async def put_conflict(connection: Connection, *, place: str, what: str, at: datetime) -> None:
    """Record that a checkpoint stands somewhere that this log did not grow out of."""
    await connection.execute(SQL["put_conflict"], place, what, at)


async def forget_conflict(connection: Connection, *, place: str) -> None:
    """Record that what stands somewhere is of this log."""
    await connection.execute(SQL["forget_conflict"], place)


async def list_conflicts(connection: Connection) -> list[Conflict]:
    """Return where checkpoints stand that this log did not grow out of, 20 at most."""
    rows = await connection.fetch(SQL["list_conflicts"], CONFLICT_REMEMBERED)
    return [Conflict(**dict(row)) for row in rows]

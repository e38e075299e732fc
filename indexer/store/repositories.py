"""Repositories. The row is also the lock under which everything of a repository changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("repositories")

SORTED_WHOLE = 500
"""A repository with more tags is large: pages of its tags come from an index for each sort key. The tags of a smaller
one are sorted for each page, and are not in half of the indexes."""


@dataclass(slots=True, kw_only=True)
class Counted:
    """What a transaction adds to one repository's counters."""

    tags: int = 0
    manifests: int = 0
    published_at: datetime | None = None
    pulled_at: datetime | None = None
    checked_at: datetime | None = None
    announced_at: datetime | None = None


async def add_repositories(connection: Connection, *, announced: Mapping[RepositoryName, datetime]) -> None:
    """Add the repositories that are new, each with the instant of its first event.

    To be committed before the transaction that locks them: inserting while holding locks could deadlock.
    """
    names = sorted(announced)
    await connection.execute(SQL["add_repositories"], names, [announced[name] for name in names])


async def lock_repositories(
    connection: Connection, *, names: Iterable[RepositoryName]
) -> dict[RepositoryName, int]:
    """Lock repositories until the transaction ends and return their ids, without unknown names."""
    rows = await connection.fetch(SQL["lock_repositories"], sorted(names))
    return {RepositoryName(row["name"]): row["id"] for row in rows}


async def find_ids(connection: Connection, *, names: Iterable[RepositoryName]) -> dict[RepositoryName, int]:
    """Return the ids of repositories without locking them."""
    rows = await connection.fetch(SQL["find_ids"], list(names))
    return {RepositoryName(row["name"]): row["id"] for row in rows}


async def count_repositories(
    connection: Connection, *, counted: Mapping[int, Counted], never: datetime, for_ever: datetime
) -> None:
    """Add to the counters of repositories whose tags are written, and mark those that have become large.

    ``never`` and ``for_ever`` stand for "no instant" in greatest() and least().
    """
    ids = sorted(counted)
    rows = [counted[number] for number in ids]
    await connection.execute(
        SQL["count_repositories"],
        ids,
        [row.tags for row in rows],
        [row.manifests for row in rows],
        [row.published_at or never for row in rows],
        [row.pulled_at or never for row in rows],
        [row.announced_at or for_ever for row in rows],
        SORTED_WHOLE,
        [row.checked_at or never for row in rows],
    )


async def mark_reconciled(connection: Connection, *, name: RepositoryName, at: datetime) -> None:
    """Record that a comparison of the repository, begun at ``at``, was complete."""
    await connection.execute(SQL["mark_reconciled"], name, at)


async def find_miscount(connection: Connection, *, name: RepositoryName) -> tuple[int, Counted] | None:
    """Return the repository's id and what must be added to its counters (negative: they are too high).

    None: they agree with the rows. They differ only where somebody edited rows by hand.
    """
    row = await connection.fetchrow(SQL["find_miscount"], name)
    return None if row is None else (row["id"], Counted(tags=row["tags"], manifests=row["manifests"]))


async def last_reconciled(connection: Connection, *, name: RepositoryName) -> datetime | None:
    """Return when the last complete comparison of the repository began; None: never."""
    at: datetime | None = await connection.fetchval(SQL["last_reconciled"], name)
    return at


async def list_names(connection: Connection, *, after: str, limit: int) -> Sequence[RepositoryName]:
    """Return the names on record after ``after``, sorted."""
    return [RepositoryName(row["name"]) for row in await connection.fetch(SQL["list_names"], after, limit)]


async def measure(connection: Connection, *, repository_id: int, now: datetime) -> None:
    """Recompute the bytes a repository stores."""
    await connection.execute(SQL["measure"], repository_id, now)


def earliest(pairs: Iterable[tuple[RepositoryName, datetime]]) -> dict[RepositoryName, datetime]:
    """Return the earliest instant for each name."""
    first: dict[RepositoryName, datetime] = {}
    for name, at in pairs:
        if name not in first or at < first[name]:
            first[name] = at
    return first

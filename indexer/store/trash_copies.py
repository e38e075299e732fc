"""Copies of manifests that we deleted, in another repository: they keep blobs from the registry's own collection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("trash_copies")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashCopy:
    """A copy in the repository ``trash`` of a manifest of ``repository``."""

    repository: RepositoryName
    trash: RepositoryName
    digest: Digest


async def plan_copies(
    connection: Connection,
    *,
    repository: RepositoryName,
    trash: RepositoryName,
    digests: Iterable[Digest],
    kept_until: datetime,
) -> bool:
    """Put on record that manifests are about to be copied; False: a copy of one of them is being deleted just now."""
    wanted = sorted(digest_to_bytes(each) for each in set(digests))
    rows = await connection.fetch(SQL["plan_copies"], repository, trash, wanted, kept_until)
    return len(rows) == len(wanted)


async def note_put(connection: Connection, *, trash: RepositoryName, digest: Digest, at: datetime) -> None:
    """Record that a copy is there."""
    await connection.execute(SQL["note_put"], trash, digest_to_bytes(digest), at)


async def copies_of(
    connection: Connection, *, repository: RepositoryName, digests: Iterable[Digest]
) -> list[RepositoryName]:
    """Return the repositories that have copies of manifests of a repository."""
    rows = await connection.fetch(SQL["copies_of"], repository, [digest_to_bytes(each) for each in digests])
    return [RepositoryName(row["trash"]) for row in rows]


async def expired_repositories(
    connection: Connection, *, before: datetime, limit: int
) -> list[RepositoryName]:
    """Return repositories with copies that are not kept any longer, the longest expired first."""
    rows = await connection.fetch(SQL["expired_repositories"], before, limit)
    return [RepositoryName(row["repository"]) for row in rows]


async def take_expired(
    connection: Connection,
    *,
    before: datetime,
    limit: int,
    lease_seconds: float,
    repositories: Sequence[RepositoryName] | None,
) -> list[TrashCopy]:
    """Take copies that are not kept any longer, of some repositories (None: all): nothing is copied there meanwhile."""
    rows = await connection.fetch(
        SQL["take_expired"],
        before,
        limit,
        lease_seconds,
        None if repositories is None else list(repositories),
    )
    return [
        TrashCopy(
            repository=RepositoryName(row["repository"]),
            trash=RepositoryName(row["trash"]),
            digest=digest_from_bytes(row["digest"]),
        )
        for row in rows
    ]


async def forget_copy(connection: Connection, *, copy: TrashCopy) -> None:
    """Forget a copy that is not there any more, or not ours to delete."""
    await connection.execute(SQL["forget_copy"], copy.trash, digest_to_bytes(copy.digest))

"""Manifests and blobs: once for the whole registry, and which repository has which manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from indexer.inventory.dummies import DUMMIES
from indexer.inventory.observations import ManifestObservation
from indexer.inventory.records import ManifestKey, ManifestRecord
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load, sparse

SQL = load("manifests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What evidence said of a manifest that is not read yet; '' and 0: nothing."""

    media_type: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """The row's id, and its ``content``: ``announced``, ``read``, ``partly-read`` or ``unreadable``."""

    id: int
    content: str

    @property
    def read(self) -> bool:
        """Whether its content was read, completely or in part."""
        return self.content in ("read", "partly-read")


async def find_manifests(connection: Connection, *, digests: Iterable[Digest]) -> dict[Digest, ManifestRow]:
    """Return the rows of the manifests that are on record."""
    rows = await connection.fetch(SQL["find_manifests"], [digest_to_bytes(digest) for digest in digests])
    return _by_digest(rows)


def _by_digest(rows: Iterable[asyncpg.Record]) -> dict[Digest, ManifestRow]:
    return {
        digest_from_bytes(row["digest"]): ManifestRow(id=row["id"], content=row["content"]) for row in rows
    }


async def find_dummies(connection: Connection) -> frozenset[Digest]:
    """Return GitLab's dummy manifests: those known beforehand, and those recognised since."""
    rows = await connection.fetch(SQL["find_dummies"])
    return DUMMIES | {digest_from_bytes(row["digest"]) for row in rows}


async def add_dummy(connection: Connection, *, digest: Digest, at: datetime) -> None:
    """Record that a manifest was recognised as one of GitLab's dummies."""
    await connection.execute(SQL["add_dummy"], digest_to_bytes(digest), at)


async def add_manifests(
    connection: Connection, *, announced: Mapping[Digest, tuple[int, int]]
) -> dict[Digest, ManifestRow]:
    """Add manifests with their size in bytes and facet id; return the rows of all.

    Rows whose content was not read stay locked until the transaction ends. So whoever stores the content of a manifest
    and whoever points a tag to it see each other's writes.
    """
    found = await find_manifests(connection, digests=announced)
    unread = sorted(digest_to_bytes(d) for d in announced if d not in found or not found[d].read)
    if not unread:
        return found
    by_packed = {digest_to_bytes(digest): values for digest, values in announced.items()}
    written = await connection.fetch(
        SQL["add_manifests"],
        unread,
        [by_packed[packed][0] for packed in unread],
        [by_packed[packed][1] for packed in unread],
    )
    found |= _by_digest(written)
    not_written = set(unread) - {row["digest"] for row in written}
    if not_written:
        # Another transaction may have added or read them meanwhile. They are locked now, so this is final.
        found |= await find_manifests(connection, digests=[digest_from_bytes(p) for p in not_written])
    return found


async def find_repository_manifests(
    connection: Connection, *, keys: Sequence[ManifestKey], repository_ids: Mapping[RepositoryName, int]
) -> dict[ManifestKey, ManifestRecord]:
    """Return the repositories' records of manifests."""
    names = {number: name for name, number in repository_ids.items()}
    rows = await connection.fetch(
        SQL["find_repository_manifests"],
        [repository_ids[repository] for repository, _ in keys],
        [digest_to_bytes(digest) for _, digest in keys],
    )
    records = (
        ManifestRecord(
            repository=names[row["repository_id"]],
            digest=digest_from_bytes(row["digest"]),
            pushed_at=row["pushed_at"],
            as_of=row["as_of"],
            deleted_at=row["deleted_at"],
            pushed_by=row["pushed_by"],
            absent_at=row["absent_at"],
            pushed_again_at=row["pushed_again_at"],
        )
        for row in rows
    )
    return {(record.repository, record.digest): record for record in records}


async def put_repository_manifests(
    connection: Connection,
    *,
    records: Sequence[ManifestRecord],
    repository_ids: Mapping[RepositoryName, int],
    manifest_ids: Mapping[Digest, int],
    actor_ids: Mapping[str, int],
) -> set[tuple[int, int]]:
    """Write the repositories' records of manifests, one per repository and digest; return the ids of those written.

    A record with older evidence than the one there is not written.
    """
    rows = await connection.fetch(
        SQL["put_repository_manifests"],
        [repository_ids[record.repository] for record in records],
        [manifest_ids[record.digest] for record in records],
        [record.pushed_at for record in records],
        [record.as_of for record in records],
        sparse([record.deleted_at for record in records]),
        sparse([actor_ids[record.pushed_by] if record.pushed_by else None for record in records]),
        sparse([record.absent_at for record in records]),
        sparse([record.pushed_again_at for record in records]),
    )
    return {(row["repository_id"], row["manifest_id"]) for row in rows}


async def find_blobs(connection: Connection, *, digests: Iterable[Digest]) -> dict[Digest, int]:
    """Return the ids of the blobs that are on record."""
    rows = await connection.fetch(SQL["find_blobs"], [digest_to_bytes(digest) for digest in digests])
    return {digest_from_bytes(row["digest"]): row["id"] for row in rows}


async def list_only_blobs(connection: Connection, *, digests: Iterable[Digest]) -> set[Digest]:
    """Return which of the digests are known as blobs, and as nothing else."""
    rows = await connection.fetch(SQL["list_only_blobs"], [digest_to_bytes(digest) for digest in digests])
    return {digest_from_bytes(row["digest"]) for row in rows}


async def add_blobs(connection: Connection, *, sizes: Mapping[Digest, int]) -> dict[Digest, int]:
    """Add blobs with their size in bytes as an event said it (0: none did); return the ids of all."""
    packed = sorted((digest_to_bytes(digest), size) for digest, size in sizes.items())
    await connection.execute(SQL["add_blobs"], [digest for digest, _ in packed], [size for _, size in packed])
    return await find_blobs(connection, digests=sizes)


async def list_unconfirmed(
    connection: Connection,
    *,
    repository: RepositoryName,
    unconfirmed_since: datetime,
    after: bytes,
    limit: int,
) -> list[ManifestRecord]:
    """Return manifests that no evidence has confirmed since an instant, in the order of packed digests.

    Those on record in the repository, and those on record as deleted that are children of an index on record.
    """
    rows = await connection.fetch(SQL["list_unconfirmed"], repository, unconfirmed_since, after, limit)
    return [
        ManifestRecord(
            repository=repository,
            digest=digest_from_bytes(row["digest"]),
            pushed_at=row["pushed_at"],
            as_of=row["as_of"],
            deleted_at=row["deleted_at"],
            pushed_by=row["pushed_by"],
            absent_at=row["absent_at"],
            pushed_again_at=row["pushed_again_at"],
        )
        for row in rows
    ]


async def confirm_repository_manifests(
    connection: Connection,
    *,
    observations: Sequence[ManifestObservation],
    repository_ids: Mapping[RepositoryName, int],
) -> None:
    """Record that observations agreed with records, dated by our clock. The repositories must be locked."""
    if observations:
        await connection.execute(
            SQL["confirm_repository_manifests"],
            [repository_ids[each.repository] for each in observations],
            [digest_to_bytes(each.digest) for each in observations],
            [each.observed_at for each in observations],
        )


async def describe_repository(connection: Connection, *, repository: RepositoryName) -> None:
    """Copy what manifests say to the repository's tags, where it differs."""
    await connection.execute(SQL["describe_repository"], repository)


async def count_repository_manifests(connection: Connection) -> int:
    """Return how many manifests the repositories have; one in two repositories counts twice."""
    return int(await connection.fetchval(SQL["count_repository_manifests"]))

"""What is on record of digests that the registry's own collection would delete, and of collections that ran.

A collection leaves no word of itself. But nothing else removes a blob from the storage: where a blob that nothing
referred to was there in one reading and is gone in the next, one ran in between. Where maintenance lay in that time, it
ran then: that is what `reconciler maintenance begin` is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, Final

from indexer.common.rfc3339 import format_time
from indexer.inventory.changes import AuditAction
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("collections")

MOST_AWAITED: Final = 1000
"""So many unreferenced blobs are remembered from one reading to the next."""
KEPT: Final = 100
UPLOADS: Final = (
    AuditAction.TAG_CREATED,
    AuditAction.TAG_MOVED,
    AuditAction.TAG_REPUSHED,
    AuditAction.MANIFEST_PUSHED,
    AuditAction.BLOB_PUSHED,
    AuditAction.BLOB_MOUNTED,
    AuditAction.CLEANUP_RESTORED,
    AuditAction.CLEANUP_PUT_BACK,
)
DELETIONS: Final = (
    AuditAction.TAG_DELETED,
    AuditAction.MANIFEST_DELETED,
    AuditAction.BLOB_DELETED,
    AuditAction.CONTENT_DELETED,
    AuditAction.CLEANUP_TAG_DELETED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A digest that a tag needs: ``manifest`` is what the tag points to."""

    digest: Digest
    repository: str
    tag: str
    manifest: Digest


async def sizes_of(connection: Connection, *, digests: Sequence[Digest]) -> dict[Digest, int]:
    """Return the sizes in bytes of those digests whose size is known."""
    rows = await connection.fetch(SQL["sizes_of"], [digest_to_bytes(each) for each in digests])
    return {digest_from_bytes(row["digest"]): row["size_bytes"] for row in rows}


async def parents_of(
    connection: Connection, *, manifests: Sequence[tuple[str, Digest]]
) -> list[tuple[str, Digest, Digest]]:
    """Return repository, child and index for each of these manifests that is a child of an index on record."""
    rows = await connection.fetch(SQL["parents_of"], *_columns(manifests))
    return [
        (row["repository"], digest_from_bytes(row["digest"]), digest_from_bytes(row["parent"]))
        for row in rows
    ]


async def subjects_of(
    connection: Connection, *, manifests: Sequence[tuple[str, Digest]]
) -> list[tuple[str, Digest, Digest]]:
    """Return repository, referrer and subject for each of these manifests whose subject is on record beside it."""
    rows = await connection.fetch(SQL["subjects_of"], *_columns(manifests))
    return [
        (row["repository"], digest_from_bytes(row["digest"]), digest_from_bytes(row["subject"]))
        for row in rows
    ]


async def tags_that_need(connection: Connection, *, digests: Sequence[Digest]) -> list[Needed]:
    """Return which tags need which of these digests."""
    rows = await connection.fetch(SQL["tags_that_need"], [digest_to_bytes(each) for each in digests])
    return [
        Needed(
            digest=digest_from_bytes(row["digest"]),
            repository=row["repository"],
            tag=row["tag"],
            manifest=digest_from_bytes(row["manifest"]),
        )
        for row in rows
    ]


def _columns(manifests: Sequence[tuple[str, Digest]]) -> tuple[list[str], list[bytes]]:
    return [name for name, _ in manifests], [digest_to_bytes(digest) for _, digest in manifests]


# --- collections that ran ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The newest reading of the storage: when it was begun, and blobs that nothing referred to then."""

    begun_at: datetime
    unreferenced: frozenset[Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """A collection that ran after ``not_before`` and before ``not_after``.

    - ``gone``: how many of the blobs that were remembered it deleted.
    - ``in_maintenance``: maintenance lay in that time, and only that is looked at for what follows.
    - ``uploads``, ``deletions``: what the registry announced of that time, in events; ``first_at``, ``last_at`` of
      these; ``examples``: where.
    """

    found_at: datetime
    not_before: datetime
    not_after: datetime
    gone: int
    in_maintenance: bool
    uploads: int
    deletions: int
    first_at: datetime | None
    last_at: datetime | None
    examples: Sequence[str]

    @property
    def overlapped(self) -> bool:
        """Whether anything was pushed or deleted meanwhile, as far as its time is known."""
        return self.uploads + self.deletions > 0

    def show(self) -> dict[str, Any]:
        """Return it as the API, results of jobs and the log show it."""
        return {
            "found_at": format_time(self.found_at),
            "not_before": format_time(self.not_before),
            "not_after": format_time(self.not_after),
            "blobs_gone": self.gone,
            "in_maintenance": self.in_maintenance,
            "uploads": self.uploads,
            "deletions": self.deletions,
            "first_at": None if self.first_at is None else format_time(self.first_at),
            "last_at": None if self.last_at is None else format_time(self.last_at),
            "examples": list(self.examples),
        }


async def newest_reading(connection: Connection) -> Reading | None:
    """Return what is remembered of the newest reading; None: the storage was never read."""
    row = await connection.fetchrow(SQL["reading"])
    if row is None:
        return None
    return Reading(
        begun_at=row["begun_at"], unreferenced=frozenset(digest_from_bytes(each) for each in row["digests"])
    )


async def record_reading(
    connection: Connection,
    *,
    before: Reading | None,
    begun_at: datetime,
    ended_at: datetime,
    gone: int,
    unreferenced: Sequence[Digest],
    besides: str,
) -> Inferred | None:
    """Remember a reading of the storage, and return the collection that it shows, in the caller's transaction.

    ``before``: the reading whose unreferenced blobs were looked for; ``gone``: how many were not there any more.
    ``besides``: the repository of our own canary, whose pushes do not count. Another reading that ended meanwhile has
    been compared already: then nothing is concluded.
    """
    locked: datetime | None = await connection.fetchval(SQL["lock_reading"])
    found = None
    if before is not None and locked == before.begun_at and gone:
        found = await _infer(connection, before, ended_at, gone, besides)
        await connection.execute(SQL["add_collection"], *astuple(found))
        await connection.execute(SQL["trim_collections"], KEPT)
        if found.overlapped:
            await connection.execute(SQL["stage_overlap"], ended_at, found.show())
    if locked is None or locked < begun_at:
        await connection.execute(SQL["save_reading"], begun_at)
        await connection.execute(SQL["drop_unreferenced"])
        packed = [digest_to_bytes(each) for each in unreferenced[:MOST_AWAITED]]
        await connection.execute(SQL["save_unreferenced"], packed)
    return found


async def _infer(
    connection: Connection, before: Reading, ended_at: datetime, gone: int, besides: str
) -> Inferred:
    within = await connection.fetch(SQL["maintenance_within"], before.begun_at, ended_at)
    spans = [(row["since"], row["until"]) for row in within] or [(before.begun_at, ended_at)]
    changes = await connection.fetchrow(
        SQL["changes_within"],
        [since for since, _ in spans],
        [until for _, until in spans],
        besides,
        [each.value for each in UPLOADS],
        [each.value for each in DELETIONS],
    )
    assert changes is not None  # noqa: S101 - a row of sums; tells mypy
    return Inferred(
        found_at=ended_at,
        not_before=before.begun_at,
        not_after=ended_at,
        gone=gone,
        in_maintenance=bool(within),
        uploads=changes["uploads"],
        deletions=changes["deletions"],
        first_at=changes["first_at"],
        last_at=changes["last_at"],
        examples=changes["examples"],
    )


async def newest_collections(connection: Connection, *, limit: int) -> list[Inferred]:
    """Return collections that were inferred, newest first."""
    return [Inferred(**dict(row)) for row in await connection.fetch(SQL["newest_collections"], limit)]

"""The records of tags, live or tombstone, that evidence is compared with; and counts of pulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.inventory.records import BrokenReason, Evidence, ManifestKey, TagKey, TagRecord, TimeSource
from indexer.inventory.semver import semver_key
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.instants import known, or_never
from indexer.store.pool import Connection
from indexer.store.queries import load, sparse

SQL = load("tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTag:
    """A live tag, as a reconcile compares it. ``has_manifest``: its manifest is on record in the repository."""

    name: TagName
    digest: Digest | None
    revision: int
    read_at: datetime | None
    verified_at: datetime | None
    last_event_at: datetime | None
    last_observed_at: datetime | None
    broken: bool
    has_manifest: bool


async def find_tags(
    connection: Connection, *, keys: Sequence[TagKey], repository_ids: Mapping[RepositoryName, int]
) -> dict[TagKey, TagRecord]:
    """Return what is on record of the tags, live or deleted."""
    names = {number: name for name, number in repository_ids.items()}
    rows = await connection.fetch(
        SQL["find_tags"],
        [repository_ids[repository] for repository, _ in keys],
        [tag for _, tag in keys],
    )
    records = (
        TagRecord(
            repository=names[row["repository_id"]],
            name=TagName(row["name"]),
            digest=digest_from_bytes(row["digest"]) if row["digest"] is not None else None,
            revision=row["revision"],
            last_event_at=known(row["last_event_at"]),
            last_observed_at=known(row["last_observed_at"]),
            evidence=Evidence(row["evidence"]),
            published_at=row["published_at"],
            published_source=TimeSource(row["published_source"] or TimeSource.FIRST_SEEN),
            first_seen_at=row["first_seen_at"],
            pushed_by=row["pushed_by"],
            verified_at=row["verified_at"],
            read_at=row["read_at"],
            broken_reason=BrokenReason(row["broken_reason"]) if row["broken_reason"] is not None else None,
            alive_since=row["alive_since"],
            deleted_by_dummy=bool(row["by_dummy"]),
        )
        for row in rows
    )
    return {record.key: record for record in records}


async def put_tags(
    connection: Connection,
    *,
    records: Sequence[TagRecord],
    repository_ids: Mapping[RepositoryName, int],
    manifest_ids: Mapping[Digest, int],
    actor_ids: Mapping[str, int],
    unknown_facet_id: int,
) -> None:
    """Write live tags."""
    await connection.execute(
        SQL["put_tags"],
        [repository_ids[record.repository] for record in records],
        [record.name for record in records],
        [manifest_ids[record.digest] if record.digest else None for record in records],
        [record.published_at for record in records],
        [record.first_seen_at for record in records],
        [or_never(record.last_event_at) for record in records],
        [or_never(record.last_observed_at) for record in records],
        sparse([record.verified_at for record in records]),
        sparse([record.read_at for record in records]),
        sparse([actor_ids[record.pushed_by] if record.pushed_by else None for record in records]),
        [record.revision for record in records],
        [record.published_source for record in records],
        [record.evidence for record in records],
        sparse([record.broken_reason for record in records]),
        [semver_key(record.name) for record in records],
        unknown_facet_id,
        sparse([record.alive_since for record in records]),
    )


async def drop_tags(
    connection: Connection, *, keys: Sequence[TagKey], repository_ids: Mapping[RepositoryName, int]
) -> None:
    """Remove the live rows of tags."""
    await connection.execute(
        SQL["drop_tags"], [repository_ids[repository] for repository, _ in keys], [tag for _, tag in keys]
    )


async def put_tombstones(
    connection: Connection, *, records: Sequence[TagRecord], repository_ids: Mapping[RepositoryName, int]
) -> None:
    """Write tombstones, with the evidence of the deletions."""
    await connection.execute(
        SQL["put_tombstones"],
        [repository_ids[record.repository] for record in records],
        [record.name for record in records],
        [record.published_at for record in records],
        [or_never(record.last_event_at) for record in records],
        [or_never(record.last_observed_at) for record in records],
        [record.revision for record in records],
        [record.evidence for record in records],
        [record.verified_at is not None for record in records],
        [record.deleted_by_dummy for record in records],
    )


async def drop_tombstones(
    connection: Connection, *, keys: Sequence[TagKey], repository_ids: Mapping[RepositoryName, int]
) -> None:
    """Remove the tombstones of tags that live again."""
    await connection.execute(
        SQL["drop_tombstones"],
        [repository_ids[repository] for repository, _ in keys],
        [tag for _, tag in keys],
    )


async def find_pointing(
    connection: Connection, *, keys: Sequence[ManifestKey], repository_ids: Mapping[RepositoryName, int]
) -> set[ManifestKey]:
    """Return those of the manifests that a live, not broken tag points to."""
    names = {number: name for name, number in repository_ids.items()}
    rows = await connection.fetch(
        SQL["find_pointing"],
        [repository_ids[repository] for repository, _ in keys],
        [digest_to_bytes(digest) for _, digest in keys],
    )
    return {(names[row["repository_id"]], digest_from_bytes(row["digest"])) for row in rows}


async def tags_of_digests(
    connection: Connection, *, keys: Sequence[ManifestKey], repository_ids: Mapping[RepositoryName, int]
) -> list[tuple[int, str]]:
    """Return repository id and name of the live tags that point to the digests."""
    rows = await connection.fetch(
        SQL["tags_of_digests"],
        [repository_ids[repository] for repository, _ in keys],
        [digest_to_bytes(digest) for _, digest in keys],
    )
    return [(row["repository_id"], row["name"]) for row in rows]


async def list_recorded(
    connection: Connection, *, repository: RepositoryName, after: str, limit: int
) -> list[RecordedTag]:
    """Return the live tags of a repository after ``after``, by name."""
    rows = await connection.fetch(SQL["list_recorded"], repository, after, limit)
    return [
        RecordedTag(
            name=TagName(row["name"]),
            digest=digest_from_bytes(row["digest"]) if row["digest"] is not None else None,
            revision=row["revision"],
            read_at=row["read_at"],
            verified_at=row["verified_at"],
            last_event_at=known(row["last_event_at"]),
            last_observed_at=known(row["last_observed_at"]),
            broken=row["broken"],
            has_manifest=row["has_manifest"],
        )
        for row in rows
    ]


async def list_readable_tags(connection: Connection, *, chance: float, limit: int) -> list[TagKey]:
    """Return a few tags on record as readable. Which ones depends on ``chance`` (0 to 1). Empty: there are none."""
    rows = await connection.fetch(SQL["list_readable_tags"], chance, limit)
    if not rows:
        rows = await connection.fetch(SQL["list_readable_tags"], 0.0, limit)
    return [(RepositoryName(row["repository"]), TagName(row["tag"])) for row in rows]


async def count_live(connection: Connection) -> int:
    """Return how many live tags the inventory has."""
    return int(await connection.fetchval(SQL["count_live"]))


async def add_pulls(connection: Connection, *, pulls: Mapping[tuple[int, str], tuple[datetime, int]]) -> None:
    """Count pulls of tags: by repository id and tag, the latest and how many."""
    keys = sorted(pulls)
    await connection.execute(
        SQL["add_pulls"],
        [repository_id for repository_id, _ in keys],
        [tag for _, tag in keys],
        [pulls[key][0] for key in keys],
        [pulls[key][1] for key in keys],
    )


async def add_checks(connection: Connection, *, checks: Mapping[tuple[int, str], datetime]) -> None:
    """Record when tags were last checked, by repository id and tag."""
    keys = sorted(checks)
    await connection.execute(
        SQL["add_checks"],
        [repository_id for repository_id, _ in keys],
        [tag for _, tag in keys],
        [checks[key] for key in keys],
    )


async def add_manifest_pulls(
    connection: Connection,
    *,
    pulls: Mapping[tuple[int, bytes], tuple[datetime, int]],
    checks: Mapping[tuple[int, bytes], datetime],
) -> None:
    """Count pulls of manifests: by repository id and packed digest, the latest and how many; and the latest check."""
    keys = sorted(pulls.keys() | checks.keys())
    none: tuple[datetime | None, int] = (None, 0)
    await connection.execute(
        SQL["add_manifest_pulls"],
        [repository_id for repository_id, _ in keys],
        [digest for _, digest in keys],
        [pulls.get(key, none)[0] for key in keys],
        [pulls.get(key, none)[1] for key in keys],
        [checks.get(key) for key in keys],
    )


async def trim_tombstones(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget tombstones of deletions before an instant; return how many."""
    return int((await connection.execute(SQL["trim_tombstones"], before, limit)).rsplit(" ", 1)[1])

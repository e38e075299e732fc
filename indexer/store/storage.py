"""The registry's storage, as it was read last: what is damaged, and what the bytes belong to."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from itertools import islice
from typing import Any, Final

from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.store.pool import Connection
from indexer.store.queries import load
from indexer.store.text import storable

SQL = load("storage")

BATCH: Final = 1000
ROOTS: Final = 5000
MOST_TAGS: Final = 100
"""Of a finding so many tags are named; the number of all is beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFinding:
    """A finding. ``repository`` "": a blob that no repository needs. ``tags``: the first that cannot be pulled."""

    code: str
    is_damaged: bool
    repairable: bool
    repository: str
    path: str
    tag: str | None
    digest: str | None
    tags: Sequence[str]
    tags_count: int
    text: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFinding(StoredFinding):
    """A finding on record: when a check saw it first, and last."""

    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheck:
    """A check that came to its end. ``proven_by``: how the storage was known to be the registry's."""

    checked_at: datetime
    begun_at: datetime
    job_id: uuid.UUID | None
    content: bool
    proven_by: str
    proof: str
    repositories: int
    blobs: int
    compared: int
    damaged: int
    harmless: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the bytes of a storage belonged to at an instant. The five reasons add up to ``referenced_bytes``."""

    taken_at: datetime
    stored_bytes: int
    stored_blobs: int
    referenced_bytes: int
    referenced_blobs: int
    tagged_bytes: int
    children_bytes: int
    referrers_bytes: int
    old_bytes: int
    untagged_bytes: int
    upload_bytes: int
    link_bytes: int
    unknown_bytes: int
    repositories: int
    tags: int
    manifests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredShare:
    """Bytes of a repository, or of all below a prefix of names."""

    name: str
    referenced_bytes: int
    exclusive_bytes: int
    attributed_bytes: int
    tags: int
    manifests: int
    repositories: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoot:
    """Bytes of a digest that tags of a repository point to. ``exclusive_bytes``: of all its tags together."""

    repository: str
    digest: Digest
    referenced_bytes: int
    exclusive_bytes: int
    attributed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootBytes:
    """The same of one digest on record, and when the storage was read."""

    referenced_bytes: int
    exclusive_bytes: int
    attributed_bytes: int
    as_of: datetime


async def record_check(
    connection: Connection, *, check: StoredCheck, findings: Sequence[StoredFinding]
) -> int:
    """Store a check and its findings in place of the earlier ones, in the caller's transaction.

    What is damaged and was not before becomes an entry of the log each. Returns the number of these.
    """
    new = 0
    for start in range(0, len(findings), BATCH):
        rows = [_row(each) for each in findings[start : start + BATCH]]
        ids = [row["id"] for row in await connection.fetch(SQL["save_findings"], rows, check.checked_at)]
        if ids:
            await connection.execute(SQL["stage_damaged"], ids, check.checked_at)
            new += len(ids)
    await connection.execute(SQL["drop_findings"], check.checked_at)
    await connection.execute(SQL["save_check"], *astuple(check))
    return new


def _row(finding: StoredFinding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "is_damaged": finding.is_damaged,
        "repairable": finding.repairable,
        "repository": finding.repository,
        "path": storable(finding.path)[0],
        "tag": finding.tag,
        "digest": finding.digest,
        "tags": list(finding.tags[:MOST_TAGS]),
        "tags_count": finding.tags_count,
        "text": storable(finding.text)[0],
        "advice": finding.advice,
    }


async def find_check(connection: Connection) -> StoredCheck | None:
    """Return the newest check; None: the storage was never checked."""
    row = await connection.fetchrow(SQL["find_check"])
    return None if row is None else StoredCheck(**dict(row))


async def known_wrong(connection: Connection) -> list[str]:
    """Return the digests whose bytes the newest checks found to be wrong: the next one compares them again."""
    return [row["digest"] for row in await connection.fetch(SQL["known_wrong"])]


async def count_findings(connection: Connection) -> dict[tuple[str, bool], int]:
    """Return the number of findings, by code and whether something cannot be pulled."""
    rows = await connection.fetch(SQL["count_findings"])
    return {(row["code"], row["is_damaged"]): row["findings"] for row in rows}


async def findings_of(connection: Connection, *, repository: str, limit: int) -> list[SeenFinding]:
    """Return findings of a repository, damaged ones first."""
    return [finding_of(row) for row in await connection.fetch(SQL["findings_of"], repository, limit)]


def finding_of(row: Any) -> SeenFinding:
    """Return the finding of a row that has its columns, and perhaps others."""
    return SeenFinding(**{each.name: row[each.name] for each in fields(SeenFinding)})


async def record_bytes(
    connection: Connection,
    *,
    sample: Sample,
    repositories: Sequence[StoredShare],
    prefixes: Sequence[StoredShare],
    roots: Iterable[StoredRoot] = (),
) -> None:
    """Store what bytes belong to, in the caller's transaction: one sample a day, and the newest figures of names.

    Of ``roots`` those are stored whose repository and manifest are on record.
    """
    await connection.execute(SQL["save_sample"], *astuple(sample))
    await connection.execute(SQL["drop_shares"])
    for is_prefix, shares in ((False, repositories), (True, prefixes)):
        for start in range(0, len(shares), BATCH):
            batch = shares[start : start + BATCH]
            await connection.execute(
                SQL["save_shares"],
                [is_prefix] * len(batch),
                [each.name for each in batch],
                [each.referenced_bytes for each in batch],
                [each.exclusive_bytes for each in batch],
                [each.attributed_bytes for each in batch],
                [each.tags for each in batch],
                [each.manifests for each in batch],
                [each.repositories for each in batch],
            )

    await connection.execute(SQL["drop_roots"])
    each_root = iter(roots)
    while some := list(islice(each_root, ROOTS)):
        await connection.execute(
            SQL["save_roots"],
            [each.repository for each in some],
            [digest_to_bytes(each.digest) for each in some],
            [each.referenced_bytes for each in some],
            [each.exclusive_bytes for each in some],
            [each.attributed_bytes for each in some],
        )


async def find_root(connection: Connection, *, repository_id: int, manifest_id: int) -> RootBytes | None:
    """Return the bytes of a manifest that tags point to; None: none did when the storage was read."""
    row = await connection.fetchrow(SQL["find_root"], repository_id, manifest_id)
    return None if row is None else RootBytes(**dict(row))


async def newest_samples(connection: Connection, *, limit: int) -> list[Sample]:
    """Return samples, newest first: at most one a day."""
    return [Sample(**dict(row)) for row in await connection.fetch(SQL["newest_samples"], limit)]


async def find_share(connection: Connection, *, repository: str) -> StoredShare | None:
    """Return the bytes of a repository; None: the newest pass did not have it, or there was none."""
    row = await connection.fetchrow(SQL["find_share"], repository)
    return None if row is None else StoredShare(**dict(row))


async def largest_shares(connection: Connection, *, prefixes: bool, limit: int) -> list[StoredShare]:
    """Return the repositories, or the prefixes of names, that the most bytes are attributed to."""
    return [
        StoredShare(**dict(row)) for row in await connection.fetch(SQL["largest_shares"], prefixes, limit)
    ]


async def manifests_in_trash(
    connection: Connection, *, now: datetime, after: Digest | None, limit: int
) -> list[tuple[Digest, bytes]]:
    """Return manifests that are kept to put deleted tags back, as long as that is promised, by digest."""
    begin = b"" if after is None else digest_to_bytes(after)
    rows = await connection.fetch(SQL["in_trash"], now, begin, limit)
    return [(digest_from_bytes(row["digest"]), row["content"]) for row in rows]

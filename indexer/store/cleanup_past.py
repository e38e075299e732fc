"""What is on record of a repository's past, as a replay of policies takes it (``policies.replay``)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from indexer.inventory.records import TimeSource
from indexer.oci.digest import digest_from_bytes
from indexer.policies.facts import ManifestFacts
from indexer.policies.intervals import LONG_AGO, Between
from indexer.policies.replay import PastManifest, PastPush, PastTag, PastUse, RepositoryPast
from indexer.store.cleanup_facts import RepositoryRow, is_structure
from indexer.store.instants import known
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("cleanup_past")


async def load_past(
    connection: Connection,
    *,
    repository: RepositoryRow,
    since: datetime,
    annotations: Sequence[str],
) -> RepositoryPast:
    """Return the past of a repository since an instant; a policy's longest period must have been taken off it."""
    own = repository.id
    return RepositoryPast(
        name=repository.name,
        tags=[_tag(row) for row in await connection.fetch(SQL["intervals"], own, since)],
        manifests=[
            _manifest(row) for row in await connection.fetch(SQL["manifests"], own, since, list(annotations))
        ],
        uses=[
            PastUse(
                digest_from_bytes(row["digest"]),
                row["at"],
                row["tag"],
                row["actor"],
                row["address"] or None,
                row["times"],
            )
            for row in await connection.fetch(SQL["uses"], own, since)
        ],
        pushes=[
            PastPush(row["tag"], digest_from_bytes(row["digest"]), row["occurred_at"], row["restored"])
            for row in await connection.fetch(SQL["pushes"], own, since)
        ],
    )


async def log_begins(connection: Connection) -> datetime | None:
    """Return since when the log is kept: pulls before are known by nobody."""
    at: datetime | None = await connection.fetchval(SQL["log_begins"])
    return at


def _tag(row: Any) -> PastTag:
    at, source = row["valid_from"], TimeSource(row["from_source"])
    exact = source is TimeSource.EVENT and row["not_before"] is None
    since = Between(at, at) if exact else Between(row["not_before"] or LONG_AGO, at, source)
    return PastTag(row["name"], digest_from_bytes(row["digest"]), since, known(row["valid_to"]))


def _manifest(row: Any) -> PastManifest:
    at, subject = row["pushed_at"], row["subject_digest"]
    facts = ManifestFacts(
        digest=digest_from_bytes(row["digest"]),
        pushed=Between(at, at) if row["by_event"] else Between(LONG_AGO, at, TimeSource.FIRST_SEEN),
        size_bytes=row["size_bytes"],
        children=tuple(dict.fromkeys(digest_from_bytes(child) for child in row["children"])),
        subject=None if subject is None else digest_from_bytes(subject),
        annotations=row["annotations"] or {},
        readable=row["content"] == "read"
        or (row["content"] == "partly-read" and not any(map(is_structure, row["unread"] or ()))),
    )
    return PastManifest(facts=facts, gone_at=row["deleted_at"])

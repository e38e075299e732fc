"""The referrers of a manifest, by whichever scheme a client stored them (``oci.referrers``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.referrers import cosign_tags, fallback_tag
from indexer.store.pool import Connection
from indexer.store.queries import load
from indexer.store.text import storable

SQL = load("referrers")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReferrer:
    """A manifest that refers to another; ``artifact_type`` is "" where nothing says it."""

    digest: Digest
    media_type: str
    size_bytes: int
    artifact_type: str
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferrersWanted:
    """Which referrers: of ``subject`` in ``repository`` (its name), of one artifact type ("": any), after a digest."""

    repository: str
    subject: Digest
    artifact_type: str = ""
    after: Digest | None = None


async def referrers_of(
    connection: Connection, wanted: ReferrersWanted, *, limit: int, annotation_bytes: int
) -> Sequence[StoredReferrer]:
    """Return referrers in the order of their packed digests, each once.

    At most ``limit``, and none after those whose annotations reach ``annotation_bytes``; at least one, if there is any.
    """
    by_tag = cosign_tags(wanted.subject)
    rows = await connection.fetch(
        SQL["referrers_of"],
        wanted.repository,
        digest_to_bytes(wanted.subject),
        fallback_tag(wanted.subject),
        list(by_tag),
        list(by_tag.values()),
        b"" if wanted.after is None else digest_to_bytes(wanted.after),
        storable(wanted.artifact_type)[0],  # as it was stored, so that any text may be compared
        limit,
        annotation_bytes,
    )
    return [
        StoredReferrer(
            digest=digest_from_bytes(row["digest"]),
            media_type=row["media_type"],
            size_bytes=row["size_bytes"],
            artifact_type=row["artifact_type"],
            annotations=row["annotations"] or {},
        )
        for row in rows
    ]

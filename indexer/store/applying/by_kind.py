"""Changes by kind: of each record the last state only. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from indexer.inventory.changes import (
    BlobAnnounced,
    Change,
    Checked,
    Entry,
    Finding,
    ManifestChanged,
    Pulled,
    TagChanged,
    VerifyTagsOfDigest,
    WorkRequested,
)
from indexer.inventory.records import ManifestKey, ManifestRecord, TagKey
from indexer.oci.digest import Digest
from indexer.store.manifests import Announced


@dataclass(slots=True, kw_only=True)
class ChangesByKind:
    """Changes by kind. Of tags, manifests and blobs the last state only; everything else in its order."""

    tags: dict[TagKey, TagChanged] = field(default_factory=dict)
    manifests: dict[ManifestKey, ManifestRecord] = field(default_factory=dict)
    announced: dict[Digest, Announced] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    pulls: list[Pulled] = field(default_factory=list)
    checks: list[Checked] = field(default_factory=list)
    work: list[WorkRequested] = field(default_factory=list)
    digests_to_verify: list[VerifyTagsOfDigest] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def by_kind(changes: Iterable[Change]) -> ChangesByKind:  # noqa: C901 - one case per kind of change
    """Sort changes, each of which was decided on those before it."""
    by = ChangesByKind()
    for change in changes:
        match change:
            case TagChanged():
                by.tags[change.after.key] = change
            case ManifestChanged():
                by.manifests[change.after.repository, change.after.digest] = change.after
                if change.media_type or change.size_bytes:
                    by.announced[change.after.digest] = Announced(
                        media_type=change.media_type, size_bytes=change.size_bytes
                    )
            case BlobAnnounced():
                by.blobs[change.digest] = max(change.size_bytes, by.blobs.get(change.digest, 0))
            case Pulled():
                by.pulls.append(change)
            case Checked():
                by.checks.append(change)
            case WorkRequested():
                by.work.append(change)
            case VerifyTagsOfDigest():
                by.digests_to_verify.append(change)
            case Entry():
                by.entries.append(change)
            case Finding():
                by.findings.append(change)
    return by

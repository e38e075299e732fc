"""Changes by what they change: each noun's last state only. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from indexer.inventory.changes import (
    BlobHeard,
    Change,
    Due,
    Entry,
    Finding,
    ManifestChanged,
    Pulled,
    TagChanged,
    TagsOfDigestDue,
)
from indexer.inventory.records import ManifestKey, ManifestRecord, TagKey
from indexer.inventory.told import Known
from indexer.oci.digest import Digest
from indexer.store import manifests


@dataclass(slots=True, kw_only=True)
class Sorted:
    """Changes by what they change, each noun's last state only; entries and findings in their order."""

    tags: dict[TagKey, TagChanged] = field(default_factory=dict)
    held: dict[ManifestKey, ManifestRecord] = field(default_factory=dict)
    heard: dict[Digest, manifests.Heard] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    pulls: list[Pulled] = field(default_factory=list)
    dues: list[Due] = field(default_factory=list)
    doubtful: list[TagsOfDigestDue] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def sort(changes: Iterable[Change], loaded: Known) -> Sorted:  # noqa: C901 - one case per kind of change
    """Sort changes; what was ``loaded`` is where the first change of a manifest begins."""
    by = Sorted()
    for change in changes:
        match change:
            case TagChanged():
                by.tags[change.after.key] = change
            case ManifestChanged():
                key = (change.after.repository, change.after.digest)
                by.held[key] = _held(by.held.get(key) or loaded.manifests.get(key), change)
                if change.media_type or change.size_bytes:
                    by.heard[change.after.digest] = manifests.Heard(
                        media_type=change.media_type, size_bytes=change.size_bytes
                    )
            case BlobHeard():
                by.blobs[change.digest] = max(change.size_bytes, by.blobs.get(change.digest, 0))
            case Pulled():
                by.pulls.append(change)
            case Due():
                by.dues.append(change)
            case TagsOfDigestDue():
                by.doubtful.append(change)
            case Entry():
                by.entries.append(change)
            case Finding():
                by.findings.append(change)
    return by


def _held(before: ManifestRecord | None, change: ManifestChanged) -> ManifestRecord:
    """Weigh a look, which carries no record, against the one on record.

    Held already: it is still there. Deleted after the look: it stays deleted. Told changes were decided on the
    record itself.
    """
    after = change.after
    if change.before is not None or before is None:
        return after
    if before.present:
        return replace(before, as_of=max(before.as_of, after.as_of))
    return before if before.as_of > after.as_of else after

"""What is on record of everything that a batch of evidence names, while the batch is decided on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from indexer.inventory.changes import BlobAnnounced, Change, ManifestChanged, TagChanged
from indexer.inventory.dummies import DUMMIES
from indexer.inventory.history import Timeline
from indexer.inventory.records import ManifestKey, ManifestRecord, TagKey, TagRecord
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName


@dataclass(slots=True)
class Known:
    """Records by key. Each decision's changes are folded in, so that the next one is decided on them.

    ``histories`` has of each timeline the part that was loaded. ``causes``: by repository and request id, the id of the
    event that reported the deletion of a digest. ``pulled_tags``: by the event id of a GET by digest, the tag it is a
    pull of (``pulls``).
    """

    tags: dict[TagKey, TagRecord] = field(default_factory=dict)
    histories: dict[TagKey, Timeline] = field(default_factory=dict)
    manifests: dict[ManifestKey, ManifestRecord] = field(default_factory=dict)
    blobs: set[Digest] = field(default_factory=set)
    dummies: set[Digest] = field(default_factory=lambda: set(DUMMIES))
    causes: dict[tuple[RepositoryName, str], str] = field(default_factory=dict)
    pulled_tags: Mapping[str, TagName] = field(default_factory=dict)

    def fold(self, change: Change) -> None:
        """Take a change in."""
        if isinstance(change, TagChanged):
            self.tags[change.after.key] = change.after
            self.histories[change.after.key] = change.history
        elif isinstance(change, ManifestChanged):
            self.manifests[change.after.repository, change.after.digest] = change.after
        elif isinstance(change, BlobAnnounced):
            self.blobs.add(change.digest)

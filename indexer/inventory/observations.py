"""What the registry answered about one tag or manifest, and what an observation comes to.

An observation is first-hand, unlike an event. An error is not an observation: it proves nothing. What counts as an
answer that a tag is gone is decided where the registry is asked (``reconciler/observing``).

Two instants date an observation. ``observed_at`` is our clock before the request was sent. ``as_of`` is the earlier of
that and the registry's ``Date``, so that it is not later than the state it speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexer.inventory.changes import Change
from indexer.inventory.records import BrokenReason
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName


class TagState(StrEnum):
    """What an observation of a tag found."""

    POINTS = "points"
    """The manifest was served: the tag points to ``digest``, and it can be read."""
    CONFIRMED = "confirmed"
    """304: the tag still points to the digest on record. Whether it can be read was not asked."""
    BROKEN = "broken"
    """The registry lists the tag and answers 404 MANIFEST_UNKNOWN for it, or 500 for it alone, often enough."""
    ABSENT = "absent"
    """404, and a complete listing does not have the tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestObservation:
    """Whether a repository served a manifest. Media type and size in bytes are the answer's; '' and 0: none."""

    repository: RepositoryName
    digest: Digest
    served: bool
    observed_at: datetime
    as_of: datetime
    media_type: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TagObservation:
    """What a tag was found to be.

    ``unreadable``, of a broken tag: the registry does not answer 404 for it but fails (500), again and again.
    """

    repository: RepositoryName
    tag: TagName
    outcome: TagState
    observed_at: datetime
    as_of: datetime
    digest: Digest | None = None
    media_type: str = ""
    size_bytes: int = 0
    unreadable: bool = False

    @property
    def broken_reason(self) -> BrokenReason:
        """Of a broken tag: why it cannot be read."""
        return BrokenReason.UNREADABLE_TAG if self.unreadable else BrokenReason.DANGLING_TAG

    def of_manifest(self, digest: Digest) -> ManifestObservation:
        """Return what it shows of the manifest: that it is served, whatever becomes of the tag's own record."""
        return ManifestObservation(
            repository=self.repository,
            digest=digest,
            served=True,
            observed_at=self.observed_at,
            as_of=self.as_of,
            media_type=self.media_type,
            size_bytes=self.size_bytes,
        )


class ObservationVerdict(StrEnum):
    """What an observation came to: it agreed, it proves nothing yet, or it changed the record."""

    CONFIRMED = "confirmed"
    INCONCLUSIVE = "inconclusive"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationResult:
    """The verdict and the changes it makes; an inconclusive observation makes none."""

    verdict: ObservationVerdict
    changes: tuple[Change, ...] = ()

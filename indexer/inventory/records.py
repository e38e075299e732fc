"""What is on record, as frozen values. A record says no more than its evidence does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName

TagKey = tuple[RepositoryName, TagName]
ManifestKey = tuple[RepositoryName, Digest]


class Evidence(StrEnum):
    """What a record rests on: an event, which reports a past instant, or an observation of ours."""

    EVENT = "event"
    OBSERVATION = "observation"


class TimeSource(StrEnum):
    """Where an instant comes from. No deletion may rest on a weak source."""

    EVENT = "event"
    STORAGE = "storage"
    IMAGE_CONFIG = "image-config"
    FIRST_SEEN = "first-seen"


class BrokenReason(StrEnum):
    """Why a tag that the registry lists cannot be read; the values are those of a finding's cause.

    ``dangling_tag``: the tag exists, its manifest does not (404). ``unreadable_tag``: the registry fails for the tag
    (500), again and again.
    """

    DANGLING_TAG = "dangling_tag"
    UNREADABLE_TAG = "unreadable_tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRecord:
    """One tag as the inventory has it.

    - ``digest``: None for a tombstone; then ``published_at`` is the instant of the deletion. None too for a live but
      broken tag that was never announced: the registry lists it and does not say where it points.
    - ``revision``: grows with every change. An observation is stored only over the revision that it was made for.
    - ``last_event_at``: the newest event that named the tag, by the registry's clock, never later than its receipt.
    - ``last_observed_at``: the newest observation, the earlier of our clock and the registry's ``Date``.
    - ``verified_at``: None while the record is unverified.
    - ``read_at``: the newest observation that also proved the manifest readable. A 304 does not.
    - ``alive_since``: since when the tag exists without a gap, whatever it pointed to.
    - ``deleted_by_dummy``: the tombstone was made by one of GitLab's dummy manifests. Further events of that deletion
      change nothing.
    """

    repository: RepositoryName
    name: TagName
    digest: Digest | None
    revision: int
    last_event_at: datetime | None
    last_observed_at: datetime | None
    evidence: Evidence
    published_at: datetime
    published_source: TimeSource
    first_seen_at: datetime
    pushed_by: str | None = None
    verified_at: datetime | None = None
    read_at: datetime | None = None
    broken_reason: BrokenReason | None = None
    alive_since: datetime | None = None
    deleted_by_dummy: bool = False

    @property
    def key(self) -> TagKey:
        """Repository and tag."""
        return self.repository, self.name

    @property
    def broken(self) -> bool:
        """True for a tag that the registry lists and cannot serve."""
        return self.broken_reason is not None

    @property
    def live(self) -> bool:
        """True unless a tombstone."""
        return self.digest is not None or self.broken

    @property
    def as_of(self) -> datetime:
        """The instant of the newest evidence."""
        known = [at for at in (self.last_event_at, self.last_observed_at) if at is not None]
        return max(known) if known else self.first_seen_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRecord:
    """Whether a repository has a manifest. ``as_of`` is the newest evidence; ``deleted_at`` is set on a tombstone.

    ``absent_at``: when it was last deleted before ``pushed_at``, as far as is known; None: never. ``pushed_again_at``:
    when it was pushed last while it was there; None: never since ``pushed_at``.
    """

    repository: RepositoryName
    digest: Digest
    pushed_at: datetime
    as_of: datetime
    deleted_at: datetime | None = None
    pushed_by: str | None = None
    absent_at: datetime | None = None
    pushed_again_at: datetime | None = None

    @property
    def present(self) -> bool:
        """True unless deleted."""
        return self.deleted_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A tag pointed to ``digest`` during ``[valid_from, valid_to)``; ``valid_to`` None is open.

    ``not_before`` is set where the start is only known to lie in ``(not_before, valid_from]``; ``to_not_before`` is the
    same of the end. ``source`` and ``to_source`` say how start and end are known; None: the end is open.
    """

    valid_from: datetime
    valid_to: datetime | None
    digest: Digest
    source: TimeSource
    not_before: datetime | None = None
    actor: str | None = None
    event_id: str | None = None
    to_source: TimeSource | None = None
    to_not_before: datetime | None = None

"""What is known of repositories when a policy is evaluated: plain values, made from the store by whoever evaluates.

Digests are texts (``sha256:…``). Everything is of one instant: the position of the log that the snapshot was taken at.
Whoever makes the facts widens an interval wherever something may have been missed; see ``intervals``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from indexer.policies.intervals import LONG_AGO, Between

NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFacts:
    """A tag. ``digest`` is None where the registry lists it and does not say where it points.

    ``pushed``: the last push, of the same digest or another. ``moved``: when it came to point here from another
    digest, None if it never did. ``unverified_since``: an event named it then, and no observation has confirmed it.
    """

    name: str
    digest: str | None
    pushed: Between
    moved: Between | None = None
    restored_at: datetime | None = None
    unverified_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFacts:
    """A manifest that a repository holds.

    ``untagged``: since when no tag points to it; None where one does, or none ever did (then since its push).
    ``was_tagged``: tags that pointed to it before. ``deleted_by``: the rule whose deletion of its last tag left it
    without one. ``restored_at``: when we put it back by its digest. ``blobs``: config and layers with their sizes.
    ``annotations``: its own, and the config's labels. ``readable``: what it refers to is known.
    """

    digest: str
    pushed: Between
    size_bytes: int = 0
    blobs: tuple[tuple[str, int], ...] = ()
    children: tuple[str, ...] = ()
    subject: str | None = None
    config: str | None = None
    untagged: Between | None = None
    was_tagged: tuple[str, ...] = ()
    deleted_by: str | None = None
    restored_at: datetime | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: NONE)
    readable: bool = True


class Pull(NamedTuple):
    """How often a client pulled or checked a manifest, and when last. ``tag``: as it named it; None: by its digest.

    ``actor`` and ``address`` are None where they are not known.
    """

    digest: str
    last_at: datetime
    times: int = 1
    tag: str | None = None
    actor: str | None = None
    address: str | None = None


class Past(NamedTuple):
    """A digest that a tag pointed to before, and when that ended."""

    digest: str
    ended: Between


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryFacts:
    """A repository. ``history``: what tags pointed to before. ``gone``: manifests it held once, and when they went.

    ``incomplete``: why not everything is known of it, as a sentence; None where it is.
    """

    name: str
    tags: Sequence[TagFacts] = ()
    manifests: Sequence[ManifestFacts] = ()
    pulls: Sequence[Pull] = ()
    history: Mapping[str, Sequence[Past]] = field(default_factory=dict)
    gone: Mapping[str, Between] = field(default_factory=dict)
    incomplete: str | None = None


class Gap(NamedTuple):
    """An interval in which pulls may have been missed; ``to_at`` is None while it lasts."""

    from_at: datetime
    to_at: datetime | None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Since when pulls are received (None: they are not), and when some may have been missed."""

    pulls_since: datetime | None
    gaps: Sequence[Gap] = ()

    @property
    def latest_gap(self) -> Gap:
        """The gap that ended last, or that lasts; that before the first day is one."""
        return max(self._gaps(), key=lambda gap: (gap.to_at is None, gap.to_at or LONG_AGO))

    def unknown_until(self, now: datetime) -> datetime:
        """Return until when pulls may have been missed; a gap may end after ``now``, by another clock."""
        return max(gap.to_at or now for gap in self._gaps())

    def _gaps(self) -> tuple[Gap, ...]:
        return Gap(LONG_AGO, self.pulls_since, "pulls were not received before"), *self.gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class InUseReport:
    """The last set that a source reported. ``digests`` are in use in any repository, ``images`` in one.

    ``images``: (repository, tag) and (repository, digest). A source is silent after ``valid_until``.
    """

    source: str
    valid_until: datetime
    digests: frozenset[str] = frozenset()
    images: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What somebody put on hold: a repository, one of its tags, one of its digests, or a digest anywhere."""

    owner: str
    reason: str
    repository: str | None = None
    tag: str | None = None
    digest: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a policy is evaluated against."""

    repositories: Sequence[RepositoryFacts]
    coverage: Coverage
    in_use: Sequence[InUseReport] = ()
    holds: Sequence[Hold] = ()

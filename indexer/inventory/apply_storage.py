"""What lies in the registry's storage → changes: tags with their past, and manifests that no API lists.

A link in the storage says where a tag points, first-hand. The time of its file is worth less: it is the *last* push of
that tag and digest, and restores, copies and ``rsync`` without times move it to later. So every time here is an upper
bound: the tag came to point there at that time or before (``TimeSource.STORAGE``). A time before registries stored like
this, or after we read it, bounds nothing.

The rules, in the order they apply to a tag:

1. Nothing on record, and the repository was never compared completely: created, with the digests that it had before.
2. Nothing on record, though it was: the tag is verified. The registry is asked, and that is evidence.
3. On record as deleted or broken, or with another digest: the tag is verified. Nothing here overrules an event or an
   observation.
4. On record with this digest, of which only is known when it was first seen, or an earlier bound was found: dated, if
   that contradicts nothing on record.
5. Digests that it had before are added in front of all that is on record, if their order is certain: never between.

Read twice, the second time changes nothing. Nothing is ever deleted because it does not lie in the storage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, unique
from itertools import pairwise
from typing import Final

from indexer.inventory.changes import (
    AuditAction,
    AuditSource,
    Change,
    Entry,
    ManifestChanged,
    TagChanged,
    WorkKind,
    WorkRequested,
    dated,
)
from indexer.inventory.history import TICK, Timeline, Transition, alive_since, append, open_interval
from indexer.inventory.records import Evidence, Interval, ManifestRecord, TagRecord, TimeSource
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName

EARLIEST: Final = datetime(2014, 12, 1, tzinfo=UTC)
"""No registry stored like this before; files that claim to be older were given another time."""


@unique
class TagVerdict(Enum):
    """What a tag in the storage came to."""

    CREATED = "created"
    DATED = "dated"
    EXTENDED = "extended"
    """Only digests that it had before were added."""
    UNCHANGED = "unchanged"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A digest that a tag had before, and when it was last pushed there, at the latest."""

    digest: Digest
    written_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFound:
    """A tag as it lies in the storage. ``read_at``: our clock before it was read."""

    repository: RepositoryName
    tag: TagName
    digest: Digest
    written_at: datetime
    read_at: datetime
    earlier: tuple[Earlier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFound:
    """A manifest as it lies in the storage of a repository, with its bytes."""

    repository: RepositoryName
    digest: Digest
    written_at: datetime
    read_at: datetime
    media_type: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TagResult:
    """What one tag changes. ``placed``: how many digests that it had before were added; ``undated``: could not be."""

    verdict: TagVerdict
    changes: tuple[Change, ...] = ()
    placed: int = 0
    undated: int = 0


def bound_of(written_at: datetime, read_at: datetime) -> tuple[datetime, TimeSource]:
    """Return until when something happened at the latest, and how that is known."""
    if EARLIEST <= written_at <= read_at:
        return written_at, TimeSource.STORAGE
    return read_at, TimeSource.FIRST_SEEN


def apply_found_tag(
    record: TagRecord | None, timeline: Timeline, found: TagFound, *, absent_at: datetime | None
) -> TagResult:
    """Decide what a tag in the storage changes. ``timeline``: all that is on record of its history.

    ``absent_at``: when the repository was last compared completely; None: never.
    """
    if record is None:
        return _differs(found) if absent_at is not None else _created(timeline, found)
    if record.digest != found.digest or record.broken:
        return _differs(found)
    at, source = bound_of(found.written_at, found.read_at)
    now = _dated(timeline, at) if source is TimeSource.STORAGE else timeline
    is_dated = now != timeline
    placed, undated = _placed(found, now)
    if not placed and not is_dated:
        return TagResult(TagVerdict.UNCHANGED, undated=undated)
    after = replace(record, revision=record.revision + 1)
    if is_dated:
        after = replace(after, published_at=now[-1].valid_from, published_source=now[-1].source)
    change = TagChanged(before=record, after=after, history=(*placed, *now))
    return TagResult(
        TagVerdict.DATED if is_dated else TagVerdict.EXTENDED,
        (dated(change),),
        placed=len(placed),
        undated=undated,
    )


def apply_found_manifest(record: ManifestRecord | None, found: ManifestFound) -> tuple[Change, ...]:
    """Decide what a manifest in the storage changes: it is there, unless that contradicts what is on record."""
    if record is not None and record.present:
        return ()
    if record is not None:
        request = WorkRequested(
            kind=WorkKind.RESOLVE,
            repository=found.repository,
            key=found.digest,
            even_if_read=True,
            unless_waiting=True,
        )
        return (request,)
    at, _ = bound_of(found.written_at, found.read_at)
    after = ManifestRecord(
        repository=found.repository, digest=found.digest, pushed_at=at, as_of=found.read_at
    )
    return (
        ManifestChanged(before=None, after=after, media_type=found.media_type, size_bytes=found.size_bytes),
    )


def _differs(found: TagFound) -> TagResult:
    request = WorkRequested(kind=WorkKind.VERIFY, repository=found.repository, key=found.tag)
    return TagResult(TagVerdict.DIFFERS, (request,))


def _created(timeline: Timeline, found: TagFound) -> TagResult:
    at, source = bound_of(found.written_at, found.read_at)
    ended = timeline[-1].valid_to if timeline else None
    if ended is not None and at <= ended:  # it was deleted later than the file says
        at, source = max(found.read_at, ended + TICK), TimeSource.FIRST_SEEN
    fitted = append(timeline, Transition(at=at, digest=found.digest, source=source, not_before=ended))
    opened = open_interval(fitted)
    if opened is None or opened.digest != found.digest:
        return _differs(found)
    placed, undated = _placed(found, fitted)
    after = TagRecord(
        repository=found.repository,
        name=found.tag,
        digest=found.digest,
        revision=1,
        last_event_at=None,
        last_observed_at=found.read_at,
        evidence=Evidence.OBSERVATION,
        published_at=opened.valid_from,
        published_source=opened.source,
        first_seen_at=found.read_at,
        verified_at=found.read_at,
        alive_since=alive_since((*placed, *fitted), None),
    )
    entry = Entry(
        action=AuditAction.TAG_CREATED,
        source=AuditSource.STORAGE,
        repository=found.repository,
        occurred_at=opened.valid_from,
        recorded_at=found.read_at,
        not_before=opened.not_before,
        tag=found.tag,
        digest=found.digest,
        previous_digest=placed[-1].digest if placed else None,
    )
    change = TagChanged(before=None, after=after, history=(*placed, *fitted))
    return TagResult(TagVerdict.CREATED, (change, entry), placed=len(placed), undated=undated)


def _dated(timeline: Timeline, at: datetime) -> Timeline:
    """Return the timeline with a better bound for when the tag came to point where it does; the same if it is none."""
    opened = open_interval(timeline)
    if opened is None or opened.source not in (TimeSource.FIRST_SEEN, TimeSource.STORAGE):
        return timeline
    if at >= opened.valid_from - TICK or (opened.not_before is not None and at <= opened.not_before):
        return timeline
    better = replace(opened, valid_from=at, source=TimeSource.STORAGE)
    if len(timeline) == 1:
        return (better,)
    *before, previous = timeline[:-1]
    if previous.valid_to == opened.valid_from:
        known = previous.to_not_before
        if at <= previous.valid_from or (known is not None and at <= known):
            return timeline
        previous = replace(previous, valid_to=at, to_source=TimeSource.STORAGE)
    elif previous.valid_to is None or at <= previous.valid_to:
        return timeline
    return (*before, previous, better)


def _placed(found: TagFound, timeline: Timeline) -> tuple[list[Interval], int]:
    """Return the intervals of earlier digests before all that is on record, and how many have no certain place.

    Two with the same time have no certain order. A tag that was deleted in between had nothing before its first
    interval that the storage could still know.
    """
    on_record = {part.digest for part in timeline}
    earlier = [each for each in found.earlier if each.digest not in on_record]
    if not earlier or not timeline or any(a.valid_to != b.valid_from for a, b in pairwise(timeline)):
        return [], len(earlier)
    first = timeline[0]
    times = Counter(each.written_at for each in found.earlier)
    certain = [
        each
        for each in earlier
        if times[each.written_at] == 1
        and bound_of(each.written_at, found.read_at)[1] is TimeSource.STORAGE
        and each.written_at < first.valid_from
        and (first.not_before is None or each.written_at > first.not_before)
    ]
    certain.sort(key=lambda each: each.written_at)
    return _chained(certain, first), len(earlier) - len(certain)


def _chained(earlier: Sequence[Earlier], first: Interval) -> list[Interval]:
    """Return intervals that follow each other, the last one until ``first``."""
    found: list[Interval] = []
    following = first
    for each in reversed(earlier):
        following = Interval(
            valid_from=each.written_at,
            valid_to=following.valid_from,
            digest=each.digest,
            source=TimeSource.STORAGE,
            to_source=following.source,
            to_not_before=following.not_before,
        )
        found.append(following)
    found.reverse()
    return found

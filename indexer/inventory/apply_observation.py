"""Looks → changes: what a first-hand observation makes of the inventory.

The rules, in the order they apply to a tag:

1. The look agrees with the record: confirmed; nothing changes but how well we know it. If the repository's hold on the
   manifest says otherwise, it is put right: served through its tag, it is held (``held``).
2. An event spoke of the tag within the race window before the look: doubted; look again later. The registry
   announces a push before it writes the tag's link. Whether the window is over is told by our clock, or by looks: one
   that finds again and again the same has waited (``waited``), whatever the clock says.
3. The tag points elsewhere: moved. If the other digest was itself announced just before, the two pushes raced
   and the events' order was not the registry's; its publish time is then known after all.
4. Nothing on record, and the tag is there: created, since when is not known.
5. The registry listed the tag but cannot serve it: broken. Not gone.
6. The registry said in full that the tag is not there: deleted, some time since the evidence on record.

What counts as "said in full" is decided where the look is made (reconciler); an error is never an observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from indexer.inventory import history
from indexer.inventory.changes import (
    AuditAction,
    AuditSource,
    Change,
    DriftCause,
    DriftKind,
    Entry,
    Finding,
    TagChanged,
    WorkKind,
    WorkRequested,
    dated,
)
from indexer.inventory.history import TICK, Becoming, Timeline
from indexer.inventory.precedence import CLOCK_MARGIN, ObservationVerdict, is_past_race_window
from indexer.inventory.records import BrokenReason, Evidence, Interval, ManifestRecord, TagRecord, TimeSource
from indexer.inventory.repository_manifests import ManifestObservation, observe_manifest
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName


class TagState(StrEnum):
    """What a look at a tag found."""

    POINTS = "points"
    """The manifest was served: the tag points to ``digest`` and it can be read."""
    CONFIRMED = "confirmed"
    """304: the tag still points to the digest on record; whether it can be read was not asked."""
    BROKEN = "broken"
    """The registry lists the tag and answers 404 MANIFEST_UNKNOWN for it, or 500 for it alone, often enough."""
    ABSENT = "absent"
    """404 in full, and a complete listing does not name the tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagObservation:
    """One look at one tag. ``as_of`` is the earlier of our clock and the registry's; ``observed_at`` is ours."""

    repository: RepositoryName
    tag: TagName
    outcome: TagState
    observed_at: datetime
    as_of: datetime
    digest: Digest | None = None
    media_type: str = ""
    size_bytes: int = 0
    unreadable: bool = False
    """Of a broken tag: the registry does not say 404 for it but fails (500), again and again."""

    @property
    def broken_reason(self) -> BrokenReason:
        """Of a broken tag: why it cannot be read."""
        return BrokenReason.UNREADABLE_TAG if self.unreadable else BrokenReason.DANGLING_TAG

    def of_manifest(self, digest: Digest) -> ManifestObservation:
        """Return what it shows of the manifest: it is served, whatever becomes of the tag's own record."""
        return ManifestObservation(
            repository=self.repository,
            digest=digest,
            served=True,
            observed_at=self.observed_at,
            as_of=self.as_of,
            media_type=self.media_type,
            size_bytes=self.size_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationResult:
    """The judgement and the changes it makes; a doubted look makes none."""

    judgement: ObservationVerdict
    changes: tuple[Change, ...] = ()


def as_deletion(observation: TagObservation, dummies: AbstractSet[Digest]) -> TagObservation:
    """Return a look as it counts: a tag that points to one of GitLab's dummies is absent (``dummies``)."""
    if observation.digest is None or observation.digest not in dummies:
        return observation
    return replace(observation, outcome=TagState.ABSENT, digest=None, media_type="", size_bytes=0)


def agrees(record: TagRecord | None, observation: TagObservation) -> bool:
    """Tell whether the look found what is on record."""
    recorded = record.digest if record is not None else None
    match observation.outcome:
        case TagState.ABSENT:
            return record is None or not record.live
        case TagState.BROKEN:
            return record is not None and record.broken
        case TagState.CONFIRMED:
            return recorded == observation.digest
        case TagState.POINTS:
            return recorded == observation.digest and record is not None and not record.broken
    assert_never(observation.outcome)


def apply_observation(
    record: TagRecord | None,
    timeline: Timeline,
    observation: TagObservation,
    *,
    held: ManifestRecord | None,
    source: AuditSource,
    first_reconcile: bool = False,
    absent_at: datetime | None = None,
    waited: bool = False,
    verified_before: datetime | None = None,
) -> ObservationResult:
    """Judge one look against the record it is to be stored over (same revision as before the look).

    ``held`` is what is on record of the repository's hold on the manifest that was found.
    ``first_reconcile``: the repository was never compared before, so what is not on record may be older than we are.
    ``absent_at``: when it was last compared in full; what is on no record now was not there then. (But for the
    listings of 3.1 on S3, which omit tags: distribution issue 4891.)
    ``waited``: looks since the newest event have found the same for longer than the race window. ``verified_before``:
    when the record had last been verified, as it was read before the look.
    """
    if agrees(record, observation):
        return _confirm(record, timeline, observation, held, source)
    settled = waited or is_past_race_window(record, observation.observed_at)
    if not settled or _is_older(observation, record, verified_before):
        return ObservationResult(judgement=ObservationVerdict.INCONCLUSIVE)
    changes: tuple[Change, ...]
    match observation.outcome:
        case TagState.POINTS | TagState.CONFIRMED:
            changes = (
                *_points(
                    record,
                    timeline,
                    observation,
                    source,
                    first_reconcile=first_reconcile,
                    absent_at=absent_at,
                ),
                # That the tag differed is the finding; the manifest is not one more.
                *(c for c in _manifest_of(observation, held, source) if not isinstance(c, Finding)),
            )
        case TagState.BROKEN:
            changes = _broken(record, timeline, observation, source)
        case TagState.ABSENT:
            changes = _absent(record, timeline, observation, source)
    return ObservationResult(
        judgement=ObservationVerdict.CHANGED, changes=tuple(dated(change) for change in changes)
    )


def _is_older(look: TagObservation, record: TagRecord | None, verified_before: datetime | None) -> bool:
    """A walk may be old by the time its deletions are made, and a later look has agreed with the record since.

    A record that was not verified since it was read for the look is older than the look, whatever the clock says.
    """
    if record is None or record.verified_at is None or record.verified_at == verified_before:
        return False
    return look.observed_at < record.verified_at


def _confirm(
    record: TagRecord | None,
    timeline: Timeline,
    look: TagObservation,
    held: ManifestRecord | None,
    source: AuditSource,
) -> ObservationResult:
    if record is None:
        return ObservationResult(judgement=ObservationVerdict.CONFIRMED)
    read = look.outcome is TagState.POINTS
    broken = look.outcome is TagState.BROKEN
    after = replace(
        record,
        last_observed_at=_latest(record.last_observed_at, look.as_of),
        evidence=Evidence.OBSERVATION,
        verified_at=_latest(record.verified_at, look.observed_at),
        read_at=_latest(record.read_at, look.observed_at) if read else record.read_at,
        broken_reason=look.broken_reason if broken else record.broken_reason,
    )
    manifest = tuple(_manifest_of(look, held, source))
    found = any(isinstance(change, Finding) for change in manifest)
    return ObservationResult(
        judgement=ObservationVerdict.CHANGED if found else ObservationVerdict.CONFIRMED,
        changes=(TagChanged(before=record, after=after, history=timeline), *manifest),
    )


def _latest(known: datetime | None, at: datetime) -> datetime:
    """Looks are not stored in the order in which they were made: what is known never goes back."""
    return at if known is None else max(known, at)


def _manifest_of(look: TagObservation, held: ManifestRecord | None, source: AuditSource) -> Iterator[Change]:
    """What a look at a tag says of the manifest it found: served, it is held, and can be read.

    A 304 reads the tag's link alone, and close evidence may be the younger: then the manifest itself is asked for.
    """
    if look.digest is None:
        return
    present = held is not None and held.present
    if look.outcome is TagState.POINTS or present:
        judged = observe_manifest(held, look.of_manifest(look.digest), source=source, tag=look.tag)
        if judged.judgement is not ObservationVerdict.INCONCLUSIVE:
            yield from judged.changes
            return
    yield WorkRequested(
        kind=WorkKind.RESOLVE, repository=look.repository, key=look.digest, held=True, unless_waiting=True
    )


def _points(
    record: TagRecord | None,
    timeline: Timeline,
    look: TagObservation,
    source: AuditSource,
    *,
    first_reconcile: bool,
    absent_at: datetime | None,
) -> tuple[Change, ...]:
    digest = look.digest
    assert digest is not None  # noqa: S101 - both outcomes carry one; tells mypy
    if record is not None and record.digest == digest:
        return _readable_again(record, timeline, look, source)
    raced = _announced_just_before(timeline, digest)
    news = Becoming(
        at=_after_record(record, look.observed_at),
        digest=digest,
        source=TimeSource.FIRST_SEEN,
        not_before=record.as_of if record is not None else absent_at,
    )
    if raced is not None:
        news = Becoming(
            at=timeline[-1].valid_from + TICK,
            digest=digest,
            source=raced.source,
            actor=raced.actor,
            event_id=raced.event_id,
        )
    fitted = history.append(timeline, news)
    opened = history.open_interval(fitted)
    previous = record.digest if record is not None else None
    after = TagRecord(
        repository=look.repository,
        name=look.tag,
        digest=digest,
        revision=1 if record is None else record.revision + 1,
        last_event_at=record.last_event_at if record is not None else None,
        last_observed_at=_latest(None if record is None else record.last_observed_at, look.as_of),
        evidence=Evidence.OBSERVATION,
        published_at=opened.valid_from if opened is not None else news.at,
        published_source=news.source,
        first_seen_at=record.first_seen_at if record is not None and record.live else look.observed_at,
        pushed_by=news.actor,
        verified_at=_latest(None if record is None else record.verified_at, look.observed_at),
        read_at=look.observed_at if look.outcome is TagState.POINTS else None,
    )
    return (
        TagChanged(before=record, after=after, history=fitted),
        _entry(
            look,
            AuditAction.TAG_CREATED if previous is None else AuditAction.TAG_MOVED,
            source,
            record,
            digest=digest,
            previous_digest=previous,
            absent_at=absent_at,
        ),
        Finding(
            kind=DriftKind.TAG_MISSING if previous is None else DriftKind.TAG_STALE,
            cause=_cause(record, raced, first_reconcile=first_reconcile),
            repository=look.repository,
            tag=look.tag,
            detected_at=look.observed_at,
            repaired=True,
            not_before=record.as_of if record is not None else absent_at,
            expected=previous,
            found=digest,
        ),
    )


def _readable_again(
    record: TagRecord, timeline: Timeline, look: TagObservation, source: AuditSource
) -> tuple[Change, ...]:
    after = replace(
        record,
        revision=record.revision + 1,
        last_observed_at=_latest(record.last_observed_at, look.as_of),
        evidence=Evidence.OBSERVATION,
        verified_at=_latest(record.verified_at, look.observed_at),
        read_at=_latest(record.read_at, look.observed_at),
        broken_reason=None,
    )
    return (
        TagChanged(before=record, after=after, history=timeline),
        _entry(look, AuditAction.TAG_READABLE, source, record, digest=record.digest),
        _finding(look, DriftKind.TAG_READABLE, DriftCause.UNANNOUNCED, record, found=record.digest),
    )


def _broken(
    record: TagRecord | None, timeline: Timeline, look: TagObservation, source: AuditSource
) -> tuple[Change, ...]:
    """The tag's link is there, its manifest is not. Never announced, it is recorded without a digest."""
    cause = DriftCause(look.broken_reason)
    finding = _finding(look, DriftKind.TAG_BROKEN, cause, record)
    if record is not None and record.live:
        after = replace(
            record,
            revision=record.revision + 1,
            last_observed_at=_latest(record.last_observed_at, look.as_of),
            evidence=Evidence.OBSERVATION,
            verified_at=_latest(record.verified_at, look.observed_at),
            read_at=None,
            broken_reason=look.broken_reason,
        )
    else:
        after = TagRecord(
            repository=look.repository,
            name=look.tag,
            digest=None,
            revision=1 if record is None else record.revision + 1,
            last_event_at=None if record is None else record.last_event_at,
            last_observed_at=_latest(None if record is None else record.last_observed_at, look.as_of),
            evidence=Evidence.OBSERVATION,
            published_at=_after_record(record, look.observed_at),
            published_source=TimeSource.FIRST_SEEN,
            first_seen_at=look.observed_at,
            verified_at=_latest(None if record is None else record.verified_at, look.observed_at),
            broken_reason=look.broken_reason,
        )
    return (
        TagChanged(before=record, after=after, history=timeline),
        replace(
            _entry(look, AuditAction.TAG_BROKEN, source, record, digest=after.digest), detail={"cause": cause}
        ),
        finding,
    )


def _absent(
    record: TagRecord | None, timeline: Timeline, look: TagObservation, source: AuditSource
) -> tuple[Change, ...]:
    assert record is not None  # noqa: S101 - absence agrees with no record; tells mypy
    at = _after_record(record, look.observed_at)
    after = replace(
        record,
        digest=None,
        revision=record.revision + 1,
        last_observed_at=_latest(record.last_observed_at, look.as_of),
        evidence=Evidence.OBSERVATION,
        published_at=at,
        published_source=TimeSource.FIRST_SEEN,
        verified_at=_latest(record.verified_at, look.observed_at),
        broken_reason=None,
    )
    gone = Becoming(at=at, digest=None, source=TimeSource.FIRST_SEEN, not_before=record.as_of)
    return (
        TagChanged(before=record, after=after, history=history.append(timeline, gone)),
        _entry(
            look, AuditAction.TAG_DELETED, source, record, digest=record.digest, previous_digest=record.digest
        ),
        _finding(look, DriftKind.TAG_EXTRA, DriftCause.UNANNOUNCED, record),
    )


def _announced_just_before(timeline: Timeline, digest: Digest) -> Interval | None:
    """Return the interval in which an event had announced ``digest``, if what is open now raced with it."""
    current = history.open_interval(timeline)
    if current is None or current.source is not TimeSource.EVENT:
        return None
    for earlier in reversed(timeline[:-1]):
        if current.valid_from - earlier.valid_from > CLOCK_MARGIN:
            return None
        if earlier.digest == digest and earlier.source is TimeSource.EVENT:
            return earlier
    return None


def _after_record(record: TagRecord | None, at: datetime) -> datetime:
    """A change found by a look happened after what is on record, whatever the clocks say."""
    return at if record is None else max(at, record.as_of + TICK)


def _cause(record: TagRecord | None, raced: Interval | None, *, first_reconcile: bool) -> DriftCause:
    if raced is not None:
        return DriftCause.RACE
    return DriftCause.FIRST_RECONCILE if record is None and first_reconcile else DriftCause.UNANNOUNCED


def _finding(
    look: TagObservation,
    kind: DriftKind,
    cause: DriftCause,
    record: TagRecord | None,
    *,
    found: Digest | None = None,
) -> Finding:
    return Finding(
        kind=kind,
        cause=cause,
        repository=look.repository,
        tag=look.tag,
        detected_at=look.observed_at,
        repaired=True,
        not_before=None if record is None else record.as_of,
        expected=None if record is None else record.digest,
        found=found,
    )


def _entry(
    look: TagObservation,
    action: AuditAction,
    source: AuditSource,
    record: TagRecord | None,
    *,
    digest: Digest | None,
    previous_digest: Digest | None = None,
    absent_at: datetime | None = None,
) -> Entry:
    return Entry(
        action=action,
        source=source,
        repository=look.repository,
        occurred_at=_after_record(record, look.observed_at),
        recorded_at=look.observed_at,
        not_before=record.as_of if record is not None else absent_at,
        tag=look.tag,
        digest=digest,
        previous_digest=previous_digest,
    )

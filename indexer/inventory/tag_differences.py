"""What a difference between a tag and its record changes: the record, its history, an audit entry and a finding.

Each function returns the changes of one outcome of an observation that disagrees with the record and is conclusive
(``apply_tag_observation``). The change is dated after the evidence on record, whatever the clocks say.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

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
)
from indexer.inventory.history import TICK, Timeline, Transition
from indexer.inventory.observations import TagObservation, TagState
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.inventory.records import Evidence, Interval, TagRecord, TimeSource
from indexer.oci.digest import Digest


def points(
    record: TagRecord | None,
    timeline: Timeline,
    observation: TagObservation,
    source: AuditSource,
    *,
    first_reconcile: bool,
    absent_at: datetime | None,
) -> tuple[Change, ...]:
    """Return the changes where the tag points to a digest: it was created or moved, or can be read again."""
    digest = observation.digest
    assert digest is not None  # noqa: S101 - both outcomes carry one; tells mypy
    if record is not None and record.digest == digest:
        return _readable_again(record, timeline, observation, source)
    raced = _announced_just_before(timeline, digest)
    transition = _transition(record, timeline, observation, digest, raced=raced, absent_at=absent_at)
    fitted = history.append(timeline, transition)
    opened = history.open_interval(fitted)
    previous = record.digest if record is not None else None
    after = TagRecord(
        repository=observation.repository,
        name=observation.tag,
        digest=digest,
        revision=1 if record is None else record.revision + 1,
        last_event_at=record.last_event_at if record is not None else None,
        last_observed_at=latest(None if record is None else record.last_observed_at, observation.as_of),
        evidence=Evidence.OBSERVATION,
        published_at=opened.valid_from if opened is not None else transition.at,
        published_source=transition.source,
        first_seen_at=record.first_seen_at if record is not None and record.live else observation.observed_at,
        pushed_by=transition.actor,
        verified_at=latest(None if record is None else record.verified_at, observation.observed_at),
        read_at=observation.observed_at if observation.outcome is TagState.POINTS else None,
    )
    return (
        TagChanged(before=record, after=after, history=fitted),
        _entry(
            observation,
            AuditAction.TAG_CREATED if previous is None else AuditAction.TAG_MOVED,
            source,
            record,
            digest=digest,
            previous_digest=previous,
            absent_at=absent_at,
        ),
        _finding(
            observation,
            DriftKind.TAG_MISSING if previous is None else DriftKind.TAG_STALE,
            _cause(record, raced, first_reconcile=first_reconcile),
            record,
            found=digest,
            absent_at=absent_at,
        ),
    )


def broken(
    record: TagRecord | None, timeline: Timeline, observation: TagObservation, source: AuditSource
) -> tuple[Change, ...]:
    """Return the changes where the tag exists and cannot be read. One that was never announced has no digest."""
    cause = DriftCause(observation.broken_reason)
    finding = _finding(observation, DriftKind.TAG_BROKEN, cause, record)
    if record is not None and record.live:
        after = replace(
            record,
            revision=record.revision + 1,
            last_observed_at=latest(record.last_observed_at, observation.as_of),
            evidence=Evidence.OBSERVATION,
            verified_at=latest(record.verified_at, observation.observed_at),
            read_at=None,
            broken_reason=observation.broken_reason,
        )
    else:
        after = TagRecord(
            repository=observation.repository,
            name=observation.tag,
            digest=None,
            revision=1 if record is None else record.revision + 1,
            last_event_at=None if record is None else record.last_event_at,
            last_observed_at=latest(None if record is None else record.last_observed_at, observation.as_of),
            evidence=Evidence.OBSERVATION,
            published_at=_after_record(record, observation.observed_at),
            published_source=TimeSource.FIRST_SEEN,
            first_seen_at=observation.observed_at,
            verified_at=latest(None if record is None else record.verified_at, observation.observed_at),
            broken_reason=observation.broken_reason,
        )
    return (
        TagChanged(before=record, after=after, history=timeline),
        replace(
            _entry(observation, AuditAction.TAG_BROKEN, source, record, digest=after.digest),
            detail={"cause": cause},
        ),
        finding,
    )


def absent(
    record: TagRecord | None, timeline: Timeline, observation: TagObservation, source: AuditSource
) -> tuple[Change, ...]:
    """Return the changes where the tag is gone."""
    assert record is not None  # noqa: S101 - absence agrees with no record; tells mypy
    at = _after_record(record, observation.observed_at)
    after = replace(
        record,
        digest=None,
        revision=record.revision + 1,
        last_observed_at=latest(record.last_observed_at, observation.as_of),
        evidence=Evidence.OBSERVATION,
        published_at=at,
        published_source=TimeSource.FIRST_SEEN,
        verified_at=latest(record.verified_at, observation.observed_at),
        broken_reason=None,
    )
    transition = Transition(at=at, digest=None, source=TimeSource.FIRST_SEEN, not_before=record.as_of)
    return (
        TagChanged(before=record, after=after, history=history.append(timeline, transition)),
        _entry(
            observation,
            AuditAction.TAG_DELETED,
            source,
            record,
            digest=record.digest,
            previous_digest=record.digest,
        ),
        _finding(observation, DriftKind.TAG_EXTRA, DriftCause.UNANNOUNCED, record),
    )


def latest(known: datetime | None, at: datetime) -> datetime:
    """Return the later of two instants: observations are not stored in the order in which they were made."""
    return at if known is None else max(known, at)


def _readable_again(
    record: TagRecord, timeline: Timeline, observation: TagObservation, source: AuditSource
) -> tuple[Change, ...]:
    after = replace(
        record,
        revision=record.revision + 1,
        last_observed_at=latest(record.last_observed_at, observation.as_of),
        evidence=Evidence.OBSERVATION,
        verified_at=latest(record.verified_at, observation.observed_at),
        read_at=latest(record.read_at, observation.observed_at),
        broken_reason=None,
    )
    return (
        TagChanged(before=record, after=after, history=timeline),
        _entry(observation, AuditAction.TAG_READABLE, source, record, digest=record.digest),
        _finding(observation, DriftKind.TAG_READABLE, DriftCause.UNANNOUNCED, record, found=record.digest),
    )


def _transition(
    record: TagRecord | None,
    timeline: Timeline,
    observation: TagObservation,
    digest: Digest,
    *,
    raced: Interval | None,
    absent_at: datetime | None,
) -> Transition:
    """Return when and how the tag came to point to ``digest``: known by the event of ``raced``, else only found now."""
    if raced is None:
        return Transition(
            at=_after_record(record, observation.observed_at),
            digest=digest,
            source=TimeSource.FIRST_SEEN,
            not_before=record.as_of if record is not None else absent_at,
        )
    return Transition(
        at=timeline[-1].valid_from + TICK,
        digest=digest,
        source=raced.source,
        actor=raced.actor,
        event_id=raced.event_id,
    )


def _announced_just_before(timeline: Timeline, digest: Digest) -> Interval | None:
    """Return the interval in which an event announced ``digest``, if the event of the open interval raced with it."""
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
    """Return the instant of a change that was found: after what is on record, whatever the clocks say."""
    return at if record is None else max(at, record.as_of + TICK)


def _cause(record: TagRecord | None, raced: Interval | None, *, first_reconcile: bool) -> DriftCause:
    if raced is not None:
        return DriftCause.RACE
    return DriftCause.FIRST_RECONCILE if record is None and first_reconcile else DriftCause.UNANNOUNCED


def _finding(
    observation: TagObservation,
    kind: DriftKind,
    cause: DriftCause,
    record: TagRecord | None,
    *,
    found: Digest | None = None,
    absent_at: datetime | None = None,
) -> Finding:
    return Finding(
        kind=kind,
        cause=cause,
        repository=observation.repository,
        tag=observation.tag,
        detected_at=observation.observed_at,
        repaired=True,
        not_before=absent_at if record is None else record.as_of,
        expected=None if record is None else record.digest,
        found=found,
    )


def _entry(
    observation: TagObservation,
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
        repository=observation.repository,
        occurred_at=_after_record(record, observation.observed_at),
        recorded_at=observation.observed_at,
        not_before=record.as_of if record is not None else absent_at,
        tag=observation.tag,
        digest=digest,
        previous_digest=previous_digest,
    )

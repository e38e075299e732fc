"""A tag's timeline: sorted intervals that never overlap, and how a transition is inserted.

Notifications arrive late and out of order, so a transition may belong in the middle. Then the interval that contains
its instant ends there, and nothing else changes. Only the part of a timeline that it can change needs to be loaded: the
interval that contains its instant, and everything after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from indexer.inventory.records import Interval, TimeSource
from indexer.oci.digest import Digest

Timeline = tuple[Interval, ...]

_BOUNDS = (TimeSource.FIRST_SEEN, TimeSource.STORAGE)
"""Such an instant is only the latest possible one; an event has the instant itself."""

TICK = timedelta(microseconds=1)
"""The least distance of two instants in PostgreSQL. Used where the order is known but the instants are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """At ``at`` the tag came to point to ``digest`` (None: it was deleted). ``source`` says how that is known."""

    at: datetime
    digest: Digest | None
    source: TimeSource
    not_before: datetime | None = None
    actor: str | None = None
    event_id: str | None = None

    def begin(self) -> Interval | None:
        """Return the interval that it begins; None for a deletion."""
        if self.digest is None:
            return None
        return Interval(
            valid_from=self.at,
            valid_to=None,
            digest=self.digest,
            source=self.source,
            not_before=self.not_before,
            actor=self.actor,
            event_id=self.event_id,
        )

    def end(self, interval: Interval) -> Interval:
        """Return ``interval``, ended by it."""
        return replace(interval, valid_to=self.at, to_source=self.source, to_not_before=self.not_before)


def open_interval(timeline: Timeline) -> Interval | None:
    """Return the interval that has no end: what the tag points to now."""
    return timeline[-1] if timeline and timeline[-1].valid_to is None else None


def alive_since(timeline: Timeline, known: datetime | None) -> datetime | None:
    """Return since when the tag exists without a gap.

    Where the loaded part has no gap at all, the tag may be older; ``known`` is what was on record.
    """
    current = open_interval(timeline)
    if current is None:
        return known
    began = current.valid_from
    for earlier in reversed(timeline[:-1]):
        if earlier.valid_to != began:
            return began
        began = earlier.valid_from
    return began if known is None else min(known, began)


def interval_at(timeline: Timeline, at: datetime) -> Interval | None:
    """Return the interval that contains ``at``."""
    for interval in reversed(timeline):
        if interval.valid_from <= at:
            return interval if interval.valid_to is None or at < interval.valid_to else None
    return None


def append(timeline: Timeline, transition: Transition) -> Timeline:
    """Add the newest transition: end the open interval and begin the next. The same digest again changes nothing.

    Its instant may be the start of the open interval, or lie before it, since a ``Date`` has whole seconds. Then it is
    put one tick after that start: its place in the order is known, its instant is not.
    """
    current = open_interval(timeline)
    if current is not None and current.digest == transition.digest:
        return timeline
    if current is not None:
        transition = replace(transition, at=max(transition.at, current.valid_from + TICK))
    elif timeline and timeline[-1].valid_to is not None:
        transition = replace(transition, at=max(transition.at, timeline[-1].valid_to))
    closed = timeline if current is None else (*timeline[:-1], transition.end(current))
    started = transition.begin()
    return closed if started is None else (*closed, started)


def date(timeline: Timeline, transition: Transition) -> Timeline:
    """Give what an observation found last the instant of the event that caused it, which came only then.

    That is the start of the open interval or, of a deleted tag, the end of the last one. Only an earlier instant, or an
    equal one, is that of the cause. Anything else stays as it is.
    """
    if not timeline or transition.source is not TimeSource.EVENT:
        return timeline
    found = timeline[-1]
    if transition.digest is None:
        return _replaced(timeline, {found: transition.end(found)} if _ends(transition, found) else {})
    is_cause = (
        found.valid_to is None
        and found.digest == transition.digest
        and found.source in _BOUNDS
        and transition.at <= found.valid_from
    )
    by = {found: _dated_by(found, transition)} if is_cause else {}
    for earlier in timeline[-2:-1]:
        if earlier.valid_to == found.valid_from and _ends(transition, earlier):
            by[earlier] = transition.end(earlier)
        elif earlier.valid_to is None or earlier.valid_to > transition.at:
            return timeline
    return _replaced(timeline, by if is_cause else {})


def insert(
    timeline: Timeline,
    transition: Transition,
    *,
    resumed_at: datetime | None,
    ends_at: datetime | None,
    ends_source: TimeSource = TimeSource.FIRST_SEEN,
) -> Timeline:
    """Insert a late transition: the tag pointed to its digest from ``transition.at`` until the next transition known.

    ``resumed_at``: newer evidence had confirmed what is open now; it is open again from there. ``ends_at``: where
    nothing follows in the timeline, the tag is known to be deleted from there (a tombstone), by ``ends_source``.
    Where nothing fits between (a tie with an interval of one tick) the timeline stays as it is.
    """
    containing = interval_at(timeline, transition.at)
    if containing is None:
        return _insert_into_gap(timeline, transition, ends_at=ends_at, ends_source=ends_source)
    if containing.digest == transition.digest:
        return timeline
    follower = _follower(timeline, containing)
    if follower is not None and _explains(transition, follower) and transition.at > containing.valid_from:
        return _replaced(
            timeline, {containing: transition.end(containing), follower: _dated_by(follower, transition)}
        )
    if transition.at == containing.valid_from:
        transition = replace(transition, at=transition.at + TICK)
    end = containing.valid_to if containing.valid_to is not None else resumed_at
    if end is None or transition.at >= end:
        return timeline
    pieces = [transition.end(containing)]
    late = transition.begin()
    if late is not None:
        known = containing.valid_to is not None
        source = containing.to_source if known else TimeSource.FIRST_SEEN
        not_before = containing.to_not_before if known else transition.at
        pieces.append(
            replace(late, valid_to=end, to_source=source, to_not_before=_later(not_before, transition.at))
        )
    if containing.valid_to is None:
        pieces.append(
            replace(
                containing,
                valid_from=end,
                source=TimeSource.FIRST_SEEN,
                not_before=transition.at,
                event_id=None,
            )
        )
    at = timeline.index(containing)
    return (*timeline[:at], *pieces, *timeline[at + 1 :])


def overlaps(timeline: Timeline) -> bool:
    """Tell whether intervals overlap, one is empty, or an open one is not the last. That must never be."""
    for earlier, later in pairwise(timeline):
        if earlier.valid_to is None or earlier.valid_to > later.valid_from:
            return True
    return any(part.valid_to is not None and part.valid_to <= part.valid_from for part in timeline)


def _insert_into_gap(
    timeline: Timeline, transition: Transition, *, ends_at: datetime | None, ends_source: TimeSource
) -> Timeline:
    follower = next((part for part in timeline if part.valid_from > transition.at), None)
    if follower is not None and _explains(transition, follower):
        return _replaced(timeline, {follower: _dated_by(follower, transition)})
    end = follower.valid_from if follower is not None else ends_at
    if end is None or transition.at >= end:
        return timeline
    late = transition.begin()
    if late is None:
        return timeline
    source = ends_source if follower is None else follower.source
    not_before = None if follower is None else follower.not_before
    if source is not TimeSource.EVENT:
        not_before = transition.at if not_before is None else max(not_before, transition.at)
    late = replace(late, valid_to=end, to_source=source, to_not_before=not_before)
    at = timeline.index(follower) if follower is not None else len(timeline)
    return (*timeline[:at], late, *timeline[at:])


def _later(bound: datetime | None, at: datetime) -> datetime | None:
    """Return a lower bound of an end, which is never before the start ``at``."""
    return None if bound is None else max(bound, at)


def _follower(timeline: Timeline, containing: Interval) -> Interval | None:
    """Return the interval that begins where another ends."""
    at = timeline.index(containing) + 1
    if at < len(timeline) and timeline[at].valid_from == containing.valid_to:
        return timeline[at]
    return None


def _ends(transition: Transition, found: Interval) -> bool:
    """Tell whether ``transition`` is what ended an interval whose end an observation had found."""
    return (
        found.valid_to is not None
        and found.to_source in _BOUNDS
        and found.valid_from < transition.at <= found.valid_to
    )


def _explains(transition: Transition, found: Interval) -> bool:
    """Tell whether ``transition`` is the push whose result an observation had found before its event came."""
    return (
        found.digest == transition.digest
        and found.source in _BOUNDS
        and (found.not_before is None or found.not_before <= transition.at)
    )


def _dated_by(found: Interval, transition: Transition) -> Interval:
    return replace(
        found,
        valid_from=transition.at,
        source=transition.source,
        not_before=None,
        actor=transition.actor,
        event_id=transition.event_id,
    )


def _replaced(timeline: Timeline, by: dict[Interval, Interval]) -> Timeline:
    return tuple(by.get(part, part) for part in timeline)

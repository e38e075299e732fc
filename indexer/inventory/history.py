"""A tag's timeline: sorted, never overlapping intervals, and how one more instant is fitted in.

Notifications arrive late and out of order, so an instant may belong in the middle: then the interval it falls
into is cut short there, and nothing else changes. Only the part of a timeline that an instant can touch needs
to be loaded: the interval holding it and everything after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from indexer.inventory.records import Interval, TimeSource
from indexer.oci.digest import Digest

Timeline = tuple[Interval, ...]

TICK = timedelta(microseconds=1)
"""The least distance of two instants in PostgreSQL; used where the order is known but the instants are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Becoming:
    """At ``at`` the tag came to point to ``digest`` (None: was deleted), and how we know."""

    at: datetime
    digest: Digest | None
    source: TimeSource
    not_before: datetime | None = None
    actor: str | None = None
    event_id: str | None = None

    def begin(self) -> Interval | None:
        """Return the interval this instant starts; None for a deletion."""
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
        """Return ``interval`` as this instant ends it."""
        return replace(interval, valid_to=self.at, to_source=self.source, to_not_before=self.not_before)


def open_interval(timeline: Timeline) -> Interval | None:
    """Return the interval that has no end: what the tag points to now."""
    return timeline[-1] if timeline and timeline[-1].valid_to is None else None


def alive_since(timeline: Timeline, known: datetime | None) -> datetime | None:
    """Return when the tag came to be: the start of what has no gap up to now.

    Where the loaded part has no gap at all, the tag may be older than it: then ``known`` is what was on record.
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


def held_at(timeline: Timeline, at: datetime) -> Interval | None:
    """Return the interval that holds ``at``."""
    for interval in reversed(timeline):
        if interval.valid_from <= at:
            return interval if interval.valid_to is None or at < interval.valid_to else None
    return None


def append(timeline: Timeline, news: Becoming) -> Timeline:
    """Add the newest instant: close what is open, open the next. The same digest again changes nothing.

    News that ties with, or by a look's whole-second clock lies before, the start of the open interval is put
    one tick after it: its place in the order is known, its instant is not.
    """
    current = open_interval(timeline)
    if current is not None and current.digest == news.digest:
        return timeline
    if current is not None:
        news = replace(news, at=max(news.at, current.valid_from + TICK))
    elif timeline and timeline[-1].valid_to is not None:
        news = replace(news, at=max(news.at, timeline[-1].valid_to))
    closed = timeline if current is None else (*timeline[:-1], news.end(current))
    started = news.begin()
    return closed if started is None else (*closed, started)


def insert(
    timeline: Timeline,
    news: Becoming,
    *,
    resumed_at: datetime | None,
    ends_at: datetime | None,
    ends_source: TimeSource = TimeSource.FIRST_SEEN,
) -> Timeline:
    """Fit late news in: it held from ``news.at`` until the next thing known.

    ``resumed_at``: newer evidence had confirmed what is open now; it holds (again) from there.
    ``ends_at``: where nothing follows in the timeline, the tag is known to be gone from there (a tombstone), by
    ``ends_source``.
    Where there is no room (a tie with an interval of one tick) the timeline stays as it is.
    """
    holder = held_at(timeline, news.at)
    if holder is None:
        return _insert_into_gap(timeline, news, ends_at=ends_at, ends_source=ends_source)
    if holder.digest == news.digest:
        return timeline
    follower = _follower(timeline, holder)
    if follower is not None and _explains(news, follower) and news.at > holder.valid_from:
        return _replaced(timeline, {holder: news.end(holder), follower: _dated_by(follower, news)})
    if news.at == holder.valid_from:
        news = replace(news, at=news.at + TICK)
    end = holder.valid_to if holder.valid_to is not None else resumed_at
    if end is None or news.at >= end:
        return timeline
    pieces = [news.end(holder)]
    late = news.begin()
    if late is not None:
        known = holder.valid_to is not None
        source = holder.to_source if known else TimeSource.FIRST_SEEN
        not_before = holder.to_not_before if known else news.at
        pieces.append(
            replace(late, valid_to=end, to_source=source, to_not_before=_later(not_before, news.at))
        )
    if holder.valid_to is None:
        pieces.append(
            replace(holder, valid_from=end, source=TimeSource.FIRST_SEEN, not_before=news.at, event_id=None)
        )
    at = timeline.index(holder)
    return (*timeline[:at], *pieces, *timeline[at + 1 :])


def overlaps(timeline: Timeline) -> bool:
    """Tell whether any two intervals overlap, are empty, or an open one is not the last. Never, if we are right."""
    for earlier, later in pairwise(timeline):
        if earlier.valid_to is None or earlier.valid_to > later.valid_from:
            return True
    return any(part.valid_to is not None and part.valid_to <= part.valid_from for part in timeline)


def _insert_into_gap(
    timeline: Timeline, news: Becoming, *, ends_at: datetime | None, ends_source: TimeSource
) -> Timeline:
    follower = next((part for part in timeline if part.valid_from > news.at), None)
    if follower is not None and _explains(news, follower):
        return _replaced(timeline, {follower: _dated_by(follower, news)})
    end = follower.valid_from if follower is not None else ends_at
    if end is None or news.at >= end:
        return timeline
    late = news.begin()
    if late is None:
        return timeline
    source = ends_source if follower is None else follower.source
    not_before = None if follower is None else follower.not_before
    if source is not TimeSource.EVENT:
        not_before = news.at if not_before is None else max(not_before, news.at)
    late = replace(late, valid_to=end, to_source=source, to_not_before=not_before)
    at = timeline.index(follower) if follower is not None else len(timeline)
    return (*timeline[:at], late, *timeline[at:])


def _later(bound: datetime | None, at: datetime) -> datetime | None:
    """Return a lower bound of an end, which is never before the start ``at``."""
    return None if bound is None else max(bound, at)


def _follower(timeline: Timeline, holder: Interval) -> Interval | None:
    """Return the interval that begins where ``holder`` ends."""
    at = timeline.index(holder) + 1
    if at < len(timeline) and timeline[at].valid_from == holder.valid_to:
        return timeline[at]
    return None


def _explains(news: Becoming, found: Interval) -> bool:
    """Tell whether ``news`` is the push whose result a look had found before the notification arrived."""
    return (
        found.digest == news.digest
        and found.source is TimeSource.FIRST_SEEN
        and (found.not_before is None or found.not_before <= news.at)
    )


def _dated_by(found: Interval, news: Becoming) -> Interval:
    return replace(
        found,
        valid_from=news.at,
        source=news.source,
        not_before=None,
        actor=news.actor,
        event_id=news.event_id,
    )


def _replaced(timeline: Timeline, by: dict[Interval, Interval]) -> Timeline:
    return tuple(by.get(part, part) for part in timeline)

"""Which evidence wins.

An event reports a past instant, by the registry's clock. An observation is first-hand but slow, by our clock. The
rules, in the order they apply to an event that names a tag:

1. Nothing on record: NEWER.
2. Older than the newest event on record: LATE. Two events are ordered by their timestamps, also those of two replicas,
   since nothing better is known; verification corrects it.
3. Not older than the newest observation: NEWER.
4. Older than the observation, but within the clock margin: NEWER as well. The registry sends the event before it
   writes the tag (up to 97 % of immediate observations on 3.1.1 found the old state), and the clocks differ. The record
   is unverified until an observation agrees.
5. Otherwise LATE: history and audit log take it, the state does not change. If the event names another state, the
   record becomes unverified.

In every case the tag is verified afterwards.

Where the event names the state that an observation had found, in whatever order they are, the event dates it if it is
not later than the observation (``history.date``, ``history.insert``): an observation is made after the write.

Our own clock may be set back (decision record 44). What is on record was stored before, so it is a better bound than
the clock. An event with a timestamp after its receipt is dated no later than the record (:func:`instant_of`). An
observation that is stored over the revision it was made for is younger than that revision, whatever the clock says
(``apply_tag_observation``).

An imported event may be years old. There may be no record of its tag, and yet evidence that the tag did not exist at a
later instant: a complete comparison of the repository, or the history. That absence is weighed like a record
(:func:`absence`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

from indexer.inventory.events import Event
from indexer.inventory.records import Evidence, TagKey, TagRecord, TimeSource

CLOCK_MARGIN = timedelta(seconds=5)
"""How far our clock and the registry's, or two replicas', may differ, plus the time from event to written tag."""

RACE_WINDOW = timedelta(seconds=2)
"""After an event the registry may still be writing the tag it announced: an observation that disagrees proves nothing.

Measured on a local disk: p99 23 ms, at most 36 ms; object stores need far more."""

DUMMY_DELETION_WINDOW = timedelta(seconds=60)
"""How long after the last event of a tag that GitLab deleted by a dummy the registry may still be deleting it.

Distribution 2.8 deletes the dummy's manifest first, then its tags one after the other, each by reading the links of all
tags: until a tag's turn comes it is listed and cannot be read."""


class EventOrder(Enum):
    """The place of an event beside the record."""

    NEWER = "newer"
    LATE = "late"


def is_close(one: datetime, other: datetime, *, margin: timedelta = CLOCK_MARGIN) -> bool:
    """Tell whether two instants of different clocks are too close for their order to be known."""
    return abs(one - other) <= margin


def instant_of(event: Event, known_at: datetime | None) -> datetime:
    """Return the instant an event reports, beside a record whose newest evidence is of ``known_at``.

    Never later than its receipt, or than the record where that is later: then our clock has been set back since, or the
    event waited here while the registry was observed.
    """
    if event.claimed_at is None or known_at is None or known_at <= event.occurred_at:
        return event.occurred_at
    return min(event.claimed_at, known_at)


def weigh(record: TagRecord | None, at: datetime, *, margin: timedelta = CLOCK_MARGIN) -> EventOrder:
    """Weigh an event of instant ``at`` against what is on record."""
    if record is None:
        return EventOrder.NEWER
    if record.last_event_at is not None and at < record.last_event_at:
        return EventOrder.LATE
    if record.last_observed_at is None or at >= record.last_observed_at - margin:
        return EventOrder.NEWER
    return EventOrder.LATE


def is_past_race_window(
    record: TagRecord | None, observed_at: datetime, *, window: timedelta = RACE_WINDOW
) -> bool:
    """Tell whether an observation may overrule the record: no event named the tag within the window before it."""
    return record is None or record.last_event_at is None or observed_at - record.last_event_at >= window


def absence(key: TagKey, absent_at: datetime) -> TagRecord:
    """Return a record for a tag of which is only known that it did not exist at an instant."""
    return TagRecord(
        repository=key[0],
        name=key[1],
        digest=None,
        revision=0,
        last_event_at=None,
        last_observed_at=absent_at,
        evidence=Evidence.OBSERVATION,
        published_at=absent_at,
        published_source=TimeSource.FIRST_SEEN,
        first_seen_at=absent_at,
        verified_at=absent_at,
    )


def window_of(record: TagRecord | None, *, broken: bool) -> timedelta:
    """Return how long after an event an observation that disagrees proves nothing. ``broken``: listed, unreadable."""
    is_deletion = broken and record is not None and record.deleted_by_dummy
    return DUMMY_DELETION_WINDOW if is_deletion else RACE_WINDOW

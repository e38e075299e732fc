"""When a tag is observed again, and when it is verified. Pure.

The rules, in the order they apply to a stored observation:

1. An event arrived while it was made: it does not count; observe again soon.
2. It disagrees with the record, and an event named the tag within the race window: observe again, further apart each
   time.
3. It agrees with the record, or the record was changed to agree: one confirmation. Two in a row verify the tag.

The number of observations shows how long a tag has waited, since a clock may be set back: :func:`has_waited`. A failure
for this tag alone (denied, an invalid answer) concludes nothing, and the tag is observed again ever more rarely. One
exception: a tag that is listed and answers 500 again and again while other tags are served is broken (an empty or
damaged link answers so for ever). If the registry does not answer at all, no attempt is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from indexer.common.backoff import growing_wait
from indexer.inventory.precedence import RACE_WINDOW
from indexer.store.apply import Stored
from indexer.store.work_items import Deferred, WorkItem

AGREEMENTS = 2
SPACING = timedelta(seconds=1)
LONGEST_SPACING = timedelta(seconds=60)
MOST_COUNTED = 10
"""Observations that are counted: longer than any window lasts."""
RETRY = timedelta(seconds=10)
LONGEST_RETRY = timedelta(minutes=15)
UNREADABLE = "unreadable"
UNREADABLE_AFTER = 4
"""Answers of 500 in a row before the one that concludes: with the waits between them at least 150 s, longer than a
failover of the storage takes."""


class ItemOutcome(Enum):
    """What ends a work item."""

    VERIFIED = "verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The result of an observation of the tag."""

    stored: Stored
    state: str
    """A digest, ``absent`` or ``broken``."""


def after_observation(row: WorkItem, observed: Observed, *, now: datetime) -> Deferred | ItemOutcome:
    """Decide whether the tag is verified, else when to observe it again."""
    observations = row.observations + 1
    match observed.stored:
        case Stored.OVERTAKEN:
            return Deferred(row=row, due_at=now + SPACING, last_observation=observed.state)
        case Stored.INCONCLUSIVE:
            return Deferred(
                row=row,
                due_at=now + spacing(observations),
                observations=observations,
                last_observation=observed.state,
            )
        case Stored.CONFIRMED | Stored.CHANGED:
            confirmations = row.confirmations + 1 if observed.stored is Stored.CONFIRMED else 1
            if confirmations >= AGREEMENTS:
                return ItemOutcome.VERIFIED
            return Deferred(
                row=row,
                due_at=now + SPACING,
                observations=observations,
                confirmations=confirmations,
                last_observation=observed.state,
            )
    assert_never(observed.stored)


def has_waited(row: WorkItem, *, state: str, window: timedelta = RACE_WINDOW) -> bool:
    """Return whether an observation finds the same state as the one before it, after the window (``window_of``).

    The observations since the newest event were ``spacing`` apart: together that has passed since, at least.
    """
    waits = (spacing(number) for number in range(1, min(row.observations, MOST_COUNTED) + 1))
    return sum(waits, timedelta(0)) > window and row.last_observation == state


def after_failure(row: WorkItem, *, now: datetime, unreadable: bool = False) -> Deferred:
    """Decide when to ask again after a failure. ``unreadable``: the registry answered 500 for this tag.

    Answers of 500 are counted in a row: another failure between them begins anew.
    """
    wait = growing_wait(row.attempts + 1, first=RETRY.total_seconds(), longest=LONGEST_RETRY.total_seconds())
    was_unreadable = row.last_observation == UNREADABLE
    return Deferred(
        row=row,
        due_at=now + timedelta(seconds=wait),
        attempts=row.attempts + 1 if unreadable == was_unreadable else 1,
        observations=row.observations,
        confirmations=0,
        last_observation=UNREADABLE if unreadable else None if was_unreadable else row.last_observation,
    )


def is_unreadable(row: WorkItem) -> bool:
    """Return whether a tag answered 500 so often in a row that one more counts: it is broken, if it is listed."""
    return row.last_observation == UNREADABLE and row.attempts >= UNREADABLE_AFTER


def spacing(observations: int) -> timedelta:
    """Return the wait after so many observations: 1 s, 2 s, 4 s … 60 s."""
    doublings: int = 2 ** min(observations - 1, 16)
    return min(SPACING * doublings, LONGEST_SPACING)

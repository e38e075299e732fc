"""When to look at a tag again. Pure.

The rules, in the order they apply to one stored look:

1. News arrived while the look was under way: it counts for nothing, look again soon.
2. The look disagrees, but an event spoke of the tag too recently: look again, further apart each time.
3. The look agrees with the record (or the record was changed to agree with it): one agreement more; two in a
   row settle the tag.

How long looks have waited is told by their number, since the clock may have been set back: :func:`has_waited`.
A look without an answer for this tag alone (denied, nonsense) is repeated ever more rarely and concludes
nothing. But for one: a tag that is listed, and answers 500 again and again while other tags are served, is broken (an
empty or damaged link does that for ever). A registry that does not answer at all is the harness's matter: no attempts
are burnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from indexer.common.backoff import growing_wait
from indexer.store.apply import Stored
from indexer.store.work_items import Deferred, WorkItem

AGREEMENTS = 2
OBSERVATIONS_UNTIL_WAITED = 2
SPACING = timedelta(seconds=1)
LONGEST_SPACING = timedelta(seconds=60)
RETRY = timedelta(seconds=10)
LONGEST_RETRY = timedelta(minutes=15)
UNREADABLE = "unreadable"
UNREADABLE_AFTER = 4
"""Looks in a row that were answered 500, before the one that concludes: with the waits between them at least 150 s,
longer than a storage that fails over."""


class ItemOutcome(Enum):
    """Settled: nothing more to do."""

    VERIFIED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a look at the tag came to."""

    stored: Stored
    saw: str
    """A digest, ``absent`` or ``broken``."""


def after_observation(row: WorkItem, look: Observed, *, now: datetime) -> Deferred | ItemOutcome:
    """Decide whether the tag is settled, else when to look again."""
    observations = row.observations + 1
    match look.stored:
        case Stored.OVERTAKEN:
            return Deferred(row=row, due_at=now + SPACING, last_observation=look.saw)
        case Stored.INCONCLUSIVE:
            return Deferred(
                row=row,
                due_at=now + spacing(observations),
                observations=observations,
                last_observation=look.saw,
            )
        case Stored.CONFIRMED | Stored.CHANGED:
            confirmations = row.confirmations + 1 if look.stored is Stored.CONFIRMED else 1
            if confirmations >= AGREEMENTS:
                return ItemOutcome.VERIFIED
            return Deferred(
                row=row,
                due_at=now + SPACING,
                observations=observations,
                confirmations=confirmations,
                last_observation=look.saw,
            )
    assert_never(look.stored)


def has_waited(row: WorkItem, *, saw: str) -> bool:
    """Tell whether a look saw again what was seen before, and this long after the newest event.

    The looks since then were 1 s and 2 s apart, so that the event is longer ago than the race window.
    """
    return row.observations >= OBSERVATIONS_UNTIL_WAITED and row.last_observation == saw


def after_failure(row: WorkItem, *, now: datetime, unreadable: bool = False) -> Deferred:
    """Decide when to repeat a look that had no answer. ``unreadable``: the registry answered 500 for this tag.

    These are counted in a row: another failure between them begins anew.
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
    """Tell whether a tag answered 500 so often in a row that one more is an answer: it is broken, if it is listed."""
    return row.last_observation == UNREADABLE and row.attempts >= UNREADABLE_AFTER


def spacing(observations: int) -> timedelta:
    """Return how far apart looks are after ``looks`` of them: 1 s, 2 s, 4 s … 60 s."""
    doublings: int = 2 ** min(observations - 1, 16)
    return min(SPACING * doublings, LONGEST_SPACING)

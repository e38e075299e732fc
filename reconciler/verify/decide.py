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

from indexer.backoff import growing_wait
from indexer.store.apply import Stored
from indexer.store.due import Deferred, DueRow

AGREEMENTS = 2
LOOKS_UNTIL_WAITED = 2
SPACING = timedelta(seconds=1)
LONGEST_SPACING = timedelta(seconds=60)
RETRY = timedelta(seconds=10)
LONGEST_RETRY = timedelta(minutes=15)
UNREADABLE = "unreadable"
UNREADABLE_AFTER = 4
"""Looks in a row that were answered 500, before the one that concludes: with the waits between them at least 150 s,
longer than a storage that fails over."""


class Verdict(Enum):
    """Settled: nothing more to do."""

    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at the tag came to."""

    stored: Stored
    saw: str
    """A digest, ``absent`` or ``broken``."""


def after_look(row: DueRow, look: Look, *, now: datetime) -> Deferred | Verdict:
    """Decide whether the tag is settled, else when to look again."""
    looks = row.looks + 1
    match look.stored:
        case Stored.OVERTAKEN:
            return Deferred(row=row, due_at=now + SPACING, last_seen=look.saw)
        case Stored.DOUBTED:
            return Deferred(row=row, due_at=now + spacing(looks), looks=looks, last_seen=look.saw)
        case Stored.CONFIRMED | Stored.CHANGED:
            agreed = row.agreed + 1 if look.stored is Stored.CONFIRMED else 1
            if agreed >= AGREEMENTS:
                return Verdict.SETTLED
            return Deferred(row=row, due_at=now + SPACING, looks=looks, agreed=agreed, last_seen=look.saw)
    assert_never(look.stored)


def has_waited(row: DueRow, *, saw: str) -> bool:
    """Tell whether a look saw again what was seen before, and this long after the newest event.

    The looks since then were 1 s and 2 s apart, so that the event is longer ago than the race window.
    """
    return row.looks >= LOOKS_UNTIL_WAITED and row.last_seen == saw


def after_failure(row: DueRow, *, now: datetime, unreadable: bool = False) -> Deferred:
    """Decide when to repeat a look that had no answer. ``unreadable``: the registry answered 500 for this tag.

    These are counted in a row: another failure between them begins anew.
    """
    wait = growing_wait(row.attempts + 1, first=RETRY.total_seconds(), longest=LONGEST_RETRY.total_seconds())
    was_unreadable = row.last_seen == UNREADABLE
    return Deferred(
        row=row,
        due_at=now + timedelta(seconds=wait),
        attempts=row.attempts + 1 if unreadable == was_unreadable else 1,
        looks=row.looks,
        agreed=0,
        last_seen=UNREADABLE if unreadable else None if was_unreadable else row.last_seen,
    )


def is_unreadable(row: DueRow) -> bool:
    """Tell whether a tag answered 500 so often in a row that one more is an answer: it is broken, if it is listed."""
    return row.last_seen == UNREADABLE and row.attempts >= UNREADABLE_AFTER


def spacing(looks: int) -> timedelta:
    """Return how far apart looks are after ``looks`` of them: 1 s, 2 s, 4 s … 60 s."""
    doublings: int = 2 ** min(looks - 1, 16)
    return min(SPACING * doublings, LONGEST_SPACING)

"""Our own requests show whether the registry announces pulls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.store.traits import Shown
from reconciler.announced import NOTED_LATE, PATIENCE, Verdict, decide

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LATER = PATIENCE + SECOND


def shown(after: timedelta, *, holds: bool = True) -> Shown:
    return Shown(holds=holds, because="", since=SINCE, observed_at=SINCE + after)


@pytest.mark.parametrize(
    ("known", "applied", "now", "expected"),
    [
        (shown(SECOND), SECOND, SECOND, Verdict.ANNOUNCED),
        (shown(-NOTED_LATE), SECOND, SECOND, Verdict.ANNOUNCED),  # noted once a minute
        (shown(-NOTED_LATE - SECOND), LATER, LATER, Verdict.PASSED_OVER),  # they were, and are no more
        (shown(SECOND, holds=False), LATER, LATER, Verdict.PASSED_OVER),
        (None, LATER, LATER, Verdict.PASSED_OVER),
        (None, SECOND, SECOND, Verdict.UNDECIDED),
        (None, SECOND, LATER, Verdict.UNDECIDED),  # the event may wait in the inbox
    ],
)
def test_decide__by_our_own_requests(
    known: Shown | None, applied: timedelta, now: timedelta, expected: Verdict
) -> None:
    """What we asked for long ago, and no pull of which was announced, shows that none is."""
    assert expected is decide(SINCE, known, applied_until=SINCE + applied, now=SINCE + now)

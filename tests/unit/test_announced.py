"""Our own requests show whether the registry announces pulls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.store.traits import TraitState
from reconciler.pulls.announced import PATIENCE, STORED_LATE, PullAnnouncement, decide

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LATER = PATIENCE + SECOND


def shown(after: timedelta, *, holds: bool = True) -> TraitState:
    return TraitState(holds=holds, because="", changed_at=SINCE, observed_at=SINCE + after)


@pytest.mark.parametrize(
    ("known", "applied", "now", "expected"),
    [
        (shown(SECOND), SECOND, SECOND, PullAnnouncement.ANNOUNCED),
        (shown(-STORED_LATE), SECOND, SECOND, PullAnnouncement.ANNOUNCED),  # noted once a minute
        (
            shown(-STORED_LATE - SECOND),
            LATER,
            LATER,
            PullAnnouncement.NOT_ANNOUNCED,
        ),  # they were, and are no more
        (shown(SECOND, holds=False), LATER, LATER, PullAnnouncement.NOT_ANNOUNCED),
        (None, LATER, LATER, PullAnnouncement.NOT_ANNOUNCED),
        (None, SECOND, SECOND, PullAnnouncement.UNDECIDED),
        (None, SECOND, LATER, PullAnnouncement.UNDECIDED),  # the event may wait in the inbox
    ],
)
def test_decide__by_our_own_requests(
    known: TraitState | None, applied: timedelta, now: timedelta, expected: PullAnnouncement
) -> None:
    """What we asked for long ago, and no pull of which was announced, shows that none is."""
    assert expected is decide(SINCE, known, applied_until=SINCE + applied, now=SINCE + now)

"""When a tag is observed again, and when it is verified."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.inventory.changes import WorkKind
from indexer.inventory.precedence import DUMMY_DELETION_WINDOW, RACE_WINDOW
from indexer.oci.reference import RepositoryName
from indexer.store.apply import Stored
from indexer.store.work_items import Deferred, WorkItem
from reconciler.verify.decide import (
    LONGEST_SPACING,
    SPACING,
    UNREADABLE,
    ItemOutcome,
    Observed,
    after_failure,
    after_observation,
    has_waited,
    spacing,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def item(
    *, attempts: int = 0, observations: int = 0, confirmations: int = 0, last_observation: str | None = None
) -> WorkItem:
    return WorkItem(
        kind=WorkKind.VERIFY,
        repository_id=1,
        repository=RepositoryName("team/app"),
        key="v1",
        generation=1,
        attempts=attempts,
        observations=observations,
        confirmations=confirmations,
        last_observation=last_observation,
        waiting_since=NOW,
    )


@pytest.mark.parametrize(
    ("row", "stored", "observations", "confirmations", "wait"),
    [
        (item(), Stored.CONFIRMED, 1, 1, 1),
        (item(), Stored.CHANGED, 1, 1, 1),
        (item(observations=1, confirmations=1), Stored.CHANGED, 2, 1, 1),
        (item(observations=5, confirmations=1, attempts=3), Stored.INCONCLUSIVE, 6, 0, 32),
        (item(), Stored.INCONCLUSIVE, 1, 0, 1),
        (item(observations=2), Stored.INCONCLUSIVE, 3, 0, 4),
        (item(observations=5, confirmations=1, attempts=3), Stored.OVERTAKEN, 0, 0, 1),
    ],
)
def test_observation__that_does_not_end_the_work(
    row: WorkItem, stored: Stored, observations: int, confirmations: int, wait: int
) -> None:
    """A change is the first confirmation, a doubt is none, an event begins everything anew; failures are forgotten."""
    assert Deferred(
        row=row,
        due_at=NOW + wait * SPACING,
        attempts=0,
        observations=observations,
        confirmations=confirmations,
        last_observation="sha256:a",
    ) == after_observation(row, Observed(stored=stored, state="sha256:a"), now=NOW)


@pytest.mark.parametrize("observations", [1, 7])
def test_observation__that_confirms_once_more_verifies(observations: int) -> None:
    """Two in a row, however many there were before."""
    row = item(observations=observations, confirmations=1, last_observation="sha256:a")
    assert ItemOutcome.VERIFIED is after_observation(
        row, Observed(stored=Stored.CONFIRMED, state="sha256:a"), now=NOW
    )


@pytest.mark.parametrize(
    ("window", "observations", "last_observation", "waited"),
    [
        (RACE_WINDOW, 1, "sha256:a", False),
        (RACE_WINDOW, 2, "sha256:a", True),
        (RACE_WINDOW, 2, "sha256:b", False),
        (RACE_WINDOW, 9, None, False),
        (DUMMY_DELETION_WINDOW, 5, "sha256:a", False),
        (DUMMY_DELETION_WINDOW, 6, "sha256:a", True),
        (DUMMY_DELETION_WINDOW, 6, "sha256:b", False),
        (DUMMY_DELETION_WINDOW, 10**6, "sha256:a", True),
    ],
)
def test_wait__is_over_once_the_same_was_observed_often_enough(
    window: timedelta, observations: int, last_observation: str | None, waited: bool
) -> None:
    """Observations that find one thing after the other prove no more than the last of them."""
    row = item(observations=observations, last_observation=last_observation)
    assert waited is has_waited(row, state="sha256:a", window=window)


def test_wait__grows_to_its_end() -> None:
    """Two waits outlast the race window: the registry has written the link by then. None is longer than the longest."""
    assert spacing(1) + spacing(2) > RACE_WINDOW
    assert LONGEST_SPACING == spacing(7) == spacing(10**6)


@pytest.mark.parametrize(
    ("row", "unreadable", "attempts", "last_observation"),
    [
        (item(attempts=2, last_observation="sha256:a"), False, 3, "sha256:a"),
        (item(attempts=2, last_observation="sha256:a"), True, 1, UNREADABLE),
        (item(attempts=2, last_observation=UNREADABLE), True, 3, UNREADABLE),
        (item(attempts=2, last_observation=UNREADABLE), False, 1, None),
        (item(attempts=2), True, 1, UNREADABLE),
    ],
)
def test_failure__is_counted_in_a_row_of_its_kind(
    row: WorkItem, unreadable: bool, attempts: int, last_observation: str | None
) -> None:
    """Another failure between two that were answered 500 begins anew, and the state before it is forgotten."""
    later = after_failure(row, now=NOW, unreadable=unreadable)
    assert (attempts, last_observation) == (later.attempts, later.last_observation)


def test_failure__takes_the_confirmations_and_keeps_the_observations() -> None:
    """What was confirmed before it may have changed since."""
    later = after_failure(item(observations=3, confirmations=1, last_observation="sha256:a"), now=NOW)
    assert (3, 0) == (later.observations, later.confirmations)
    assert later.due_at > NOW

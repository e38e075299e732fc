"""Growing waits: one rule, the same everywhere, however often something failed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from indexer.background import service
from indexer.common.backoff import growing_wait, spread
from indexer.feeds import dispatcher
from indexer.ingest import decide as ingest
from indexer.inventory.changes import WorkKind
from indexer.oci.reference import parse_repository_name
from indexer.store.work_items import WorkItem
from reconciler.resolve import loop as resolve
from reconciler.verify import decide as verify

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_growing_wait__doubles_up_to_its_longest() -> None:
    """The first wait after the first failure, twice as long after each more."""
    assert [growing_wait(n, first=5, longest=60) for n in (1, 2, 3, 4, 5, 6)] == [5, 10, 20, 40, 60, 60]
    assert growing_wait(0, first=5, longest=60) == 5


def test_spread__is_half_to_all_of_a_wait() -> None:
    """What failed together does not return in step, and none returns at once."""
    waits = {spread(10.0) for _ in range(100)}
    assert len(waits) > 1
    assert all(5 <= wait <= 10 for wait in waits)


def row(attempts: int) -> WorkItem:
    return WorkItem(
        kind=WorkKind.RESOLVE,
        repository_id=1,
        repository=parse_repository_name("team/app"),
        key="sha256:" + "a" * 64,
        generation=1,
        attempts=attempts,
        observations=0,
        confirmations=0,
        last_observation=None,
        waiting_since=NOW,
    )


@pytest.mark.parametrize(
    "wait",
    [
        service.wait_after,
        ingest.wait_after,
        lambda failures: dispatcher.wait_after(failures, asked=None),
        lambda failures: (verify.after_failure(row(failures), now=NOW).due_at - NOW).total_seconds(),
        lambda failures: (resolve._later(row(failures)).due_at - datetime.now(UTC)).total_seconds(),
    ],
    ids=["loops", "deliveries", "feeds", "verification", "manifests"],
)
@pytest.mark.parametrize("failures", [1, 40, 1000, 2**31 - 1])
def test_waits__have_an_end(wait: Callable[[int], float], failures: int) -> None:
    """However often something failed there is a wait, and it is no longer than half an hour."""
    assert 0 < wait(failures) <= 1800

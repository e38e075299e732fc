"""What leaves a walk complete though it could not be decided, and when a failing tag is called broken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName
from indexer.store.work_items import WorkItem
from reconciler.drift.exceptions import Closed, blocking_kinds
from reconciler.verify import decide
from reconciler.verify.decide import after_failure, is_unreadable

NOW = datetime(2026, 6, 1, tzinfo=UTC)
APP = RepositoryName("team/app")


def counted(**counts: int) -> dict[str, dict[str, Any]]:
    """What a walk could not decide."""
    return {kind: {"count": count, "examples": []} for kind, count in counts.items()}


@pytest.mark.parametrize(
    ("undecided", "compared", "kinds"),
    [
        ({}, {}, set()),
        (counted(not_a_tag=10**6, not_a_repository=3), {"repositories": 1}, set()),
        (counted(denied_accepted=500), {"repositories": 1}, set()),
        (counted(no_answer=1), {"repositories": 1000}, {"no_answer"}),
        (counted(denied=1, not_a_tag=1), {"repositories": 1000}, {"denied"}),
        (counted(unreadable=1), {"repositories": 1000}, {"unreadable"}),
        (counted(catalog_denied=1), {"repositories": 1000}, {"catalog_denied"}),
        (counted(denied_alone=10), {"repositories": 1}, set()),
        (counted(denied_alone=11), {"repositories": 20}, {"denied_alone"}),
        (counted(denied_alone=11), {"repositories": 100}, set()),
        (counted(denied_alone=3), {"repositories": 0}, {"denied_alone"}),
        (counted(manifest_unreadable=11), {"repositories": 5, "manifests": 200}, set()),
        (counted(manifest_unreadable=11), {"repositories": 5, "manifests": 20}, {"manifest_unreadable"}),
    ],
)
def test_blocking_kinds(
    undecided: dict[str, dict[str, Any]], compared: dict[str, int], kinds: set[str]
) -> None:
    """Each kind by its rule: never, accepted, a few of what was compared, always."""
    assert kinds == blocking_kinds(undecided, compared, share=0.1)


@pytest.mark.parametrize(
    ("accepted", "compared_days_ago", "kind"),
    [
        ((), None, "denied_alone"),
        ((), 8, "denied_alone"),
        ((), 6, "denied"),
        (("team/app",), 1, "denied_accepted"),
        (("team/*",), None, "denied_accepted"),
        (("*",), None, "denied_accepted"),
        (("other/*", "_catalog"), None, "denied_alone"),
    ],
)
def test_closed__kind_of(accepted: tuple[str, ...], compared_days_ago: int | None, kind: str) -> None:
    """A repository that was open lately and is denied now is news; the operator's patterns come first."""
    compared_at = None if compared_days_ago is None else NOW - timedelta(days=compared_days_ago)
    assert kind == Closed(accepted=accepted).kind_of(APP, compared_at=compared_at, now=NOW)


def test_closed__catalog() -> None:
    """The catalog is accepted by its own name alone."""
    assert Closed(accepted=("_catalog",)).accepts("_catalog")
    assert not Closed(accepted=("*",)).accepts("_catalog")


def failing(row: WorkItem, *statuses: bool) -> WorkItem:
    """A row after failures in a row: True is a 500 for the tag."""
    for unreadable in statuses:
        later = after_failure(row, now=NOW, unreadable=unreadable)
        row = WorkItem(
            kind=row.kind, repository_id=1, repository=APP, key=row.key, generation=1, waiting_since=NOW,
            attempts=later.attempts, observations=later.observations, confirmations=later.confirmations,
            last_observation=later.last_observation,
        )  # fmt: skip
    return row


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], False),
        ([True] * 3, False),
        ([True] * 4, True),
        ([True] * 3 + [False], False),
        ([False] * 9, False),
        ([False] * 9 + [True] * 3, False),
        ([False] * 9 + [True] * 4, True),
        ([True] * 3 + [False] + [True] * 3, False),
    ],
)
def test_is_unreadable(statuses: list[bool], expected: bool) -> None:
    """Only failures with 500 in a row count; another one between them begins anew."""
    row = WorkItem(
        kind=WorkKind.VERIFY, repository_id=1, repository=APP, key="v1", generation=1, attempts=0, observations=0,
        confirmations=0, last_observation=None, waiting_since=NOW,
    )  # fmt: skip
    assert is_unreadable(failing(row, *statuses)) is expected


def test_is_unreadable__takes_longer_than_a_failover() -> None:
    """Before the look that concludes there lie more than two minutes."""
    waits = [decide.RETRY * 2**attempt for attempt in range(decide.UNREADABLE_AFTER)]
    assert sum(waits, timedelta()) >= timedelta(seconds=150)

"""What the doctor and the status say of policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.cleanup.status import NEVER_REPORTED, is_unused, labelled_lines
from indexer.store.in_use import Source, silent
from reconciler.doctor.policies import judge_policies
from reconciler.doctor.report import LinkOutcome

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SOURCE = NEVER_REPORTED | {
    "source": "a",
    "images": 3,
    "reported_at": "2026-11-28T00:00:00Z",
    "valid_until": "2026-11-29T00:00:00Z",
    "silent": False,
}
POLICY = {
    "policy": "p",
    "mode": "propose",
    "plan_id": "1",
    "acts": True,
    "refusal": None,
    "text": None,
    "keep": 5,
    "delete": 2,
    "hold": 1,
    "brake": [],
    "by_itself": False,
    "last_run": None,
}
RUN = {
    "job": "7",
    "state": "failed",
    "created_at": "2026-11-28T00:00:00Z",
    "ended_at": "2026-11-28T01:00:00Z",
    "result": {"done": 3, "skipped": 1},
    "error": "the brake stopped it",
}


def found(
    *, cleanup: list[Any] | None = None, in_use: list[Any] | None = None, **policies: Any
) -> dict[str, Any]:
    """A status in which all is well, with some parts changed."""
    return {
        "policies": {"sha256": "ab" * 32, "since": "2026-11-01T00:00:00Z", "differ": None, "errors": []}
        | policies,
        "cleanup": [POLICY] if cleanup is None else cleanup,
        "planned": {
            "tags": 2,
            "manifests": 1,
            "due": 2,
            "pending": 1,
            "next_due_at": "2026-11-02T00:00:00Z",
            "next_run": {"tags": 2, "manifests": 0},
        },
        "in_use": in_use or [],
    }


WRONG = {"process": "serve", "file": "f", "error": "f:1: one\nf:2: two"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (found(), None),
        (found(sha256=None), None),
        (found(in_use=[SOURCE]), None),
        (found(differ="programs read different policies"), "programs read different policies"),
        (found(errors=[WRONG]), "policies are not in force: f:1: one (and 1 more problems)"),
        (found(cleanup=[POLICY | {"brake": ["9 tags"]}]), "the brake stops policy p: 9 tags"),
        (found(in_use=[SOURCE | {"silent": True}]), "in use: a is silent since 2026-11-29T00:00:00Z"),
        (found(in_use=[NEVER_REPORTED | {"source": "b"}]), "in use: b never reported"),
        (
            found(in_use=[SOURCE | {"waits_for_confirmation": True}]),
            "in use: a reports much less than before, and waits for confirmation",
        ),
        (
            found(differ="they differ", in_use=[NEVER_REPORTED | {"source": "b"}]),
            "they differ; in use: b never reported",
        ),
    ],
)
def test_doctor__table(status: dict[str, Any], said: str | None) -> None:
    """The doctor warns of what keeps cleanup from doing what its policies say, and says what to do; of nothing else."""
    check = judge_policies(status)
    assert said == (None if check is None else check.found)
    assert check is None or (check.outcome is LinkOutcome.WARNING and check.causes)


def test_lines__say_all_of_it() -> None:
    """Each line has what it is about, the brake and silent sources included."""
    status = found(
        differ="they differ",
        errors=[WRONG],
        cleanup=[POLICY | {"acts": False, "text": "it is beyond the brake", "brake": ["9 tags"]}],
        in_use=[SOURCE, SOURCE | {"silent": True}, NEVER_REPORTED | {"source": "b"}],
    )
    status["cleanup"].append(POLICY | {"policy": "q", "mode": "enforce", "by_itself": True, "last_run": RUN})
    assert [
        ("policies", "policies in force since 2026-11-01T00:00:00Z (sha256 abababababab)"),
        ("policies", "they differ"),
        ("policies", "not in force: f:1: one"),
        ("policies", "not in force: f:2: two"),
        ("cleanup", "policy p (propose, plan 1) does not act: it is beyond the brake; it deletes 2, holds 1"),
        ("cleanup", "brake of p: 9 tags"),
        (
            "cleanup",
            "policy q (enforce, plan 1) acts by itself (reconciler run); it deletes 2, holds 1",
        ),
        (
            "cleanup",
            "last run of q: failed, ended 2026-11-28T01:00:00Z, 3 done, 1 skipped: the brake stopped it (job 7)",
        ),
        (
            "cleanup",
            "planned: 2 tags, 1 manifests; 2 are due, 1 wait for their time, the next from 2026-11-02T00:00:00Z on",
        ),
        ("cleanup", "the next run would delete 2 tags and 0 manifests"),
        ("in use", "a reports 3 images, valid until 2026-11-29T00:00:00Z"),
        ("in use", "a reports 3 images, silent since 2026-11-29T00:00:00Z"),
        ("in use", "b never reported: nothing in its scope is deleted"),
    ] == labelled_lines(status)


def test_unused__is_not_spoken_of() -> None:
    """The status is silent about cleanup only where nothing of it is used."""
    nothing = found(sha256=None, cleanup=[]) | {"planned": {"tags": 0, "manifests": 0}}
    assert is_unused(nothing)
    assert not is_unused(found())
    assert not is_unused(nothing | {"in_use": [SOURCE]})
    assert not is_unused(nothing | {"planned": {"tags": 1, "manifests": 0}})
    assert not is_unused(nothing | {"policies": nothing["policies"] | {"differ": "they differ"}})
    assert not is_unused(nothing | {"policies": nothing["policies"] | {"errors": [WRONG]}})


def test_silent__whose_set_ran_out_or_never_came() -> None:
    """A set is valid until its end, not at it; a source that is expected and never reported is silent."""

    def source(name: str, until: datetime) -> Source:
        return Source(
            source=name,
            reported_at=NOW,
            counted_at=NOW,
            valid_until=until,
            suspected_at=None,
            images=1,
            suspected_images=None,
        )

    reported = [source("a", NOW), source("b", NOW + timedelta(seconds=1))]
    assert ["a", "c"] == silent(reported, expected=["b", "c"], now=NOW)

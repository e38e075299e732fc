"""What the report of a reconcile tells an operator."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from indexer.inventory.changes import DriftCause, DriftKind, Finding
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.drift import RunOutcome
from reconciler.commands.once import print_report
from reconciler.drift.report import RunReport


def report(tags: int) -> RunReport:
    return RunReport(
        outcome=RunOutcome.BRAKED,
        counts=Counter(repositories=2, tags=tags, held_back=tags),
        brake="too many",
        held_back=[
            Finding(
                kind=DriftKind.TAG_EXTRA,
                cause=DriftCause.UNANNOUNCED,
                repository=RepositoryName("a/first"),
                tag=TagName(f"v{number}"),
                detected_at=datetime(2026, 1, 1, tzinfo=UTC),
                repaired=False,
                expected=None,
            )
            for number in range(tags)
        ],
        held_back_by_repository={"z/last": tags - 1, "a/first": 1},
    )


def test_brake__names_few_tags(capsys: pytest.CaptureFixture[str]) -> None:
    """A handful is listed one by one."""
    print_report(report(2), as_json=False)
    said = capsys.readouterr().out
    assert "  would delete a/first:v0\n  would delete a/first:v1\n" in said
    assert "z/last" not in said


def test_brake__counts_many_tags(capsys: pytest.CaptureFixture[str]) -> None:
    """Many are told by repository, those with the most first, and not by the first names of the alphabet."""
    print_report(report(21), as_json=False)
    said = capsys.readouterr().out
    assert (
        "  would delete 20 tags of z/last\n  would delete 1 tag of a/first\n  … 21 tags and manifests in all\n"
        in said
    )
    assert "a/first:v0" not in said


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        pytest.param(
            Counter(repositories=2, tags=500, found=500),
            "complete: 2 repositories, 500 tags compared, 500 tags found, 0 repaired, 0 undecided\n",
            id="a backfill",
        ),
        pytest.param(
            Counter(repositories=2, tags=500, changed=3),
            "complete: 2 repositories, 500 tags compared, 3 repaired, 0 undecided\n",
            id="drift",
        ),
    ],
)
def test_report__found_is_not_repaired(
    counts: Counter[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tags that were there before us are found; only what differed from the record is repaired."""
    print_report(RunReport(outcome=RunOutcome.COMPLETE, counts=counts), as_json=False)
    assert line == capsys.readouterr().out
    print_report(RunReport(outcome=RunOutcome.COMPLETE, counts=counts), as_json=True)
    shown = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["found"], counts["changed"]) == (shown["found"], shown["changed"])

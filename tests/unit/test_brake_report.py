"""What a pulled brake tells an operator who must decide."""

from __future__ import annotations

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

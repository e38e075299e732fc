"""What the doctor found, as people and programs read it."""

from __future__ import annotations

from reconciler.doctor.present import check_text, report_json, verdict_text
from reconciler.doctor.report import Cause, Diagnosis, Link, failed, ok, skipped, warning


def test_report__first_broken_link() -> None:
    """The first failure in the chain's order is the verdict, with its likeliest cause."""
    report = Diagnosis(
        (
            ok(Link.DATABASE, "PostgreSQL 18"),
            warning(Link.DELETES, "off", Cause("default", "nothing")),
            failed(Link.NOTIFIED, "nothing came", Cause("a", "do a"), Cause("b", "do b")),
            failed(Link.DELETION, "nothing came"),
        )
    )
    expected = "first failed step: notification arrived: nothing came\nlikely cause: a\nwhat to do: do a\n"
    assert expected == verdict_text(report)
    assert (False, "notification arrived") == (report_json(report)["ok"], report_json(report)["broken"])


def test_report__well_says_what_was_not_tried() -> None:
    """Being well is said with the number of warnings and of what was skipped."""
    report = Diagnosis(
        (ok(Link.DATABASE, "x"), warning(Link.DELETES, "off"), skipped(Link.ENDPOINT, "unset"))
    )
    assert "all is well (1 warning, 1 skipped)\n" == verdict_text(report)


def test_check__a_line_and_its_causes() -> None:
    """A check is one line; each cause adds what is likely and what to do."""
    expected = (
        "failed   schema                old\n         likely: another release\n         do:     run "
        "`indexer migrate`\n"
    )
    assert expected == check_text(
        failed(Link.SCHEMA, "old", Cause("another release", "run `indexer migrate`"))
    )

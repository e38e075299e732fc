"""How a report is printed: for people line by line as it grows, for machines as one JSON object. Pure."""

from __future__ import annotations

from typing import Any

from indexer.common.terminal import printable
from reconciler.doctor.report import Check, Diagnosis, LinkOutcome

WIDTH = max(len(outcome) for outcome in LinkOutcome)
INDENT = " " * (WIDTH + 2)


def check_text(check: Check) -> str:
    """Return a check in one line, and each cause with its remedy in two more."""
    lines = [f"{check.outcome:<{WIDTH}}  {check.link:<20}  {check.found}"]
    for cause in check.causes:
        lines += [f"{INDENT}likely: {cause.likely}", f"{INDENT}do:     {cause.remedy}"]
    return "\n".join(map(printable, lines)) + "\n"


def verdict_text(report: Diagnosis) -> str:
    """Return the last lines: the first step that failed, or that all is well."""
    broken = report.broken
    if broken is None:
        return f"all is well{_remarks(report)}\n"
    text = f"first failed step: {broken.link}: {printable(broken.found)}\n"
    if broken.causes:
        text += f"likely cause: {broken.causes[0].likely}\nwhat to do: {broken.causes[0].remedy}\n"
    return text


def report_json(report: Diagnosis) -> dict[str, Any]:
    """Return the report for ``--json``."""
    return {
        "ok": report.is_well,
        "broken": None if report.broken is None else report.broken.link.value,
        "checks": [
            {
                "check": check.link.value,
                "outcome": check.outcome.value,
                "found": check.found,
                "causes": [{"likely": cause.likely, "do": cause.remedy} for cause in check.causes],
            }
            for check in report.checks
        ],
    }


def _remarks(report: Diagnosis) -> str:
    """Return how many steps were skipped or gave a warning."""
    counts = {
        outcome: sum(check.outcome is outcome for check in report.checks)
        for outcome in (LinkOutcome.WARNING, LinkOutcome.SKIPPED)
    }
    shown = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    return f" ({', '.join(shown)})" if shown else ""

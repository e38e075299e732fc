"""Judges whether jobs are executed, and whether anything may act. Pure. Nothing is said where all is well."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from indexer.jobs.job import JobState
from indexer.jobs.pauses import Pause
from indexer.store.jobs import JobCount
from reconciler.doctor.report import Cause, Check, Link, warning

WAITS_FOR: Final = timedelta(minutes=15)


def judge_acting(pause: Pause | None, counts: Sequence[JobCount], *, now: datetime) -> Check | None:
    """Judge jobs that wait, and maintenance; None: there is nothing to say."""
    if pause is not None:
        return warning(
            Link.ACTING,
            f"paused: {pause.text}",
            Cause(
                "somebody began maintenance, or the policies file blocks this time", "if it is over: end it"
            ),
        )
    late = [each for each in counts if each.state is JobState.WAITING and now - each.since > WAITS_FOR]
    if not late:
        return None
    oldest = max(late, key=lambda each: now - each.since)
    minutes = (now - oldest.since).total_seconds() / 60
    return warning(
        Link.ACTING,
        f"{sum(each.jobs for each in late)} jobs wait, the oldest ({oldest.kind}) for {minutes:.0f} minutes",
        Cause(
            "no `reconciler run` is up that knows the kind, or the registry does not answer it",
            "`reconciler jobs list --state waiting`, then `reconciler jobs show ID` says what it waits for",
        ),
    )

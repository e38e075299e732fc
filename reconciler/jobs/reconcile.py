"""The job ``reconcile``: the same run as ``reconciler once``.

A run is rows, so a process that takes the job after another was killed continues its run; it compares nothing again
that was compared since the job began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from indexer.jobs.params import ReconcileParams
from indexer.store.drift import RunOutcome
from indexer.store.operators import Operator
from reconciler.acting.context import JobContext
from reconciler.acting.interruptions import JobFailed
from reconciler.app import once
from reconciler.drift.report import Progress, RunReport

UNIT = "repositories"
SHOWN = 5
REPORT_EVERY_SECONDS = 0.5


async def run(context: JobContext) -> Mapping[str, Any]:
    """Reconcile, and return the report; raise ``JobFailed`` with it where registry and inventory do not agree."""
    params = ReconcileParams.model_validate(context.job.params)
    began = context.state.get("began_at")
    if began is None:
        # By the clock of the process that begins the run, since that is what the run has, too.
        await context.save({"began_at": datetime.now(UTC).isoformat()})
    newest: list[Progress] = []
    reporting = asyncio.create_task(_report(context, newest), name="job progress")
    try:
        report = await once(
            context.components,
            scope=params.repositories,
            release_brake=params.release_brake,
            thorough=not params.quick,
            operator=Operator(
                name=context.job.asked_by, host=context.job.asked_from, command=f"job {context.job.id}"
            ),
            resume=began is not None,
            resume_since=None if began is None else datetime.fromisoformat(began),
            on_progress=newest.append,
            stop=context.stopping,
        )
    finally:
        reporting.cancel()
    if report.outcome is RunOutcome.INTERRUPTED:
        await context.check()
        raise JobFailed(
            "another reconcile of the same repositories took the place of this one", result=report.show()
        )
    await context.progress(report.counts["repositories"], report.counts["repositories"], UNIT)
    if (why := _why_failed(report)) is not None:
        raise JobFailed(why, result=report.show())
    return report.show()


async def _report(context: JobContext, newest: list[Progress]) -> None:
    """Pass progress on while the run is under way."""
    while True:
        await asyncio.sleep(REPORT_EVERY_SECONDS)
        if newest:
            at = newest[-1]
            newest.clear()
            await context.progress(at.repositories, at.total, UNIT, f"{at.tags} tags compared")


def _why_failed(report: RunReport) -> str | None:
    """Return why registry and inventory do not agree, in a sentence; None: they do."""
    if report.brake is not None:
        return (
            f"the brake held {report.counts['held_back']} deletions back: {report.brake}; if the registry is right, "
            "ask again with release_brake"
        )
    waiting = {name: count for name, count in report.counts.items() if name.startswith("waiting_") and count}
    if report.outcome is RunOutcome.COMPLETE and not waiting:
        return None
    reasons = [
        *(f"{count} items still wait to {name.removeprefix('waiting_')}" for name, count in waiting.items()),
        *report.reasons,
    ]
    return f"incomplete: {'; '.join(reasons[:SHOWN]) or report.outcome}"

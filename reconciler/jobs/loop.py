"""The loop of ``reconciler run`` that takes jobs. Each runs in a task of its own; the rounds only take."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from indexer.background.loop import IterationResult
from reconciler.jobs.runner import Runner

log = structlog.get_logger()

AT_A_TIME: Final = 4
"""Jobs that one process works at. They share its connections to the registry, so more would not be faster."""
REST_SECONDS: Final = 5.0
STOPPED_WITHIN_SECONDS: Final = 15.0
"""Less than ``service`` gives loops: handlers bring what they do to an end, and give their jobs back."""


class JobLoop:
    """The loop that takes jobs."""

    name = "jobs"

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._running: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def run_once(self) -> IterationResult:
        """Take as many jobs as there is room for."""
        taken = 0
        while len(self._running) < AT_A_TIME:
            job = await self._runner.take()
            if job is None:
                break
            taken += 1
            task = asyncio.create_task(self._runner.execute(job), name=f"job {job.job.id}")
            self._running.add(task)
            task.add_done_callback(self._ended)
        return IterationResult(items=taken, rest_seconds=REST_SECONDS)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job_failed_outside", error=f"{type(error).__name__}: {error}", exc_info=error)

    async def stop(self) -> None:
        """Wait for the jobs to be given back, once the process was asked to stop; then cancel what is left."""
        if not self._running:
            return
        _, late = await asyncio.wait(set(self._running), timeout=STOPPED_WITHIN_SECONDS)
        for task in late:
            log.warning("job_cut_off", job=task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

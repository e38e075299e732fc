"""Asks for a job and waits for its end; executes it here where no ``reconciler run`` takes it."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from indexer.common.errors import StoreError
from indexer.jobs.job import Asked, Job, JobState
from indexer.settings import Settings
from indexer.store import jobs
from indexer.store.listen import listen
from indexer.store.loops import list_loops
from indexer.store.migrate import check
from indexer.store.pool import Pool, close_pool, connection, open_pool, transaction

DAEMON_IS_SILENT_AFTER: Final = timedelta(seconds=20)
"""A loop reports every few seconds; a process without a report for so long does not take the job."""
TAKEN_WITHIN_SECONDS: Final = 5.0
"""By a daemon that lives. After that the job is executed here."""
RETRIED_FOR_SECONDS: Final = 60.0
"""How long a job that waits for the registry is tried again here, before the command gives up waiting."""
POLL_SECONDS: Final = 1.0


async def follow(settings: Settings, database_url: str, asked: Asked, *, detach: bool, quiet: bool) -> Job:
    """Ask for a job and return it as it is at its end; ``detach``: at once. ``quiet``: no progress bar.

    A job that neither a daemon nor this process brings to its end in time is returned as it is.
    """
    async with _pool(database_url) as pool:
        async with transaction(pool) as held:
            requested = await jobs.request_job(held, asked=asked)
        if isinstance(requested, jobs.Conflict):
            raise StoreError(conflict_text(requested.with_job))
        if detach:
            return requested.job
        daemon = await _has_daemon(pool)
        with progress_bar(quiet=quiet) as show:
            job = requested.job
            if daemon:
                job = await watch(
                    pool, database_url, job.id, on_change=show, until=_taken_within(TAKEN_WITHIN_SECONDS)
                )
            if not job.state.has_ended and job.state is not JobState.RUNNING:
                job = await _execute_here(settings, database_url, pool, job, show)
            return job


def conflict_text(other: Job | None) -> str:
    """Say which job is in the way."""
    if other is None:
        return "another job acts on these repositories: try again once it has ended"
    return (
        f"job {other.id} ({other.kind}, {other.state}, asked for by {other.asked_by}) acts on these repositories: wait "
        f"for its end (`reconciler jobs watch {other.id}`) or cancel it"
    )


async def watch(
    pool: Pool,
    database_url: str,
    job_id: uuid.UUID,
    *,
    on_change: Callable[[Job], None],
    until: Callable[[Job], bool] = lambda _: False,
) -> Job:
    """Return a job at its end, or once ``until`` says so; raise ``StoreError`` where there is none of this id."""
    changed = asyncio.Event()
    listening = asyncio.create_task(
        listen(database_url, [changed.set], application="reconciler watch", channel=jobs.CHANNEL)
    )
    try:
        while True:
            changed.clear()
            async with connection(pool) as held:
                job = await jobs.find_job(held, job_id=job_id)
            if job is None:
                raise StoreError(f"there is no job {job_id}")
            on_change(job)
            if job.state.has_ended or until(job):
                return job
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await changed.wait()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def watch_to_the_end(database_url: str, job_id: uuid.UUID, *, quiet: bool) -> Job:
    """Follow a job of this id until it has ended, with a progress bar on a terminal."""
    async with _pool(database_url) as pool:
        with progress_bar(quiet=quiet) as show:
            return await watch(pool, database_url, job_id, on_change=show)


def _taken_within(seconds: float) -> Callable[[Job], bool]:
    """Return what says that nobody takes a job that waits for nothing."""
    ends = time.monotonic() + seconds

    def untaken(job: Job) -> bool:
        return job.started_at is None and job.state is JobState.WAITING and time.monotonic() > ends

    return untaken


async def _execute_here(
    settings: Settings, database_url: str, pool: Pool, job: Job, show: Callable[[Job], None]
) -> Job:
    from indexer.background.service import stop_signals  # noqa: PLC0415 - only where no daemon runs
    from reconciler.app import build  # noqa: PLC0415
    from reconciler.jobs.runner import Runner  # noqa: PLC0415

    stop = stop_signals()
    gives_up_at = time.monotonic() + RETRIED_FOR_SECONDS
    async with build(settings, database_url=database_url) as components:
        runner = Runner(
            components, program="reconciler job", lasting=settings.reconciler_job_lease, stop=stop
        )
        while not stop.is_set():
            taken = await runner.take(only=job.id)
            if taken is not None:
                executing = asyncio.create_task(runner.execute(taken), name=f"job {job.id}")
                watching = asyncio.create_task(watch(pool, database_url, job.id, on_change=show))
                await asyncio.wait([executing])
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                executing.result()
            async with connection(pool) as held:
                job = await jobs.find_job(held, job_id=job.id) or job
            show(job)
            if job.state.has_ended or (time.monotonic() > gives_up_at and job.state is not JobState.RUNNING):
                return job
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await stop.wait()
    return job


async def _has_daemon(pool: Pool) -> bool:
    """Tell whether a ``reconciler run`` that takes jobs reported lately."""
    async with connection(pool) as held:
        rows = await list_loops(held)
    now = datetime.now(UTC)
    return any(
        row["loop"] == "jobs"
        and row["outcome"] != "ended"
        and now - row["last_run_at"] < DAEMON_IS_SILENT_AFTER
        for row in rows
    )


@asynccontextmanager
async def _pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, size=2, application="reconciler job")
    try:
        async with connection(pool) as held:
            await check(held)
        yield pool
    finally:
        await close_pool(pool)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[Job], None]]:
    """A progress bar of a job on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and rarely wanted
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("waiting", total=None)

        def show(job: Job) -> None:
            at: Any = job.progress or {}
            words = [job.state.value, at.get("unit") or "", at.get("message") or job.note or ""]
            bar.update(
                task,
                description=" ".join(word for word in words if word),
                completed=at.get("done", 0),
                total=at.get("total"),
            )

        yield show

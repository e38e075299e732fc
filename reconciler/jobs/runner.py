"""Takes a job and executes it: keeps its lease while the handler works, and writes what became of it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram

from indexer.common.errors import StoreError
from indexer.jobs.job import JobState
from indexer.store import jobs, maintenance
from indexer.store.jobs import Taken
from indexer.store.pool import Connection, transaction
from reconciler.acting.context import Handler, JobContext
from reconciler.acting.decide import DIED, MOST_DEATHS, Ending, ending_of
from reconciler.components import Components
from reconciler.jobs.kinds import HANDLERS

log = structlog.get_logger()

CHECK_EVERY_SECONDS: Final = 1.0
"""How soon a handler that does not check learns that its job is to be cancelled."""
WRITE_AGAIN_SECONDS: Final = 1.0

ENDED = Counter(
    "reconciler_jobs_ended_total", "Jobs that this process ended, by kind and state.", ["kind", "state"]
)
SECONDS = Histogram(
    "reconciler_job_seconds",
    "How long this process worked at a job, by kind.",
    ["kind"],
    buckets=(0.1, 0.5, 2.5, 10, 60, 600, 3600, 36000),
)
LEASES_LOST = Counter(
    "reconciler_job_leases_lost_total",
    "Jobs whose lease ran out while this process worked at them: it slept, or the database was away.",
    ["kind"],
)


class Runner:
    """Executes jobs, one a call. ``lasting``: of a lease that nobody extends, after which another process goes on."""

    def __init__(
        self,
        components: Components,
        *,
        program: str,
        lasting: timedelta,
        stop: asyncio.Event,
        handlers: Mapping[str, Handler] = HANDLERS,
    ) -> None:
        self._components = components
        self._handlers = handlers
        self._worker = f"{program} {socket.gethostname()}:{os.getpid()}"
        self._lasting = lasting
        self._stop = stop

    async def take(self, *, only: uuid.UUID | None = None) -> Taken | None:
        """Take the next job that this process can do; None: there is none just now."""
        async with transaction(self._components.pool) as held:
            pause = await maintenance.why_paused(held)
            if pause is None:
                await jobs.unpause_jobs(held)
            return await jobs.take_job(
                held,
                kinds=self._handlers.keys(),
                worker=self._worker,
                lasting=self._lasting,
                is_paused=pause is not None,
                only=only,
            )

    async def execute(self, taken: Taken) -> None:
        """Do a job, and write what became of it. No error of a handler gets out."""
        job = taken.job
        context = JobContext(self._components, taken, stop=self._stop, lasting=self._lasting)
        log.info("job_taken", job=str(job.id), kind=job.kind, tries=job.tries, deaths=taken.deaths)
        began = time.monotonic()
        if taken.deaths >= MOST_DEATHS:
            ending = Ending(state=JobState.FAILED, error=DIED)
        else:
            ending = await self._work(context)
        SECONDS.labels(job.kind).observe(time.monotonic() - began)
        if context.is_lost or ending.state is None:
            LEASES_LOST.labels(job.kind).inc()
            log.warning("job_lease_lost", job=str(job.id), kind=job.kind)
            return
        await self._write(taken, ending)

    async def _work(self, context: JobContext) -> Ending:
        handler = self._handlers[context.job.kind]
        working = asyncio.create_task(_call(handler, context), name=f"job {context.job.kind}")
        keeping = asyncio.create_task(self._keep(context, working), name="job lease")
        try:
            result = await working
        except asyncio.CancelledError as error:
            us = asyncio.current_task()
            if us is not None and us.cancelling():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                raise  # the process ends; the lease runs out, and another one goes on
            return Ending(state=None) if context.is_lost else ending_of(error, tries=context.job.tries)
        except Exception as error:
            ending = ending_of(error, tries=context.job.tries)
            log.warning(
                "job_interrupted",
                job=str(context.job.id),
                kind=context.job.kind,
                state=ending.state,
                error=f"{type(error).__name__}: {error}",
                exc_info=error if ending.is_unexpected else None,
            )
            return ending
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        return Ending(state=JobState.DONE, result=result)

    async def _keep(self, context: JobContext, working: asyncio.Task[Any]) -> None:
        """Extend the lease while the handler works; once it is lost, end the handler where it is."""
        seconds = self._lasting.total_seconds()
        extended_at = time.monotonic()
        while True:
            await asyncio.sleep(min(CHECK_EVERY_SECONDS, seconds / 4))
            if self._stop.is_set():
                context.stopping.set()
            asked_at = time.monotonic()
            try:
                await context.extend()
                extended_at = asked_at
            except StoreError as error:
                log.warning("job_lease_not_extended", job=str(context.job.id), error=str(error))
                if time.monotonic() - extended_at > seconds:
                    context.lose()
            if context.is_lost:
                working.cancel()
                return

    async def _write(self, taken: Taken, ending: Ending) -> None:
        """Write what became of a job. While the database is away this is tried until the lease has run out."""
        until = time.monotonic() + self._lasting.total_seconds()
        while True:
            try:
                async with transaction(self._components.pool) as held:
                    await self._written(held, taken, ending)
                break
            except StoreError as error:
                log.warning("job_not_written", job=str(taken.job.id), error=str(error))
                if time.monotonic() > until:
                    return
            await asyncio.sleep(WRITE_AGAIN_SECONDS)
        log.info("job_left", job=str(taken.job.id), kind=taken.job.kind, state=ending.state)

    async def _written(self, held: Connection, taken: Taken, ending: Ending) -> None:
        assert ending.state is not None  # noqa: S101 - tells mypy
        if ending.state.has_ended:
            ended = await jobs.end_job(
                held,
                job_id=taken.job.id,
                lease=taken.lease,
                state=ending.state,
                result=ending.result,
                error=ending.error,
            )
            if ended is not None:
                ENDED.labels(ended.kind, ended.state).inc()
            return
        await jobs.release_job(
            held,
            job_id=taken.job.id,
            lease=taken.lease,
            state=ending.state,
            note=ending.note,
            again_in=ending.again_in,
            tries=ending.tries,
        )


async def _call(handler: Handler, context: JobContext) -> Mapping[str, Any]:
    return await handler(context)

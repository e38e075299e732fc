"""What a handler has of its job: the parameters, the right to go on, and where it went on from.

A handler calls ``check`` before every request that changes something, and lets what it raises through. Before it does
what it cannot undo halfway, it saves what it is about to do; a process that takes the job later begins with that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from indexer.inventory.changes import AuditAction
from indexer.jobs.job import Job, JobProgress
from indexer.store import jobs
from indexer.store.jobs import Taken
from indexer.store.maintenance import why_paused
from indexer.store.pool import Connection, connection, transaction
from reconciler.acting.interruptions import ActingPaused, Cancelled, LeaseLost, Stopping
from reconciler.components import Components

PROGRESS_EVERY_SECONDS: Final = 0.5
LOST = "another process may have this job by now"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the log says of something that a job did. Who asked for the job, and its id, are added."""

    action: AuditAction
    detail: Mapping[str, Any] = field(hash=False)


class JobContext:
    """One process's work at one job, as long as its lease lasts."""

    def __init__(
        self, components: Components, taken: Taken, *, stop: asyncio.Event, lasting: timedelta
    ) -> None:
        self.components = components
        self.job: Job = taken.job
        self.stopping = asyncio.Event()
        """Set once the work should come to an end: cancelled, the process stops, or the lease is lost. ``check`` says
        which."""
        self._lease = taken.lease
        self._lasting = lasting
        self._process_stops = stop
        self._state: dict[str, Any] = dict(taken.job.checkpoint or {})
        self._reported_at = float("-inf")
        self._is_lost = False

    @property
    def state(self) -> Mapping[str, Any]:
        """What was saved last, by this process or one before it; empty at the start."""
        return self._state

    @property
    def stop_requested(self) -> bool:
        """Whether the work should come to an end; ``check`` says why."""
        return self.stopping.is_set() or self._process_stops.is_set()

    async def check(self, *, finishing: bool = False) -> None:
        """Return if the next request may be sent. The database is asked each time, and its clock counts.

        ``finishing``: something is half done that must not stay so. Then only a lost lease keeps from going on.
        Raises ``LeaseLost``, ``Cancelled``, ``Stopping``, ``ActingPaused``.
        """
        pool = self.components.pool
        async with connection(pool) as held:
            cancelled = None
            if not self._is_lost:
                cancelled = await jobs.check_lease(held, job_id=self.job.id, lease=self._lease)
            pause = await why_paused(held) if self.job.acts and not finishing else None
            if pause is not None and cancelled is not None:
                # Asking took time, too.
                cancelled = await jobs.check_lease(held, job_id=self.job.id, lease=self._lease)
        if cancelled is None:
            self.lose()
            raise LeaseLost(LOST)
        if finishing:
            return
        if cancelled:
            raise Cancelled("cancelled")
        if self._process_stops.is_set():
            raise Stopping("the process stops")
        if pause is not None:
            raise ActingPaused(pause)

    async def progress(self, done: int, total: int | None, unit: str, message: str = "") -> None:
        """Report how far the job is; written at most twice a second, the last of all in any case."""
        now = time.monotonic()
        if now - self._reported_at < PROGRESS_EVERY_SECONDS and done != total:
            return
        self._reported_at = now
        async with connection(self.components.pool) as held:
            await jobs.report_progress(
                held,
                job_id=self.job.id,
                lease=self._lease,
                progress=JobProgress(done=done, total=total, unit=unit, message=message),
            )

    async def save(self, state: Mapping[str, Any], *, entry: Entry | None = None) -> None:
        """Keep from where to go on, as JSON; raise ``LeaseLost`` where nothing may be written any more.

        ``entry``: of the log, in the same transaction: it is there once, however often the job is begun again.
        """
        async with transaction(self.components.pool) as held:
            await self.save_in(held, state, entry=entry)

    async def save_in(
        self, held: Connection, state: Mapping[str, Any], *, entry: Entry | None = None
    ) -> None:
        """Do the same in the caller's transaction, so that what else is written in it is written under the lease."""
        saved = await jobs.save_checkpoint(held, job_id=self.job.id, lease=self._lease, state=state)
        if not saved:
            self.lose()
            raise LeaseLost(LOST)
        if entry is not None:
            await jobs.record_entry(
                held,
                self.job,
                action=entry.action,
                at=datetime.now(UTC),
                by=self.job.asked_by,
                detail={"job": str(self.job.id), "reason": self.job.reason, **entry.detail},
            )
        self._state = dict(state)

    def lose(self) -> None:
        """Note that the lease is lost: nothing may be done any more."""
        self._is_lost = True
        self.stopping.set()

    @property
    def is_lost(self) -> bool:
        """Whether the lease is known to be lost."""
        return self._is_lost

    async def extend(self) -> None:
        """Extend the lease, and learn whether the job is to be cancelled. The runner calls this, no handler."""
        async with connection(self.components.pool) as held:
            cancelled = await jobs.extend_lease(
                held, job_id=self.job.id, lease=self._lease, lasting=self._lasting
            )
        if cancelled is None:
            self.lose()
        elif cancelled:
            self.stopping.set()


Handler = Callable[[JobContext], Awaitable[Mapping[str, Any]]]
"""Does a job of one kind; what it returns is the job's result."""

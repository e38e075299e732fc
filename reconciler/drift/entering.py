"""Which walk a process works at: one that is open, or a new one.

A walk promises that everything was compared after it began. So whoever asks for one (``once``) gets a new one, unless
he says that an interrupted one is to be gone on with; processes that walk by themselves share the one that is open,
and go on with it if all who worked at it are gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from indexer.inventory.changes import AuditAction
from indexer.store import walks
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.pool import Connection
from indexer.store.walks import Run, Worker
from reconciler.drift.asked import record_asked
from reconciler.drift.report import WalkSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """The walk to work at. ``joined``: others began it."""

    run: Run
    joined: bool


async def enter(worker: Worker, settings: WalkSettings) -> Entered:
    """Begin the walk that was asked for, or go on with the one before it."""
    async with worker.deciding() as held:
        opened = await walks.open_runs(held)
        if settings.resume:
            fitting = [run for run in opened if _serves(run, settings)]
            if fitting:
                await worker.take_part(fitting[-1])
                await _record(held, settings, fitting[-1])
                return Entered(run=fitting[-1], joined=True)
        return await _begin(held, worker, settings, opened, cause=None)


async def enter_if_due(
    worker: Worker,
    settings: WalkSettings,
    *,
    young: timedelta,
    why_now: Callable[[Connection], Awaitable[str | None]],
) -> Entered | None:
    """Take part in the walk that is open, begin one if there is a reason to, or return None."""
    async with worker.deciding() as held:
        opened = await walks.open_runs(held)
        shared = find_shared(opened, young=young)
        if shared is not None:
            await worker.take_part(shared)
            return Entered(run=shared, joined=True)
        cause = await why_now(held)
        if cause is None:
            return None
        return await _begin(held, worker, settings, opened, cause=cause)


def find_shared(opened: Sequence[Run], *, young: timedelta) -> Run | None:
    """Return the walk that whoever walks by himself works at.

    One that nobody works at is gone on with if somebody did not longer than ``young`` ago.
    """
    for run in opened:
        is_shared = run.mode is RunMode.RUN and run.scope is None
        if is_shared and (run.alive or datetime.now(UTC) - run.active_at <= young):
            return run
    return None


def _serves(run: Run, settings: WalkSettings) -> bool:
    """Tell whether a walk, once ended, is what was asked for."""
    scope = None if settings.scope is None else sorted(set(settings.scope))
    return run.scope == scope and (run.thorough or not settings.thorough)


async def _begin(
    held: Connection, worker: Worker, settings: WalkSettings, opened: Sequence[Run], *, cause: str | None
) -> Entered:
    """Open a walk; interrupted ones that it takes the place of are closed."""
    now = datetime.now(UTC)
    for run in opened:
        if not run.alive and (settings.scope is None or run.scope == sorted(set(settings.scope))):
            await walks.give_up_run(held, run_id=run.id, at=now, outcome=RunOutcome.INTERRUPTED)
    run = await walks.begin_run(
        held, mode=settings.mode, at=now, scope=settings.scope, cause=cause, thorough=settings.thorough
    )
    await worker.take_part(run)
    await _record(held, settings, run)
    return Entered(run=run, joined=False)


async def _record(held: Connection, settings: WalkSettings, run: Run) -> None:
    scope = None if run.scope is None else list(run.scope)
    await record_asked(held, settings, AuditAction.OPERATOR_WALKED, run_id=run.id, scope=scope)

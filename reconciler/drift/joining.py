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
from indexer.store import reconcile_runs
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.pool import Connection
from indexer.store.reconcile_runs import Run, Worker
from reconciler.drift.operator_log import record_operator_action
from reconciler.drift.report import RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The walk to work at. ``joined``: others began it."""

    run: Run
    joined: bool


async def enter(worker: Worker, settings: RunSettings) -> Joined:
    """Begin the walk that was asked for, or go on with the one before it."""
    async with worker.deciding() as held:
        opened = await reconcile_runs.open_runs(held)
        if settings.resume:
            fitting = [run for run in opened if _serves(run, settings)]
            if fitting:
                await worker.take_part(fitting[-1])
                await _record(held, settings, fitting[-1])
                return Joined(run=fitting[-1], joined=True)
        return await _begin(held, worker, settings, opened, cause=None)


async def join_if_due(
    worker: Worker,
    settings: RunSettings,
    *,
    young: timedelta,
    why_now: Callable[[Connection], Awaitable[str | None]],
) -> Joined | None:
    """Take part in the walk that is open, begin one if there is a reason to, or return None."""
    async with worker.deciding() as held:
        opened = await reconcile_runs.open_runs(held)
        shared = find_shared(opened, young=young)
        if shared is not None:
            await worker.take_part(shared)
            return Joined(run=shared, joined=True)
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


def _serves(run: Run, settings: RunSettings) -> bool:
    """Tell whether a walk, once ended, is what was asked for."""
    scope = None if settings.scope is None else sorted(set(settings.scope))
    return run.scope == scope and (run.thorough or not settings.thorough)


async def _begin(
    held: Connection, worker: Worker, settings: RunSettings, opened: Sequence[Run], *, cause: str | None
) -> Joined:
    """Open a walk; interrupted ones that it takes the place of are closed."""
    now = datetime.now(UTC)
    for run in opened:
        if not run.alive and (settings.scope is None or run.scope == sorted(set(settings.scope))):
            await reconcile_runs.give_up_run(held, run_id=run.id, at=now, outcome=RunOutcome.INTERRUPTED)
    run = await reconcile_runs.begin_run(
        held, mode=settings.mode, at=now, scope=settings.scope, cause=cause, thorough=settings.thorough
    )
    await worker.take_part(run)
    await _record(held, settings, run)
    return Joined(run=run, joined=False)


async def _record(held: Connection, settings: RunSettings, run: Run) -> None:
    scope = None if run.scope is None else list(run.scope)
    await record_operator_action(held, settings, AuditAction.OPERATOR_RECONCILED, run_id=run.id, scope=scope)

"""Which run a process works at: an open one, or a new one.

A run says that everything was compared after it began. So ``reconciler once`` begins a new run, unless ``--resume``
asks for an interrupted one to be continued. Processes of ``reconciler run`` share the open run, and continue it if
every process that worked at it is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from indexer.inventory.changes import AuditAction
from indexer.store import reconcile_runs
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.pool import Connection
from indexer.store.reconcile_runs import RunRecord, Worker
from reconciler.drift.operator_log import record_operator_action
from reconciler.drift.report import RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The run to work at. ``joined``: another process began it."""

    run: RunRecord
    joined: bool


async def enter(worker: Worker, settings: RunSettings) -> Joined:
    """Begin the run that was asked for, or continue an earlier one (``resume``)."""
    async with worker.coordinating() as held:
        opened = await reconcile_runs.open_runs(held)
        if settings.resume:
            suitable = [run for run in opened if _covers(run, settings)]
            if suitable:
                await worker.join(suitable[-1])
                await _record(held, settings, suitable[-1])
                return Joined(run=suitable[-1], joined=True)
        return await _begin(held, worker, settings, opened, cause=None)


async def join_if_due(
    worker: Worker,
    settings: RunSettings,
    *,
    young: timedelta,
    why_now: Callable[[Connection], Awaitable[str | None]],
) -> Joined | None:
    """Join the open run, begin one if ``why_now`` gives a reason, or return None.

    ``young``: an open run that nobody works at is continued if somebody did no longer ago than this.
    """
    async with worker.coordinating() as held:
        opened = await reconcile_runs.open_runs(held)
        shared = find_shared(opened, young=young)
        if shared is not None:
            await worker.join(shared)
            return Joined(run=shared, joined=True)
        cause = await why_now(held)
        if cause is None:
            return None
        return await _begin(held, worker, settings, opened, cause=cause)


def find_shared(opened: Sequence[RunRecord], *, young: timedelta) -> RunRecord | None:
    """Return the open run that processes of ``reconciler run`` share.

    One that nobody works at is continued if somebody did no longer than ``young`` ago.
    """
    for run in opened:
        is_shared = run.mode is RunMode.RUN and run.scope is None
        if is_shared and (run.alive or datetime.now(UTC) - run.active_at <= young):
            return run
    return None


def _covers(run: RunRecord, settings: RunSettings) -> bool:
    """Return whether a run, once ended, has done what was asked for."""
    scope = None if settings.scope is None else sorted(set(settings.scope))
    is_left = settings.resume_since is None or (run.started_at >= settings.resume_since and not run.alive)
    return run.scope == scope and is_left and (run.thorough or not settings.thorough)


async def _begin(
    held: Connection, worker: Worker, settings: RunSettings, opened: Sequence[RunRecord], *, cause: str | None
) -> Joined:
    """Begin a run, and end the interrupted ones that it replaces."""
    now = datetime.now(UTC)
    for run in opened:
        if not run.alive and (settings.scope is None or run.scope == sorted(set(settings.scope))):
            await reconcile_runs.give_up_run(held, run_id=run.id, at=now, outcome=RunOutcome.INTERRUPTED)
    run = await reconcile_runs.begin_run(
        held, mode=settings.mode, at=now, scope=settings.scope, cause=cause, thorough=settings.thorough
    )
    await worker.join(run)
    await _record(held, settings, run)
    return Joined(run=run, joined=False)


async def _record(held: Connection, settings: RunSettings, run: RunRecord) -> None:
    scope = None if run.scope is None else list(run.scope)
    await record_operator_action(held, settings, AuditAction.OPERATOR_RECONCILED, run_id=run.id, scope=scope)

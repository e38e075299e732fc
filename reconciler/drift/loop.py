"""When ``reconciler run`` reconciles. All its processes share one run.

- At the start: what happened while no reconciler ran is unknown.
- When the last complete run began longer ago than the interval. Such a run is spread over the interval (``pacing``).
- When an event comes from a registry process that is newer than the last run: the process before it dropped the events
  it had not delivered (2.8.2 and 3.1.1 do so even on a clean shutdown).
- When the registry's counters and ours show that events may be lost (``reconciler.loss``).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from indexer.background.loop import IterationResult
from indexer.store import drift, instances, loss, reconcile_runs
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool, connection
from indexer.store.reconcile_runs import RunRecord
from reconciler.drift.joining import find_shared, join_if_due
from reconciler.drift.pacing import Pacing
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

REST_SECONDS = 5.0
INTERVAL = "interval"


class ReconcileLoop:
    """The loop that reconciles everything."""

    name = "reconcile"

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        registry: Registry,
        settings: RunSettings,
        *,
        interval: timedelta,
        stop: asyncio.Event | None = None,
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._settings = settings
        self._interval = interval
        self._stop = stop
        self._reconciled_at: datetime | None = None

    async def run_once(self) -> IterationResult:
        """Work at the run under way, or at a new one if there is a reason for it."""
        if not await self._has_work():
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        await self._registry.ping()
        async with reconcile_runs.working(self._pool) as worker:
            entered = await join_if_due(worker, self._settings, young=self._interval, why_now=self._why_now)
            if entered is None:
                return IterationResult(items=0, rest_seconds=REST_SECONDS)
            run = entered.run
            log.info(
                "reconcile_joined" if entered.joined else "reconcile_started", run_id=run.id, cause=run.cause
            )
            part = ReconcileRun(
                self._pool,
                self._lookups,
                self._registry,
                self._settings,
                pacing=self._pacing(run),
                stop=self._stop,
            )
            report = await part.take_part(worker, entered)
        self._reconciled_at = run.started_at
        if report.brake is not None:
            log.error("brake_pulled", reason=report.brake, release_with="reconciler once --release-brake")
        return IterationResult(items=report.counts["repositories"], rest_seconds=REST_SECONDS)

    async def _has_work(self) -> bool:
        """Check without locks first, since most rounds find nothing to do."""
        async with connection(self._pool) as held:
            shared = find_shared(await reconcile_runs.open_runs(held), young=self._interval)
            return shared is not None or await self._why_now(held) is not None

    async def _why_now(self, held: Connection) -> str | None:
        """Return the reason to reconcile now, if there is one."""
        last = await drift.last_complete_run(held)
        newest_instance = await instances.newest(held)
        suspicion = await loss.newest_suspicion(held)
        if self._reconciled_at is None:
            return "start"
        newest = max(self._reconciled_at, last.started_at) if last is not None else self._reconciled_at
        if suspicion is not None and suspicion.at > newest:
            return f"events may be lost: {suspicion.because}"
        if newest_instance is not None and newest_instance > newest:
            return "registry restarted"
        return INTERVAL if datetime.now(UTC) - newest >= self._interval else None

    def _pacing(self, run: RunRecord) -> Pacing | None:
        if run.cause != INTERVAL:
            return None
        return Pacing(self._interval, is_urgent=partial(self._is_urgent, since=run.started_at))

    async def _is_urgent(self, *, since: datetime) -> bool:
        """Return whether a later run has a reason already, or this process has finished no run yet."""
        async with connection(self._pool) as held:
            newest_instance = await instances.newest(held)
            suspicion = await loss.newest_suspicion(held)
        return (
            self._reconciled_at is None
            or (suspicion is not None and suspicion.at > since)
            or (newest_instance is not None and newest_instance > since)
        )

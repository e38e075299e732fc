"""When to walk by itself. All processes that do share one walk.

- At the start: what happened while nobody looked is unknown.
- When the last complete walk began longer ago than the interval; this one is spread over it (``spread``).
- When a registry process shows that was not there before the last walk: its predecessor's restart dropped
  whatever it had not delivered (2.8.2 and 3.1.1: even a clean shutdown does).
- When the registry's counters, held against ours, say that events may be lost (``reconciler/loss``).
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
from indexer.store.reconcile_runs import Run
from reconciler.drift.joining import find_shared, join_if_due
from reconciler.drift.pacing import Pacing
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

REST_SECONDS = 5.0
INTERVAL = "interval"


class ReconcileLoop:
    """The loop that walks."""

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
        """Work at the walk that is under way, or at a new one if it is time."""
        if not await self._is_something_to_do():
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        await self._registry.ping()
        async with reconcile_runs.working(self._pool) as worker:
            entered = await join_if_due(worker, self._settings, young=self._interval, why_now=self._why_now)
            if entered is None:
                return IterationResult(items=0, rest_seconds=REST_SECONDS)
            run = entered.run
            log.info("walk_joined" if entered.joined else "walk_begins", run_id=run.id, why=run.cause)
            walk = ReconcileRun(
                self._pool,
                self._lookups,
                self._registry,
                self._settings,
                spread=self._spread(run),
                stop=self._stop,
            )
            report = await walk.take_part(worker, entered)
        self._reconciled_at = run.started_at
        if report.brake is not None:
            log.error("brake_pulled", reason=report.brake, release_with="reconciler once --release-brake")
        return IterationResult(items=report.counts["repositories"], rest_seconds=REST_SECONDS)

    async def _is_something_to_do(self) -> bool:
        """A look without locks, since most rounds find nothing."""
        async with connection(self._pool) as held:
            shared = find_shared(await reconcile_runs.open_runs(held), young=self._interval)
            return shared is not None or await self._why_now(held) is not None

    async def _why_now(self, held: Connection) -> str | None:
        """Return the reason to walk now, if there is one."""
        last = await drift.last_complete_run(held)
        newest_instance = await instances.newest(held)
        doubt = await loss.newest_suspicion(held)
        if self._reconciled_at is None:
            return "start"
        newest = max(self._reconciled_at, last.started_at) if last is not None else self._reconciled_at
        if doubt is not None and doubt.at > newest:
            return f"events may be lost: {doubt.because}"
        if newest_instance is not None and newest_instance > newest:
            return "registry restarted"
        return INTERVAL if datetime.now(UTC) - newest >= self._interval else None

    def _spread(self, run: Run) -> Pacing | None:
        if run.cause != INTERVAL:
            return None
        return Pacing(self._interval, is_urgent=partial(self._is_urgent, since=run.started_at))

    async def _is_urgent(self, *, since: datetime) -> bool:
        """Tell whether there is a reason for a walk that began later, or this process has not walked yet."""
        async with connection(self._pool) as held:
            newest_instance = await instances.newest(held)
            doubt = await loss.newest_suspicion(held)
        return (
            self._reconciled_at is None
            or (doubt is not None and doubt.at > since)
            or (newest_instance is not None and newest_instance > since)
        )

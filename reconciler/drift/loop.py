"""When to walk: at the start, and whenever the last complete walk is older than the interval. One walks at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from indexer.service import Round
from indexer.store import drift
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from reconciler.drift.walk import Walk, WalkSettings
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

REST_SECONDS = 5.0
WALK_LOCK = 0x77616C6B  # "walk"


class Walker:
    """The loop that walks."""

    name = "walk"

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        registry: Registry,
        settings: WalkSettings,
        *,
        interval: timedelta,
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._settings = settings
        self._interval = interval
        self._walked_at: datetime | None = None

    async def run_once(self) -> Round:
        """Walk if it is time, unless another process does."""
        async with connection(self._pool) as held:
            if not await held.fetchval("SELECT pg_try_advisory_lock($1)", WALK_LOCK):
                return Round(items=0, rest_seconds=REST_SECONDS)
            try:
                if not self._is_time(await drift.last_complete_run(held)):
                    return Round(items=0, rest_seconds=REST_SECONDS)
                report = await Walk(self._pool, self._lookups, self._registry, self._settings).run()
            finally:
                await held.fetchval("SELECT pg_advisory_unlock($1)", WALK_LOCK)
        self._walked_at = datetime.now(UTC)
        if report.brake is not None:
            log.error("brake_pulled", reason=report.brake, release_with="reconciler once --release-brake")
        return Round(items=report.counts["repositories"], rest_seconds=REST_SECONDS)

    def _is_time(self, last: drift.CompleteRun | None) -> bool:
        """At every start: what happened while nobody looked is unknown."""
        if self._walked_at is None:
            return True
        newest = max(self._walked_at, last.started_at) if last is not None else self._walked_at
        return datetime.now(UTC) - newest >= self._interval

"""When to walk. One process walks at a time.

- At the start: what happened while nobody looked is unknown.
- When the last complete walk is older than the interval.
- When a registry process shows that was not there before the last walk: its predecessor's restart dropped
  whatever it had not delivered (2.8.2 and 3.1.1: even a clean shutdown does).
- When the registry's counters, held against ours, say that events may be lost (``reconciler/loss``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from indexer.service import Round
from indexer.store import drift, instances, loss
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from reconciler.drift.walk import Walk, WalkSettings
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

REST_SECONDS = 5.0


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
        async with connection(self._pool) as held, drift.only_walker(held) as alone:
            if not alone:
                return Round(items=0, rest_seconds=REST_SECONDS)
            why = self._why_now(
                await drift.last_complete_run(held),
                await instances.newest(held),
                await loss.newest_doubt(held),
            )
            if why is None:
                return Round(items=0, rest_seconds=REST_SECONDS)
            log.info("walk_begins", why=why)
            began = datetime.now(UTC)
            settings = replace(self._settings, cause=why)
            report = await Walk(self._pool, self._lookups, self._registry, settings).run()
        self._walked_at = began
        if report.brake is not None:
            log.error("brake_pulled", reason=report.brake, release_with="reconciler once --release-brake")
        return Round(items=report.counts["repositories"], rest_seconds=REST_SECONDS)

    def _why_now(
        self,
        last: drift.CompleteRun | None,
        newest_instance: datetime | None,
        doubt: loss.Doubt | None,
    ) -> str | None:
        """Return the reason to walk now, if there is one."""
        if self._walked_at is None:
            return "start"
        newest = max(self._walked_at, last.started_at) if last is not None else self._walked_at
        if doubt is not None and doubt.at > newest:
            return f"events may be lost: {doubt.because}"
        if newest_instance is not None and newest_instance > newest:
            return "registry restarted"
        return "interval" if datetime.now(UTC) - newest >= self._interval else None

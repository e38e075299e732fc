"""Asks for a check of the storage once an interval, where an interval is set: damage is found, and a sample is taken.

Any number of processes may ask: a key for each interval of time makes it one job.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from indexer.background.loop import IterationResult
from indexer.jobs.job import Asked
from indexer.jobs.kinds import STORAGE_CHECK
from indexer.jobs.params import StorageCheckParams
from indexer.store import jobs
from indexer.store.jobs import Idempotency, Requested
from indexer.store.pool import Pool, connection, transaction

log = structlog.get_logger()

LOOKS_EVERY_SECONDS: Final = 60.0
PROGRAM: Final = "reconciler run"


class CheckLoop:
    """The loop that asks for checks."""

    name = "storage-check"

    def __init__(self, pool: Pool, *, interval: timedelta) -> None:
        self._pool = pool
        self._interval = interval

    async def run_once(self) -> IterationResult:
        """Ask for a check if none was asked for within the interval, by whomever."""
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            newest = await jobs.newest_jobs(held, limit=1, kinds=[STORAGE_CHECK.name])
        if newest and (not newest[0].state.has_ended or now - newest[0].created_at < self._interval):
            return IterationResult(items=0, rest_seconds=LOOKS_EVERY_SECONDS)
        async with transaction(self._pool) as held:
            requested = await jobs.request_job(
                held, asked=_asked(), idempotency=Idempotency(owner=PROGRAM, key=_key(now, self._interval))
            )
        asked = isinstance(requested, Requested) and not requested.replayed
        if asked:
            log.info("storage_check_asked_for")
        return IterationResult(items=int(asked), rest_seconds=LOOKS_EVERY_SECONDS)


def _asked() -> Asked:
    return Asked(
        kind=STORAGE_CHECK.name,
        acts=False,
        params=StorageCheckParams().model_dump(mode="json"),
        repositories=None,
        asked_by=PROGRAM,
        asked_from=socket.gethostname(),
        asked_with=PROGRAM,
        reason="RECONCILER_STORAGE_CHECK_INTERVAL has passed",
        bounds={},
    )


def _key(now: datetime, interval: timedelta) -> str:
    """Return a key that all processes share until the interval has passed."""
    return f"storage-check {int(now.timestamp() // interval.total_seconds())}"

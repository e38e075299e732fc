"""Waits until deliveries received before an observation are applied, where the observation differs from the record.

An observation may overtake the ingest of a busy indexer. Stored first, it would enter a tag that was just pushed as
drift, and its event as a repeated push. Once the event is applied the record has another revision, so the observation
is stored only if it still differs (compare-and-set).
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import structlog

from indexer.store import inbox
from indexer.store.pool import Pool, connection

log = structlog.get_logger()

PATIENCE_SECONDS = 5.0
"""Then the reconcile goes on without: perhaps no process applies what waits."""
POLL_SECONDS = 0.05


class InboxBarrier:
    """Waits for deliveries to be applied; after one wait in vain it does not wait again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._in_vain = False

    async def until_applied(self, received_before: datetime) -> None:
        """Return once no delivery waits that was received before an instant and may change a tag."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._in_vain and await self._waits(received_before):
            if time.monotonic() > deadline:
                self._in_vain = True
                log.warning("reconcile_inbox_wait_ended", waited_seconds=PATIENCE_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _waits(self, received_before: datetime) -> bool:
        async with connection(self._pool) as held:
            return await inbox.has_waiting(held, received_before=received_before)

"""What the registry has told us already is applied before a look that differs is.

A look is faster than the ingest of a busy indexer: without this a walk would enter a tag that is being pushed as a
finding of its own, and the notification after it as a repeated push. Once the news is applied the record has another
revision, so the look is stored only if it still has something to say (compare-and-set).
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
"""Then the walk goes on without: nobody may be applying what waits."""
POLL_SECONDS = 0.05


class InboxBarrier:
    """Waits for deliveries to be applied; after one wait in vain it waits no more."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._in_vain = False

    async def until_applied(self, received_before: datetime) -> None:
        """Return once nothing waits that was received before an instant and may change a tag."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._in_vain and await self._waits(received_before):
            if time.monotonic() > deadline:
                self._in_vain = True
                log.warning("reconcile_goes_on_without_inbox", waited_seconds=PATIENCE_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _waits(self, received_before: datetime) -> bool:
        async with connection(self._pool) as held:
            return await inbox.has_waiting(held, received_before=received_before)

"""Forgets what has served its time, in small batches: raw deliveries, event ids, tombstones, ended processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from indexer.service import Round
from indexer.store import events, inbox, loops, tags
from indexer.store.pool import Pool, connection

BATCH = 5000
REST_SECONDS = 30.0
PROCESS_RETENTION = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each is kept."""

    inbox: timedelta
    events: timedelta
    tombstones: timedelta


class Housekeeper:
    """The loop that trims."""

    name = "housekeeping"

    def __init__(self, pool: Pool, retention: Retention) -> None:
        self._pool = pool
        self._retention = retention

    async def run_once(self) -> Round:
        """Trim one batch of each."""
        now = datetime.now(UTC)
        keep = self._retention
        async with connection(self._pool) as held:
            trimmed = [
                await inbox.trim_inbox(held, before=now - keep.inbox, limit=BATCH),
                await events.trim_events(held, before=now - keep.events, limit=BATCH),
                await tags.trim_tombstones(held, before=now - keep.tombstones, limit=BATCH),
            ]
            await loops.trim_loops(held, before=now - PROCESS_RETENTION)
        return Round(items=sum(trimmed), rest_seconds=0 if max(trimmed) == BATCH else REST_SECONDS)

"""Forgets what has served its time, in small batches; and lets the log take in, coalesced, the pulls of that age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from indexer.background.loop import IterationResult
from indexer.store import (
    audit,
    events,
    inbox,
    jobs,
    loops,
    loss,
    own_requests,
    receiver_sessions,
    space,
    tag_actions,
    tags,
    unmatched_checks,
    verification_latency,
    work_items,
    write_notices,
)
from indexer.store.pool import Pool, connection

BATCH = 5000
PULLS_BATCH = 50_000
"""Pulls of one hour that are coalesced together; a busier hour takes several batches, and gives more entries."""

CHECKS_RETENTION = timedelta(minutes=15)
"""Checks wait five minutes for their GET, and the notifications of both may come late."""

NOTICE_RETENTION = timedelta(minutes=16)
"""A write takes at most 15 minutes: the proxy files end it then. Its notice is kept longer than that."""

OWN_REQUESTS_APART = timedelta(minutes=5)
"""The events of our own requests come within seconds. Where one comes later, the packs of its minute are searched."""

CHECKS_BATCH = 50_000
REST_SECONDS = 30.0
PROCESS_RETENTION = timedelta(days=1)
LOSS_RETENTION = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each is kept. ``pull_detail`` None: every pull is an entry of the log itself, for ever."""

    inbox: timedelta
    events: timedelta
    tombstones: timedelta
    due: timedelta
    pull_detail: timedelta | None
    jobs: timedelta = timedelta(days=90)


class Housekeeper:
    """The loop that trims."""

    name = "housekeeping"

    def __init__(self, pool: Pool, retention: Retention, *, batch: int = BATCH) -> None:
        self._pool = pool
        self._retention = retention
        self._batch = batch

    async def run_once(self) -> IterationResult:
        """Trim one batch of each; each batch is a transaction of its own."""
        now = datetime.now(UTC)
        keep, batch = self._retention, self._batch
        async with connection(self._pool) as held:
            trimmed = [
                await inbox.trim_inbox(held, before=now - keep.inbox, limit=batch),
                await events.trim_events(held, before=now - keep.events, limit=batch),
                await own_requests.pack_values(held, before=now - OWN_REQUESTS_APART, limit=batch),
                await tags.trim_tombstones(held, before=now - keep.tombstones, limit=batch),
                await jobs.trim_jobs(held, before=now - keep.jobs, limit=batch),
                await tag_actions.trim_actions(held, before=now, limit=batch),
                await work_items.trim_work(held, before=now - keep.due, limit=batch),
                await write_notices.trim_notices(held, before=now - NOTICE_RETENTION, limit=batch),
            ]
            # With no detail wanted, what an earlier setting had kept apart goes into the log at once.
            age = keep.pull_detail if keep.pull_detail is not None else timedelta(0)
            moved = await audit.coalesce_pulls(held, before=now - age, now=now, limit=PULLS_BATCH)
            checks = await unmatched_checks.trim_checks(
                held, before=now - CHECKS_RETENTION, limit=CHECKS_BATCH
            )
            await loops.trim_loops(held, before=now - PROCESS_RETENTION)
            await receiver_sessions.trim_receiver_sessions(held, before=now - PROCESS_RETENTION)
            await verification_latency.trim_verified(held, before=now - PROCESS_RETENTION)
            await loss.trim_loss(held, before=now - LOSS_RETENTION)
            await space.give_back_space(held)
        more = moved > 0 or max(trimmed) == batch or checks == CHECKS_BATCH
        return IterationResult(items=sum(trimmed) + moved, rest_seconds=0 if more else REST_SECONDS)

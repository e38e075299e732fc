"""What the database knows, as metrics: the backlog of every kind of work, and how every loop of every process fares.

So one scrape of the server shows the reconciler's loops too.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import Gauge

from indexer.service import Round
from indexer.store import audit, due, feeds, forwarding, inbox, loops, loss
from indexer.store.pool import Pool, connection

REST_SECONDS = 5.0

INBOX_WAITING = Gauge("indexer_inbox_waiting", "Deliveries not yet applied.")
INBOX_AGE = Gauge("indexer_inbox_oldest_age_seconds", "Age of the oldest delivery not yet applied.")
QUARANTINED = Gauge("indexer_quarantined", "Deliveries and events that could not be applied.")
UNSEALED = Gauge("indexer_audit_unsealed", "Audit entries that wait for their position.")
DUE_WAITING = Gauge("indexer_due_waiting", "Work that waits, by kind.", ["kind"])
DUE_FAILING = Gauge("indexer_due_failing", "Waiting work that failed before, by kind.", ["kind"])
DUE_AGE = Gauge("indexer_due_oldest_age_seconds", "How long the oldest work has been due, by kind.", ["kind"])
GITLAB_WAITING = Gauge("indexer_gitlab_waiting", "Events that wait for GitLab.")
GITLAB_AGE = Gauge("indexer_gitlab_oldest_age_seconds", "Age of the oldest event that waits for GitLab.")
GITLAB_DEAD = Gauge("indexer_gitlab_dead", "Events that GitLab refused for good.")
FEED_BEHIND = Gauge("indexer_feed_lag_positions", "Sealed entries that a feed has not dealt with.", ["feed"])
FEED_AGE = Gauge("indexer_feed_lag_seconds", "Since when the oldest of them is in the log.", ["feed"])
FEED_STOPPED = Gauge("indexer_feed_stopped", "1 where a feed waits for an operator, else 0.", ["feed"])
FEED_DEAD = Gauge("indexer_feed_dead_letters", "Entries that a feed's sink refused for good.", ["feed"])
REGISTRY_PENDING = Gauge("indexer_registry_pending", "Events in the memory of registries, by their counters.")
REGISTRY_MISSING = Gauge(
    "indexer_registry_missing", "Events delivered by registries that are not here, at most."
)
LOSS_INTERVALS = Gauge(
    "indexer_loss_intervals", "Intervals on record, by what is claimed of them.", ["state"]
)
PROCESS_LOOP_LAST_GOOD = Gauge(
    "indexer_process_loop_last_good_timestamp_seconds",
    "When a loop last ended a round well, by loop and process; the reconciler's included.",
    ["loop", "process"],
)


class Gauges:
    """The loop that reads them."""

    name = "gauges"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run_once(self) -> Round:
        """Read everything once."""
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            waiting = await inbox.inbox_backlog(held)
            INBOX_WAITING.set(waiting.waiting)
            INBOX_AGE.set(_age(waiting.since, now))
            QUARANTINED.set(waiting.quarantined)
            UNSEALED.set((await audit.staged(held)).entries)
            for kind, backlog in (await due.backlog(held)).items():
                DUE_WAITING.labels(kind).set(backlog.waiting)
                DUE_FAILING.labels(kind).set(backlog.failing)
                DUE_AGE.labels(kind).set(_age(backlog.since, now))
            forwarded = await forwarding.forwarding_backlog(held)
            GITLAB_WAITING.set(forwarded.waiting)
            GITLAB_AGE.set(_age(forwarded.since, now))
            GITLAB_DEAD.set(forwarded.dead)
            for gauge in (FEED_BEHIND, FEED_AGE, FEED_STOPPED, FEED_DEAD):
                gauge.clear()
            for feed in await feeds.list_feeds(held):
                FEED_BEHIND.labels(feed.name).set(feed.behind)
                FEED_AGE.labels(feed.name).set(_age(feed.behind_since, now))
                FEED_STOPPED.labels(feed.name).set(feed.stopped is not None)
                FEED_DEAD.labels(feed.name).set(feed.dead)
            held_back = await loss.waiting(held)
            REGISTRY_PENDING.set(held_back.pending)
            REGISTRY_MISSING.set(held_back.missing)
            for claimed, intervals in held_back.intervals.items():
                LOSS_INTERVALS.labels(claimed).set(intervals)
            PROCESS_LOOP_LAST_GOOD.clear()
            for state in await loops.list_loops(held):
                if state.last_good_at is not None:
                    PROCESS_LOOP_LAST_GOOD.labels(state.loop, state.process).set(
                        state.last_good_at.timestamp()
                    )
        return Round(items=1, rest_seconds=REST_SECONDS)


def _age(since: datetime | None, now: datetime) -> float:
    return max((now - since).total_seconds(), 0.0) if since is not None else 0.0

"""What the database knows, as metrics: the backlog of every kind of work, and the state of every loop of every process.

So one scrape of the server shows the reconciler's loops too.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

from prometheus_client import Gauge

from indexer.background.cleanup_gauges import read_plans, read_policies
from indexer.background.loop import IterationResult
from indexer.jobs.job import JobState
from indexer.store import (
    audit,
    checkpoints,
    collections,
    drift,
    feeds,
    forwarding,
    inbox,
    jobs,
    loops,
    loss,
    maintenance,
    self_check,
    storage,
    tag_actions,
    traits,
    work_items,
    write_notices,
)
from indexer.store.listing import status
from indexer.store.pool import Connection, Pool, connection
from indexer.store.traits import Trait

REST_SECONDS = 5.0
VERIFICATION_EVERY_SECONDS = 60.0
"""Shares of verified tags read every tag, or a large sample; plans of cleanup read everything planned."""

INBOX_WAITING = Gauge("indexer_inbox_waiting", "Deliveries not yet applied.")
INBOX_AGE = Gauge("indexer_inbox_oldest_age_seconds", "Age of the oldest delivery not yet applied.")
INBOX_FAILING = Gauge(
    "indexer_inbox_failing", "Of these, deliveries that wait because of a fault of the database or of ours."
)
QUARANTINED = Gauge("indexer_quarantined", "Deliveries and events that could not be applied.")
UNSEALED = Gauge("indexer_audit_unsealed", "Audit entries that wait for their position.")
AUDIT_DAMAGED = Gauge(
    "indexer_audit_damaged", "Audit entries that do not fit the tree, and the tree as a whole; at most 1,000."
)
AUDIT_CONFLICTS = Gauge(
    "indexer_audit_conflicts",
    "Places with a checkpoint that the audit log did not grow out of: it was put back to an earlier state.",
)
AUDIT_CHECKED = Gauge(
    "indexer_audit_checked_timestamp_seconds", "When the whole audit log was last compared with its tree."
)
AUDIT_SIGNED = Gauge("indexer_audit_signed_position", "Of the newest entry that a checkpoint counts.")
AUDIT_PUSHED = Gauge(
    "indexer_audit_pushed_position", "The same of the checkpoint that was pushed into the registry last."
)
WRITE_NOTICES = Gauge(
    "indexer_write_notices_open", "Writes of which the proxy gave notice and no event came yet."
)
TAG_ACTIONS = Gauge(
    "indexer_tag_actions_alarming",
    "Deletions that need attention: tags that may be left on a dummy manifest, uncertain ones, pushes put back today.",
    ["what"],
)
WORK_WAITING = Gauge("indexer_work_waiting", "Work items that wait, by kind.", ["kind"])
WORK_FAILING = Gauge("indexer_work_failing", "Waiting work items that failed before, by kind.", ["kind"])
WORK_AGE = Gauge("indexer_work_oldest_age_seconds", "Age of the oldest work item, by kind.", ["kind"])
GITLAB_WAITING = Gauge("indexer_gitlab_waiting", "Events that wait for GitLab.")
GITLAB_AGE = Gauge("indexer_gitlab_oldest_age_seconds", "Age of the oldest event that waits for GitLab.")
GITLAB_DEAD_LETTERS = Gauge("indexer_gitlab_dead", "Events that GitLab refused for good.")
FEED_BEHIND = Gauge("indexer_feed_lag_positions", "Sealed entries that a feed has not dealt with.", ["feed"])
FEED_AGE = Gauge("indexer_feed_lag_seconds", "Since when the oldest of them is in the log.", ["feed"])
FEED_STOPPED = Gauge("indexer_feed_stopped", "1 where a feed waits for an operator, else 0.", ["feed"])
FEED_DEAD_LETTERS = Gauge(
    "indexer_feed_dead_letters", "Entries that a feed's sink refused for good.", ["feed"]
)
REGISTRY_PENDING = Gauge("indexer_registry_pending", "Events in the memory of registries, by their counters.")
REGISTRY_MISSING = Gauge(
    "indexer_registry_missing", "Events delivered by registries that are not here, at most."
)
LOSS_INTERVALS = Gauge(
    "indexer_loss_intervals", "Intervals on record, by what is claimed of them.", ["state"]
)
VERIFIED_SHARE = Gauge(
    "indexer_tags_verified_ratio", "Share of tags that were verified within a time.", ["within"]
)
PUSH_VERIFIED = Gauge(
    "indexer_push_verified_seconds",
    "From a push's event until its tag was verified, in the last hour.",
    ["quantile"],
)
LAST_COMPLETE_RECONCILE = Gauge(
    "indexer_last_complete_reconcile_timestamp_seconds", "When the last complete full reconcile ended."
)
RECONCILE_UNDECIDED = Gauge(
    "indexer_reconcile_undecided",
    "What the newest full reconcile could not decide or left out.",
    ["kind"],
)
STORAGE_FINDINGS = Gauge(
    "indexer_storage_findings",
    "What the newest check of the registry's storage found: damaged (something cannot be pulled), or harmless.",
    ["severity", "code"],
)
STORAGE_CHECKED = Gauge(
    "indexer_storage_checked_timestamp_seconds", "When the registry's storage was last checked to the end."
)
STORAGE_BYTES = Gauge(
    "indexer_storage_bytes",
    "Bytes of the registry's storage when it was last read. The first six are those of blobs, and add up to them.",
    ["what"],
)
COLLECTION_FOUND = Gauge(
    "indexer_storage_collection_timestamp_seconds",
    "When a reading of the registry's storage last showed that a collection of garbage had run.",
)
COLLECTION_CHANGES = Gauge(
    "indexer_storage_collection_changes",
    "Pushes and deletions that were received of the time in which the newest such collection ran.",
    ["what", "time"],
)
JOBS = Gauge("indexer_jobs", "Jobs on record, by kind and state.", ["kind", "state"])
JOBS_AGE = Gauge(
    "indexer_jobs_oldest_waiting_seconds",
    "Age of the oldest job that waits to be executed, by kind.",
    ["kind"],
)
ACTING_PAUSED = Gauge(
    "indexer_acting_paused", "1 while maintenance or a blocked window lets nothing act, else 0."
)
HIDES_TAGS = Gauge("indexer_registry_hides_tags", "1 where the registry was found to hide tags, else 0.")
PULLS_KNOWN = Gauge(
    "indexer_registry_announces_pulls", "1 where the registry was found to announce pulls, else 0."
)
IS_CACHE = Gauge("indexer_registry_is_cache", "1 where the registry is a pull-through cache, else 0.")
_OF_TRAITS = (
    (HIDES_TAGS, Trait.HIDES_TAGS),
    (IS_CACHE, Trait.IS_CACHE),
    (PULLS_KNOWN, Trait.ANNOUNCES_PULLS),
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
        self._verification_at = float("-inf")

    async def run_once(self) -> IterationResult:
        """Read everything once."""
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            waiting = await inbox.inbox_backlog(held)
            INBOX_WAITING.set(waiting.waiting)
            INBOX_AGE.set(_age(waiting.since, now))
            INBOX_FAILING.set(waiting.failing)
            QUARANTINED.set(waiting.quarantined)
            UNSEALED.set((await audit.staged(held)).entries)
            checked = await self_check.check_state(held)
            AUDIT_DAMAGED.set(checked.damaged)
            AUDIT_CONFLICTS.set(len(await checkpoints.list_conflicts(held)))
            if checked.current.pass_ended_at is not None:
                AUDIT_CHECKED.set(checked.current.pass_ended_at.timestamp())
            signed = await checkpoints.newest_checkpoint(held)
            AUDIT_SIGNED.set(0 if signed is None else signed.size)
            pushed = await checkpoints.newest_push(held)
            AUDIT_PUSHED.set(0 if pushed is None else pushed.size)
            for kind, backlog in (await work_items.backlog(held)).items():
                WORK_WAITING.labels(kind).set(backlog.waiting)
                WORK_FAILING.labels(kind).set(backlog.failing)
                WORK_AGE.labels(kind).set(_age(backlog.waiting_since, now))
            alarming = await tag_actions.count_alarming(held)
            TAG_ACTIONS.labels("on_dummy").set(alarming.on_dummy)
            TAG_ACTIONS.labels("uncertain").set(alarming.uncertain)
            TAG_ACTIONS.labels("put_back").set(alarming.put_back)
            WRITE_NOTICES.set(await write_notices.count_notices(held))
            forwarded = await forwarding.forwarding_backlog(held)
            GITLAB_WAITING.set(forwarded.waiting)
            GITLAB_AGE.set(_age(forwarded.since, now))
            GITLAB_DEAD_LETTERS.set(forwarded.dead)
            await _feeds(held, now)
            held_back = await loss.waiting(held)
            REGISTRY_PENDING.set(held_back.pending)
            REGISTRY_MISSING.set(held_back.missing)
            for claimed, intervals in held_back.intervals.items():
                LOSS_INTERVALS.labels(claimed).set(intervals)
            await _jobs(held, now)
            await read_policies(held, now)
            await _newest_reconcile(held)
            shown = await traits.find_traits(held)
            for gauge, trait in _OF_TRAITS:
                gauge.set(trait in shown and shown[trait].holds)
            if time.monotonic() - self._verification_at >= VERIFICATION_EVERY_SECONDS:
                await _verification(held, now)
                await read_plans(held, now)
                await _storage(held)
                self._verification_at = time.monotonic()
            PROCESS_LOOP_LAST_GOOD.clear()
            for row in await loops.list_loops(held):
                if (at := row["last_good_at"]) is not None:
                    PROCESS_LOOP_LAST_GOOD.labels(row["loop"], row["process"]).set(at.timestamp())
        return IterationResult(items=1, rest_seconds=REST_SECONDS)


async def _feeds(held: Connection, now: datetime) -> None:
    for gauge in (FEED_BEHIND, FEED_AGE, FEED_STOPPED, FEED_DEAD_LETTERS):
        gauge.clear()
    for feed in await feeds.list_feeds(held):
        FEED_BEHIND.labels(feed.name).set(feed.behind)
        FEED_AGE.labels(feed.name).set(_age(feed.behind_since, now))
        FEED_STOPPED.labels(feed.name).set(feed.stopped is not None)
        FEED_DEAD_LETTERS.labels(feed.name).set(feed.dead)


async def _jobs(held: Connection, now: datetime) -> None:
    JOBS.clear()
    JOBS_AGE.clear()
    for each in await jobs.count_jobs(held):
        JOBS.labels(each.kind, each.state).set(each.jobs)
        if each.state is JobState.WAITING:
            JOBS_AGE.labels(each.kind).set(_age(each.since, now))
    ACTING_PAUSED.set(await maintenance.why_paused(held) is not None)


async def _storage(held: Connection) -> None:
    STORAGE_FINDINGS.clear()
    for (code, is_damaged), findings in (await storage.count_findings(held)).items():
        STORAGE_FINDINGS.labels("damaged" if is_damaged else "harmless", code).set(findings)
    check = await storage.find_check(held)
    if check is not None:
        STORAGE_CHECKED.set(check.checked_at.timestamp())
    COLLECTION_CHANGES.clear()
    for found in await collections.newest_collections(held, limit=1):
        COLLECTION_FOUND.set(found.found_at.timestamp())
        time = "maintenance" if found.in_maintenance else "between_readings"
        for what, count in (("uploads", found.uploads), ("deletions", found.deletions)):
            COLLECTION_CHANGES.labels(what, time).set(count)
    for sample in await storage.newest_samples(held, limit=1):
        for what, size in (
            ("tagged", sample.tagged_bytes),
            ("children", sample.children_bytes),
            ("referrers", sample.referrers_bytes),
            ("old", sample.old_bytes),
            ("untagged", sample.untagged_bytes),
            ("unreferenced", sample.stored_bytes - sample.referenced_bytes),
            ("uploads", sample.upload_bytes),
            ("links", sample.link_bytes),
            ("unknown", sample.unknown_bytes),
        ):
            STORAGE_BYTES.labels(what).set(size)


async def _newest_reconcile(held: Connection) -> None:
    RECONCILE_UNDECIDED.clear()
    for row in await status.newest_reconciles(held, limit=1):
        for kind, what in row["undecided"].items():
            RECONCILE_UNDECIDED.labels(kind).set(what["count"])


async def _verification(held: Connection, now: datetime) -> None:
    shares = await status.verification(held, tags=await status.count_tags(held), now=now)
    for within, share in (
        ("15m", shares.within_15_minutes),
        ("24h", shares.within_24_hours),
        ("ever", shares.verified),
    ):
        VERIFIED_SHARE.labels(within).set(math.nan if share is None else share)
    for quantile, seconds in (("0.5", shares.median_seconds), ("0.99", shares.p99_seconds)):
        PUSH_VERIFIED.labels(quantile).set(math.nan if seconds is None else seconds)
    newest = await drift.last_complete_run(held)
    if newest is not None:
        LAST_COMPLETE_RECONCILE.set(newest.finished_at.timestamp())


def _age(since: datetime | None, now: datetime) -> float:
    return max((now - since).total_seconds(), 0.0) if since is not None else 0.0

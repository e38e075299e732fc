"""The status: what waits, what each registry instance sent, how well the tags are verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from indexer.inventory.latency import quantile
from indexer.inventory.loss import Account, LossStatement, current_statement, without_counters
from indexer.store import loops, loss, traits, verification_latency
from indexer.store.pool import Connection
from indexer.store.queries import load

if TYPE_CHECKING:  # `reconciler status` imports this, and needs no lists
    from indexer.store.listing.page_query import Row

SQL = load("listing_status")

INSTANCES = 100
"""At most so many registry instances are shown: each restart makes a new one."""

PROCESSES = 100
INTERVALS = 5
"""At most so many intervals of each process are shown. Older ones stay in the database for a while."""

TREND = 10
"""So many full reconciles are shown."""

COUNTED_EXACTLY = 200_000
"""Up to so many tags verification is counted exactly, above from a sample of that size."""

RECENTLY = timedelta(minutes=15)
LATELY = timedelta(hours=24)
MEASURED = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One registry process, by its debug address. ``intervals``: the latest first."""

    account: Account
    ended_at: datetime | None
    now: LossStatement
    intervals: Sequence[LossStatement]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRows:
    """The status as rows.

    - ``trend``: what the newest full reconciles found, the latest first.
    - ``downtimes``: by instance without counters, what our own downtimes may have cost.
    - ``traits``: what kind of registry this is.
    """

    ingest: Row
    backlog: Mapping[str, Row]
    instances: Sequence[Row]
    last_walk: Row | None
    trend: Sequence[Row]
    loops: Sequence[Row]
    totals: Row
    processes: Sequence[ProcessRow]
    downtimes: Mapping[int, Sequence[LossStatement]]
    traits: Mapping[traits.Trait, traits.TraitState]

    def intervals_of(self, instance: Row) -> Sequence[LossStatement]:
        """Return the loss statements of an instance, by its counters or without, the latest first."""
        process = self.process_of(instance)
        found = [*(process.intervals if process is not None else ()), *self.downtimes[instance["id"]]]
        return sorted(found, key=lambda each: each.to_at, reverse=True)[:INTERVALS]

    def process_of(self, instance: Row) -> ProcessRow | None:
        """Return the process that is known to be this instance."""
        return next((each for each in self.processes if each.account.instance_id == instance["id"]), None)

    def loss_of(self, instance: Row) -> LossStatement:
        """Return what can be said now of an instance's events."""
        process = self.process_of(instance)
        if process is not None:
            return process.now
        return without_counters(
            first_seen_at=instance["first_seen_at"],
            now=self.ingest["now"],
            some_are_read=bool(self.processes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How well the tags are verified: shares of all tags, 0 to 1; None: there are no tags."""

    verified: float | None
    within_15_minutes: float | None
    within_24_hours: float | None
    broken: float | None
    sampled: bool
    pushes: int
    """Of the last hour, that were verified."""
    median_seconds: float | None
    """From the event to the observation that agreed, of these."""
    p99_seconds: float | None


async def newest_reconciles(connection: Connection, *, limit: int) -> Sequence[Row]:
    """Return what the newest full reconciles that ended found, the latest first."""
    return list(await connection.fetch(SQL["trend"], limit))


async def status(connection: Connection) -> StatusRows:
    """Return the status."""
    backlog = await connection.fetch(SQL["backlog"])
    instances = await connection.fetch(SQL["instances"], INSTANCES)
    ids = [row["id"] for row in instances]
    return StatusRows(
        ingest=await connection.fetchrow(SQL["ingest"]),
        backlog={row["kind"]: row for row in backlog},
        instances=instances,
        last_walk=await connection.fetchrow(SQL["last_walk"]),
        trend=await newest_reconciles(connection, limit=TREND),
        loops=await loops.list_loops(connection),
        totals=await connection.fetchrow(SQL["totals"]),
        processes=await _processes(connection),
        downtimes=await loss.list_instance_statements(connection, instance_ids=ids, limit=INTERVALS),
        traits=await traits.find_traits(connection),
    )


async def verification(connection: Connection, *, tags: int, now: datetime) -> Verification:
    """Return how well the tags are verified. Reads all tags or a large sample, so it is not for every call."""
    since = (now - RECENTLY, now - LATELY)
    sampled = tags > COUNTED_EXACTLY
    if sampled:
        row: Row = await connection.fetchrow(SQL["verified_sample"], *since, 100 * COUNTED_EXACTLY / tags)
    else:
        row = await connection.fetchrow(SQL["verified"], *since)
    lengths = await verification_latency.sum_verified(connection, since=now - MEASURED)
    return Verification(
        pushes=sum(lengths.values()),
        median_seconds=quantile(lengths, 0.5),
        p99_seconds=quantile(lengths, 0.99),
        verified=_share(row["verified"], row["tags"]),
        within_15_minutes=_share(row["recently"], row["tags"]),
        within_24_hours=_share(row["lately"], row["tags"]),
        broken=_share(row["broken"], row["tags"]),
        sampled=sampled,
    )


async def count_tags(connection: Connection) -> int:
    """Return how many tags are on record, by maintained counters."""
    row: Row = await connection.fetchrow(SQL["totals"])
    return int(row["tags"])


async def _processes(connection: Connection) -> list[ProcessRow]:
    found = await loss.list_processes(connection, limit=PROCESSES)
    ids = [account.id for account, _ in found]
    statements = await loss.list_statements(connection, process_ids=ids, limit=INTERVALS)
    return [
        ProcessRow(
            account=account,
            ended_at=ended_at,
            now=_now(account, ended_at, statements[account.id]),
            intervals=statements[account.id],
        )
        for account, ended_at in found
    ]


def _now(account: Account, ended_at: datetime | None, statements: Sequence[LossStatement]) -> LossStatement:
    """Return the current statement; of a process that ended, the one about its end."""
    if ended_at is not None and statements:
        return statements[0]
    return current_statement(account, statements)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None

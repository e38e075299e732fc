"""Work items: leased by any number of workers, then completed or rescheduled.

due ──lease──▶ leased ──complete──▶ removed
 ▲               │ │
 │  reschedule ──┘ └── enqueued again meanwhile ──▶ due, exactly once more
 └── the lease expires (the worker died)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("work_items")

CHANNEL = "work_item"
"""Notified whenever work is enqueued. A listener that missed it polls."""

FIRST_OBSERVATION_DELAY = timedelta(milliseconds=150)
"""A registry announces a push before it writes the tag: p99 23 ms on a local disk, more on object stores."""

MEASURE_DELAY = timedelta(seconds=1)
"""The size of a repository is computed this long after its manifests changed, once for all changes since."""

OBSERVATION_SPACING = timedelta(seconds=1)
"""Observations of one key stay this far apart, however often it is enqueued."""

ABSENT: Final = "absent"
"""The last observation of what the registry does not have. Else it is the digest that the registry served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkKey:
    """The key of a work item. ``key``: the tag to verify, the digest to resolve, or ''."""

    kind: WorkKind
    repository_id: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """A leased work item.

    ``observations`` and ``confirmations`` count since it was last enqueued. ``last_observation``: what was found last.
    """

    kind: WorkKind
    repository_id: int
    repository: RepositoryName
    key: str
    generation: int
    attempts: int
    observations: int
    confirmations: int
    last_observation: str | None
    waiting_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A leased work item to be repeated at ``due_at``, and what to record of this attempt."""

    row: WorkItem
    due_at: datetime
    attempts: int = 0
    observations: int = 0
    confirmations: int = 0
    last_observation: str | None = None

    @classmethod
    def given_back(cls, row: WorkItem, *, due_at: datetime) -> Deferred:
        """Return an item as it was leased: where registry or database was away, no attempt counts."""
        return cls(
            row=row,
            due_at=due_at,
            attempts=row.attempts,
            observations=row.observations,
            confirmations=row.confirmations,
            last_observation=row.last_observation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many items of one kind wait, how many of them failed before, and since when the oldest waits."""

    waiting: int
    failing: int
    waiting_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """A work item that failed ``attempts`` times, and is retried ever more rarely."""

    repository: RepositoryName
    key: str
    attempts: int


async def enqueue(
    connection: Connection, *, keys: Iterable[WorkKey], now: datetime, due_at: datetime
) -> None:
    """Enqueue work for one instant, and wake the workers when the transaction commits."""
    await enqueue_at(connection, due_at=dict.fromkeys(keys, due_at), now=now)


async def enqueue_once(connection: Connection, *, keys: Iterable[WorkKey], now: datetime) -> None:
    """Enqueue work for now, except what waits already: that keeps its attempts and its instant."""
    keys = list(keys)
    if not keys:
        return
    await connection.execute(
        SQL["enqueue_once"],
        [key.kind for key in keys],
        [key.repository_id for key in keys],
        [key.key for key in keys],
        now,
    )
    await connection.execute(f"NOTIFY {CHANNEL}")


async def enqueue_at(connection: Connection, *, due_at: Mapping[WorkKey, datetime], now: datetime) -> None:
    """Enqueue work, each for its own instant, and wake the workers when the transaction commits."""
    if not due_at:
        return
    await connection.execute(
        SQL["enqueue"],
        [key.kind for key in due_at],
        [key.repository_id for key in due_at],
        [key.key for key in due_at],
        now,
        list(due_at.values()),
        OBSERVATION_SPACING,
    )
    await connection.execute(f"NOTIFY {CHANNEL}")


async def lease_work(
    connection: Connection,
    *,
    kind: WorkKind,
    now: datetime,
    lease: timedelta,
    limit: int,
    repositories: Sequence[RepositoryName] | None = None,
) -> list[WorkItem]:
    """Lease what is due, the longest due first; only of ``repositories``, if given."""
    if repositories is None:
        rows = await connection.fetch(SQL["lease_work"], kind, limit, now, now + lease)
    else:
        rows = await connection.fetch(SQL["lease_work_of"], kind, limit, now, now + lease, list(repositories))
    return [_item(kind, row) for row in rows]


async def lease_wanted(
    connection: Connection, *, now: datetime, lease: timedelta, limit: int
) -> list[WorkItem]:
    """Lease manifests that a question waits for (``write_notices.want_read``)."""
    rows = await connection.fetch(SQL["lease_wanted"], limit, now, now + lease)
    return [_item(WorkKind.RESOLVE, row) for row in rows]


def _item(kind: WorkKind, row: asyncpg.Record) -> WorkItem:
    return WorkItem(
        kind=kind,
        repository_id=row["repository_id"],
        repository=RepositoryName(row["repository"]),
        key=row["key"],
        generation=row["generation"],
        attempts=row["attempts"],
        observations=row["observations"],
        confirmations=row["confirmations"],
        last_observation=row["last_observation"],
        waiting_since=row["waiting_since"],
    )


async def complete(connection: Connection, *, rows: Sequence[WorkItem], now: datetime) -> None:
    """Remove items that are done. Those enqueued again meanwhile are done once more."""
    if not rows:
        return
    kinds = [row.kind for row in rows]
    repositories = [row.repository_id for row in rows]
    keys = [row.key for row in rows]
    await connection.execute(SQL["complete"], kinds, repositories, keys, [row.generation for row in rows])
    await connection.execute(SQL["release_due"], kinds, repositories, keys, now, OBSERVATION_SPACING)


async def reschedule(connection: Connection, *, deferred: Sequence[Deferred], now: datetime) -> None:
    """Release items for another attempt."""
    if not deferred:
        return
    await connection.execute(
        SQL["reschedule"],
        [item.row.kind for item in deferred],
        [item.row.repository_id for item in deferred],
        [item.row.key for item in deferred],
        [item.row.generation for item in deferred],
        [item.due_at for item in deferred],
        [item.attempts for item in deferred],
        [item.observations for item in deferred],
        [item.confirmations for item in deferred],
        [item.last_observation for item in deferred],
        now,
        OBSERVATION_SPACING,
    )


async def next_due_at(connection: Connection, *, kind: WorkKind) -> datetime | None:
    """Return when the next item of a kind can be leased; None: there is none."""
    at: datetime | None = await connection.fetchval(SQL["next_due_at"], kind)
    return at


async def backlog(connection: Connection) -> dict[WorkKind, Backlog]:
    """Return how many items of each kind wait."""
    rows = await connection.fetch(SQL["backlog"])
    found = {
        WorkKind(row["kind"]): Backlog(
            waiting=row["waiting"], failing=row["failing"], waiting_since=row["waiting_since"]
        )
        for row in rows
    }
    return {kind: found.get(kind, Backlog(waiting=0, failing=0, waiting_since=None)) for kind in WorkKind}


async def waiting(
    connection: Connection, *, repositories: Sequence[RepositoryName] | None
) -> dict[WorkKind, int]:
    """Return how many items of each kind wait in some repositories (None: all), without those that keep failing."""
    rows = await connection.fetch(SQL["waiting"], None if repositories is None else list(repositories))
    return {WorkKind(row["kind"]): row["waiting"] for row in rows}


async def list_failing(
    connection: Connection,
    *,
    repositories: Sequence[RepositoryName] | None,
    kind: WorkKind,
    limit: int,
) -> tuple[int, list[Failing]]:
    """Return how many items of a kind failed repeatedly in some repositories (None: all), and the first of them."""
    rows = await connection.fetch(
        SQL["list_failing"], None if repositories is None else list(repositories), limit, kind
    )
    found = [
        Failing(repository=RepositoryName(row["repository"]), key=row["key"], attempts=row["attempts"])
        for row in rows
    ]
    return (rows[0]["all_of_them"] if rows else 0), found


async def trim_work(connection: Connection, *, before: datetime, limit: int) -> int:
    """Give up items that have waited since before an instant and kept failing; return how many."""
    return int((await connection.execute(SQL["trim_work"], before, limit)).rsplit(" ", 1)[1])

"""A reconcile run that several processes share, and that outlives them: which repositories are left, who has which.

A worker is a connection that holds an advisory lock under its number. Everything it takes or completes goes over that
connection. So the repository of a dead worker is free as soon as PostgreSQL knows that its connection is gone, and a
worker whose connection is gone cannot complete what another one has taken since.

    begun ──one lists──▶ listed ──all take and complete──▶ nothing left ──one checks the brake──▶ ended
      └──────── nobody works on it: interrupted; resumed, or closed as interrupted ────────┘
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from indexer.oci.digest import digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.store.drift import RUN_LOCK, RunMode, RunOutcome
from indexer.store.pending_deletions import PendingDeletion
from indexer.store.pool import Connection, Pool, connection
from indexer.store.queries import load

SQL = load("reconcile_runs")

_WORKER_LOCK: Final = 0x77616C6D
_LEAD_LOCK: Final = 0x77616C6E
_BEGIN_LOCK: Final = 0x77616C6F
"""Classes of advisory locks."""

Undecided = dict[str, dict[str, Any]]
"""Per kind of reason ``{"count": n, "examples": [...]}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A reconcile run. ``alive``: some worker works on it; ``active_at``: the last sign of one."""

    id: int
    started_at: datetime
    active_at: datetime
    mode: RunMode
    cause: str | None
    scope: Sequence[RepositoryName] | None
    thorough: bool
    first_reconcile: bool
    alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a run is: since when its repositories are listed, how many they are and how many are left."""

    listed_at: datetime | None
    ended: bool
    total: int
    left: int

    @property
    def listed(self) -> bool:
        """Whether its repositories are listed."""
        return self.listed_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a run. ``outcome`` None: it has not ended; ``deletes`` None: the brake has not decided yet."""

    outcome: RunOutcome | None
    counts: Mapping[str, int]
    undecided: Undecided
    deletes: bool | None
    brake: str | None


class Worker:
    """A worker of reconcile runs, as long as its connection lasts."""

    def __init__(self, held: Connection) -> None:
        self._held = held
        self._lock = asyncio.Lock()
        self._number = secrets.randbelow(2**31 - 1) + 1

    async def register(self) -> None:
        """Hold the lock that marks this worker as alive. A half-open connection ends within a minute (``pool``)."""
        await self._held.execute(SQL["hold_lock"], _WORKER_LOCK, self._number)

    async def leave(self) -> None:
        """Release all locks."""
        await self._held.execute(SQL["release_locks"])

    @asynccontextmanager
    async def coordinating(self) -> AsyncIterator[Connection]:
        """Be the only worker that begins, joins or closes runs, in a transaction."""
        async with self._lock, self._held.transaction():
            await self._held.execute(SQL["lock_beginning"], _BEGIN_LOCK)
            yield self._held

    async def join(self, run: RunRecord) -> None:
        """Mark this worker as one of the run's; within ``coordinating``."""
        await self._held.execute(SQL["hold_lock_shared"], RUN_LOCK, run.id)

    async def has_others(self, run_id: int) -> bool:
        """Tell whether another worker works on a run, too."""
        async with self._lock:
            return bool(await self._held.fetchval(SQL["has_others"], RUN_LOCK, run_id))

    @asynccontextmanager
    async def leading(self, run_id: int) -> AsyncIterator[bool]:
        """Be the one worker that lists a run or finishes it; yields False if another is."""
        async with self._lock:
            leads = bool(await self._held.fetchval(SQL["try_lock"], _LEAD_LOCK, run_id))
        try:
            yield leads
        finally:
            if leads and not self._held.is_closed():
                async with self._lock:
                    await self._held.execute(SQL["release_lock"], _LEAD_LOCK, run_id)

    async def take_repository(self, *, run_id: int, of_first: int | None = None) -> RepositoryName | None:
        """Take the next repository, of the run's first ``of_first``, that no live worker has; None if there is none."""
        values = (run_id, self._number, _WORKER_LOCK, of_first)
        async with self._lock:
            name = await self._held.fetchval(SQL["take_repository"], *values)
        return None if name is None else RepositoryName(name)

    async def end_repository(
        self,
        *,
        run_id: int,
        name: RepositoryName,
        at: datetime,
        counts: Mapping[str, int],
        undecided: Undecided,
    ) -> None:
        """Complete a repository."""
        values = (run_id, name, self._number, at, dict(counts), undecided)
        async with self._lock:
            await self._held.execute(SQL["end_repository"], *values)

    async def add_pending_deletions(
        self,
        *,
        run_id: int,
        repository: RepositoryName,
        deletions: Sequence[PendingDeletion],
        manifests: bool,
        vanished: bool,
    ) -> None:
        """Store deletions of a repository that this worker has, for the end of the run."""
        if not deletions:
            return
        async with self._lock:
            await self._held.execute(
                SQL["add_pending_deletions"],
                run_id,
                repository,
                [item.key for item in deletions],
                manifests,
                [item.revision for item in deletions],
                [item.observed_at for item in deletions],
                [item.as_of for item in deletions],
                [digest_to_bytes(item.expected) if item.expected else None for item in deletions],
                vanished,
                self._number,
            )


@asynccontextmanager
async def working(pool: Pool) -> AsyncIterator[Worker]:
    """Yield a worker, on a connection of its own."""
    async with connection(pool) as held:
        worker = Worker(held)
        await worker.register()
        try:
            yield worker
        finally:
            if not held.is_closed():
                await worker.leave()


async def open_runs(held: Connection) -> list[RunRecord]:
    """Return the runs that have not ended, oldest first."""
    return [_run(row) for row in await held.fetch(SQL["open_runs"], RUN_LOCK)]


async def begin_run(
    held: Connection,
    *,
    mode: RunMode,
    at: datetime,
    scope: Sequence[RepositoryName] | None,
    cause: str | None,
    thorough: bool,
) -> RunRecord:
    """Begin a run. ``scope``: only these repositories; None: all. ``cause``: why it began by itself."""
    names = None if scope is None else sorted(set(scope))
    return _run(await held.fetchrow(SQL["begin_run"], at, mode, names, cause, thorough))


def _run(row: Any) -> RunRecord:
    return RunRecord(
        id=row["id"],
        started_at=row["started_at"],
        active_at=row["active_at"],
        mode=RunMode(row["mode"]),
        cause=row["cause"],
        scope=row["scope"],
        thorough=row["thorough"],
        first_reconcile=row["first_reconcile"],
        alive=row["alive"],
    )


async def add_run_repositories(
    held: Connection, *, run_id: int, names: Sequence[RepositoryName], at: datetime, undecided: Undecided
) -> None:
    """List the repositories of a run, those compared longest ago first; in a transaction."""
    await held.execute(SQL["add_run_repositories"], run_id, list(names))
    await held.execute(SQL["mark_listed"], run_id, at, undecided)


async def state_of(held: Connection, *, run_id: int) -> State:
    """Return how far a run is."""
    row = await held.fetchrow(SQL["state_of"], run_id)
    assert row is not None  # noqa: S101 - runs are never removed; tells mypy
    return State(listed_at=row["listed_at"], ended=row["ended"], total=row["total"], left=row["left"])


async def sum_counts(held: Connection, *, run_id: int) -> Counter[str]:
    """Return the sums of the counts of a run's repositories."""
    return Counter({row["key"]: row["value"] for row in await held.fetch(SQL["sum_counts"], run_id)})


async def progress_run(held: Connection, *, run_id: int, counts: Mapping[str, int]) -> None:
    """Record the counts of a run so far."""
    await held.execute(SQL["progress_run"], run_id, dict(counts))


async def list_undecided(held: Connection, *, run_id: int) -> list[Undecided]:
    """Return what was inconclusive, repository by repository."""
    return [row["undecided"] for row in await held.fetch(SQL["list_undecided"], run_id)]


async def end_run(
    held: Connection,
    *,
    run_id: int,
    at: datetime,
    outcome: RunOutcome,
    counts: Mapping[str, int],
    undecided: Undecided,
    note: str | None,
) -> None:
    """End a run and drop its repositories and pending deletions; in a transaction."""
    await held.execute(SQL["end_run"], run_id, at, outcome, dict(counts), undecided, note)
    await _drop_work(held, run_id)


async def give_up_run(
    held: Connection, *, run_id: int, at: datetime, outcome: RunOutcome, note: str | None = None
) -> None:
    """End a run that was not completed; in a transaction."""
    await held.execute(SQL["give_up_run"], run_id, at, outcome, note)
    await _drop_work(held, run_id)


async def note_run(held: Connection, *, run_id: int, note: str) -> None:
    """Record what stopped a run for now."""
    await held.execute(SQL["note_run"], run_id, note)


async def _drop_work(held: Connection, run_id: int) -> None:
    await held.execute(SQL["drop_run_repositories"], run_id)
    await held.execute(SQL["drop_pending_deletions"], run_id)


async def result_of(held: Connection, *, run_id: int) -> RunResult:
    """Return the result of a run."""
    row = await held.fetchrow(SQL["result_of"], run_id)
    assert row is not None  # noqa: S101 - runs are never removed; tells mypy
    return RunResult(
        outcome=RunOutcome(row["outcome"]) if row["outcome"] else None,
        counts=row["counts"],
        undecided=row["undecided"],
        deletes=row["deletions_allowed"],
        brake=row["brake_reason"],
    )

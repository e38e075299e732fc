"""A walk that several processes share, and that outlives them: what is left of it, who has what, what is held back.

A worker is a connection that holds an advisory lock under its number, and everything a worker takes or ends goes over
that connection. So what a dead worker had is free as soon as PostgreSQL knows that its connection is gone, and a
worker whose connection is gone can no longer end what another has taken since.

    begun ──one lists──▶ shared out ──all take and end──▶ nothing left ──one asks the brake──▶ ended
      └────────── nobody works at it: interrupted; gone on with, or closed as such ──────────┘
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
class Run:
    """A walk. ``alive``: somebody works at it; ``active_at``: the last sign that somebody did."""

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
    """How far a walk is: since when its repositories are shared out, how many they are and how many are left."""

    listed_at: datetime | None
    ended: bool
    total: int
    left: int

    @property
    def listed(self) -> bool:
        """Whether its repositories are shared out."""
        return self.listed_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a walk came to. Outcome None: it has not ended; ``deletes`` None: the brake was not asked yet."""

    outcome: RunOutcome | None
    counts: Mapping[str, int]
    undecided: Undecided
    deletes: bool | None
    brake: str | None


class Worker:
    """One who takes part in walks, as long as its connection lasts."""

    def __init__(self, held: Connection) -> None:
        self._held = held
        self._turn = asyncio.Lock()
        self._number = secrets.randbelow(2**31 - 1) + 1

    async def register(self) -> None:
        """Hold the lock that says we live; a connection whose other end is gone ends within a minute (``pool.py``)."""
        await self._held.execute(SQL["hold_lock"], _WORKER_LOCK, self._number)

    async def leave(self) -> None:
        """Let go of everything."""
        await self._held.execute(SQL["release_locks"])

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[Connection]:
        """Be the only one that begins, joins or closes walks, in a transaction."""
        async with self._turn, self._held.transaction():
            await self._held.execute(SQL["lock_beginning"], _BEGIN_LOCK)
            yield self._held

    async def take_part(self, run: Run) -> None:
        """Show that somebody works at a walk; while deciding."""
        await self._held.execute(SQL["hold_lock_shared"], RUN_LOCK, run.id)

    async def has_company(self, run_id: int) -> bool:
        """Tell whether somebody else works at a walk, too."""
        async with self._turn:
            return bool(await self._held.fetchval(SQL["has_company"], RUN_LOCK, run_id))

    @asynccontextmanager
    async def leading(self, run_id: int) -> AsyncIterator[bool]:
        """Be the one who lists a walk or brings it to its end; yields False if another is."""
        async with self._turn:
            leads = bool(await self._held.fetchval(SQL["try_lock"], _LEAD_LOCK, run_id))
        try:
            yield leads
        finally:
            if leads and not self._held.is_closed():
                async with self._turn:
                    await self._held.execute(SQL["release_lock"], _LEAD_LOCK, run_id)

    async def take_repository(self, *, run_id: int, of_first: int | None = None) -> RepositoryName | None:
        """Take the next repository, of the ``of_first`` of the walk, that nobody alive has; None if there is none."""
        values = (run_id, self._number, _WORKER_LOCK, of_first)
        async with self._turn:
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
        """Be done with a repository."""
        values = (run_id, name, self._number, at, dict(counts), undecided)
        async with self._turn:
            await self._held.execute(SQL["end_repository"], *values)

    async def hold_back(
        self,
        *,
        run_id: int,
        repository: RepositoryName,
        deletions: Sequence[PendingDeletion],
        manifests: bool,
        vanished: bool,
    ) -> None:
        """Keep deletions of a repository that we have for the end of the walk."""
        if not deletions:
            return
        async with self._turn:
            await self._held.execute(
                SQL["hold_back"],
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
    """Hold a connection for taking part in walks."""
    async with connection(pool) as held:
        worker = Worker(held)
        await worker.register()
        try:
            yield worker
        finally:
            if not held.is_closed():
                await worker.leave()


async def open_runs(held: Connection) -> list[Run]:
    """Return the walks that have not ended, the oldest first."""
    return [_run(row) for row in await held.fetch(SQL["open_runs"], RUN_LOCK)]


async def begin_run(
    held: Connection,
    *,
    mode: RunMode,
    at: datetime,
    scope: Sequence[RepositoryName] | None,
    cause: str | None,
    thorough: bool,
) -> Run:
    """Open a walk. ``cause``: why it began by itself."""
    names = None if scope is None else sorted(set(scope))
    return _run(await held.fetchrow(SQL["begin_run"], at, mode, names, cause, thorough))


def _run(row: Any) -> Run:
    return Run(
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


async def share_out(
    held: Connection, *, run_id: int, names: Sequence[RepositoryName], at: datetime, undecided: Undecided
) -> None:
    """Make repositories the work of a walk, the longest not compared first; in a transaction."""
    await held.execute(SQL["share_out"], run_id, list(names))
    await held.execute(SQL["mark_listed"], run_id, at, undecided)


async def state_of(held: Connection, *, run_id: int) -> State:
    """Return how far a walk is."""
    row = await held.fetchrow(SQL["state_of"], run_id)
    assert row is not None  # noqa: S101 - walks are never removed; tells mypy
    return State(listed_at=row["listed_at"], ended=row["ended"], total=row["total"], left=row["left"])


async def sum_counts(held: Connection, *, run_id: int) -> Counter[str]:
    """Return what the repositories of a walk counted together."""
    return Counter({row["key"]: row["value"] for row in await held.fetch(SQL["sum_counts"], run_id)})


async def progress_run(held: Connection, *, run_id: int, counts: Mapping[str, int]) -> None:
    """Write what a walk counted so far."""
    await held.execute(SQL["progress_run"], run_id, dict(counts))


async def list_undecided(held: Connection, *, run_id: int) -> list[Undecided]:
    """Return what could not be decided, repository by repository."""
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
    """Close a walk and drop what was only for its time; in a transaction."""
    await held.execute(SQL["end_run"], run_id, at, outcome, dict(counts), undecided, note)
    await _drop_work(held, run_id)


async def give_up_run(
    held: Connection, *, run_id: int, at: datetime, outcome: RunOutcome, note: str | None = None
) -> None:
    """Close a walk that did not come to its end; in a transaction."""
    await held.execute(SQL["give_up_run"], run_id, at, outcome, note)
    await _drop_work(held, run_id)


async def note_run(held: Connection, *, run_id: int, note: str) -> None:
    """Say what stopped a walk for now."""
    await held.execute(SQL["note_run"], run_id, note)


async def _drop_work(held: Connection, run_id: int) -> None:
    await held.execute(SQL["drop_shares"], run_id)
    await held.execute(SQL["drop_all_held"], run_id)


async def result_of(held: Connection, *, run_id: int) -> RunResult:
    """Return what a walk came to."""
    row = await held.fetchrow(SQL["result_of"], run_id)
    assert row is not None  # noqa: S101 - walks are never removed; tells mypy
    return RunResult(
        outcome=RunOutcome(row["outcome"]) if row["outcome"] else None,
        counts=row["counts"],
        undecided=row["undecided"],
        deletes=row["deletions_allowed"],
        brake=row["brake_reason"],
    )

"""The drift report: runs of the walk and what they, or verification, found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexer.inventory.causes import TENTATIVE
from indexer.inventory.changes import Finding
from indexer.oci.digest import digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("drift")
_WALK_LOCK = 0x77616C6B  # "walk"
RUN_LOCK = 0x77616C6C
"""Class of the advisory locks that say who works at a run; the run's id is the other half."""


class RunMode(StrEnum):
    """Who walked."""

    RUN = "run"
    ONCE = "once"
    PLAN = "plan"


class RunOutcome(StrEnum):
    """How a walk ended."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BRAKED = "braked"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Whoever walked ended before the walk did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRun:
    """A walk of everything that ended complete."""

    id: int
    started_at: datetime
    finished_at: datetime
    counts: Mapping[str, int]


@asynccontextmanager
async def only_walker(connection: Connection) -> AsyncIterator[bool]:
    """Hold the lock of the one process that walks; yields False if another has it."""
    if not await connection.fetchval(SQL["try_walk_lock"], _WALK_LOCK):
        yield False
        return
    try:
        yield True
    finally:
        await connection.execute(SQL["release_walk_lock"], _WALK_LOCK)


@asynccontextmanager
async def working_at(connection: Connection, *, run_id: int) -> AsyncIterator[None]:
    """Work at a run that this connection began, and let go of it; one that breaks has let go, too."""
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(SQL["leave_run"], RUN_LOCK, run_id)


async def close_interrupted(connection: Connection, *, at: datetime) -> int:
    """Close the runs that nobody works at any more; return how many."""
    return int((await connection.execute(SQL["close_interrupted"], at, RUN_LOCK)).rsplit(" ", 1)[1])


async def begin_run(
    connection: Connection,
    *,
    mode: RunMode,
    at: datetime,
    scope: Sequence[RepositoryName] | None,
    cause: str | None = None,
) -> int:
    """Open a run and return its id. The connection works at it from the start, so nobody takes it for interrupted.

    ``cause``: why it began by itself.
    """
    async with connection.transaction():
        names = None if scope is None else list(scope)
        run_id = int(await connection.fetchval(SQL["begin_run"], at, mode, names, cause))
        await connection.execute(SQL["take_part"], RUN_LOCK, run_id)
    return run_id


async def progress_run(connection: Connection, *, run_id: int, counts: Mapping[str, int]) -> None:
    """Write what a run counted so far."""
    await connection.execute(SQL["progress_run"], run_id, dict(counts))


async def finish_run(
    connection: Connection,
    *,
    run_id: int,
    at: datetime,
    outcome: RunOutcome,
    counts: Mapping[str, int],
    note: str | None,
) -> None:
    """Close a run."""
    await connection.execute(SQL["finish_run"], run_id, at, outcome, dict(counts), note)


async def add_findings(
    connection: Connection,
    *,
    findings: Sequence[Finding],
    run_id: int | None,
    repository_ids: Mapping[RepositoryName, int],
    note: str | None = None,
) -> None:
    """Report differences; ``run_id`` None where verification found them."""
    await connection.execute(
        SQL["add_findings"],
        [run_id] * len(findings),
        [finding.detected_at for finding in findings],
        [finding.detected_at if finding.repaired else None for finding in findings],
        [repository_ids.get(finding.repository) for finding in findings],
        [finding.kind for finding in findings],
        [finding.cause for finding in findings],
        [finding.tag for finding in findings],
        [digest_to_bytes(f.expected) if f.expected else None for f in findings],
        [digest_to_bytes(f.found) if f.found else None for f in findings],
        [note] * len(findings),
        [finding.not_before for finding in findings],
        TENTATIVE,
    )


async def last_complete_run(connection: Connection) -> CompleteRun | None:
    """Return the newest walk of everything that ended complete."""
    row = await connection.fetchrow(SQL["last_complete_run"])
    if row is None:
        return None
    return CompleteRun(
        id=row["id"], started_at=row["started_at"], finished_at=row["finished_at"], counts=row["counts"]
    )

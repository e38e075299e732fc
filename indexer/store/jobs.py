"""Jobs: asked for, leased by one process at a time, and ended; each with its entry in the log.

A lease is a number that only its process knows, and an instant by the database's clock. Whatever a process writes about
a job names the lease, so one whose lease has passed to another cannot write any more. ``check_lease`` says whether it
may still act: a process that slept for longer than its lease finds that it may not.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from indexer.inventory.changes import AuditAction, AuditSource
from indexer.inventory.events import RequestInfo
from indexer.jobs.job import Asked, Job, JobProgress, JobState, new_job_id
from indexer.oci.reference import RepositoryName
from indexer.store.lookups import operator_ids
from indexer.store.pool import Connection
from indexer.store.queries import load
from indexer.store.text import storable

SQL = load("jobs")

CHANNEL: Final = "job"
"""Notified with the id of a job whenever what is shown of it changes."""
WANTED_CHANNEL: Final = "job_wanted"
"""Notified whenever a job may be taken. A listener that missed it polls."""

_LOCK: Final = 0x6A6F6273  # "jobs"
_COLUMNS: Final = tuple(Job.__dataclass_fields__)
LONGEST_REASON: Final = 1000
LONGEST_ERROR: Final = 4000
LONGEST_RESULT_IN_LOG: Final = 2000
"""Characters of a result, as JSON, that the entry of its end takes in; the job itself has all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """The key that a client sent with a request, and whose client it was: keys of different callers are different."""

    owner: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """What became of a request: the job. ``replayed``: it was asked for before with the same idempotency key."""

    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Nothing was added. ``with_job`` acts on the same repositories; None: the idempotency key is another request's."""

    with_job: Job | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A job that this process has; ``deaths``: how many processes disappeared with it since it last got on."""

    job: Job
    lease: uuid.UUID
    deaths: int


async def request_job(
    connection: Connection, *, asked: Asked, idempotency: Idempotency | None = None
) -> Requested | Conflict:
    """Add a job and its entry in the log, in the caller's transaction; or say why it cannot be."""
    await connection.execute(SQL["lock_jobs"], _LOCK)
    wanted = _hash(asked)
    if idempotency is not None:
        row = await connection.fetchrow(SQL["find_replayed"], idempotency.owner, idempotency.key, wanted)
        if row is not None:
            return Requested(job=_job(row), replayed=True) if row["is_same"] else Conflict(with_job=None)
    names = None if asked.repositories is None else sorted(set(asked.repositories))
    if asked.acts and (row := await connection.fetchrow(SQL["find_conflict"], names)) is not None:
        return Conflict(with_job=_job(row))
    now: datetime = await connection.fetchval(SQL["database_clock"])
    added = await connection.fetchrow(
        SQL["add_job"],
        new_job_id(now, secrets.token_bytes(10)),
        asked.kind,
        asked.acts,
        dict(asked.params),
        names,
        storable(asked.asked_by)[0],
        storable(asked.asked_from)[0],
        storable(asked.asked_with)[0],
        asked.by_policy,
        None if asked.reason is None else storable(asked.reason, longest=LONGEST_REASON)[0],
        dict(asked.bounds),
        now,
        None if idempotency is None else idempotency.owner,
        None if idempotency is None else idempotency.key,
        wanted,
    )
    job = _job(added)
    detail = {"job": str(job.id), "kind": job.kind, "params": job.params, "reason": job.reason}
    await record_entry(
        connection, job, action=AuditAction.JOB_REQUESTED, at=now, by=job.asked_by, detail=detail
    )
    await _notify(connection, job.id, wanted=True)
    return Requested(job=job)


async def find_job(connection: Connection, *, job_id: uuid.UUID) -> Job | None:
    """Return a job; None: there is none of this id."""
    row = await connection.fetchrow(SQL["find_job"], job_id)
    return None if row is None else _job(row)


async def list_unended(connection: Connection, *, limit: int) -> list[Job]:
    """Return jobs that have not ended, oldest first."""
    return [_job(row) for row in await connection.fetch(SQL["list_unended"], limit)]


async def list_acting(connection: Connection) -> list[Job]:
    """Return the jobs that change the registry just now: a process has them, and its lease has not run out."""
    return [_job(row) for row in await connection.fetch(SQL["list_acting"])]


async def newest_jobs(
    connection: Connection,
    *,
    limit: int,
    states: Sequence[JobState] | None = None,
    kinds: Sequence[str] | None = None,
) -> list[Job]:
    """Return the jobs that were asked for last, newest first; None: of any state, of any kind."""
    return [_job(row) for row in await connection.fetch(SQL["newest_jobs"], limit, states, kinds)]


async def unpause_jobs(connection: Connection) -> None:
    """Let paused jobs go on: acting is not paused any more."""
    for row in await connection.fetch(SQL["unpause_jobs"]):
        await _notify(connection, row["id"], wanted=True)


async def take_job(
    connection: Connection,
    *,
    kinds: Collection[str],
    worker: str,
    lasting: timedelta,
    is_paused: bool,
    only: uuid.UUID | None = None,
) -> Taken | None:
    """Take the oldest job of these kinds that may run now; in a transaction. ``is_paused``: none that acts.

    Includes those of processes whose lease has run out. ``only``: no other than this one.
    """
    await connection.execute(SQL["lock_jobs"], _LOCK)
    lease = uuid.uuid4()
    row = await connection.fetchrow(SQL["take_job"], sorted(kinds), worker, lease, lasting, only, is_paused)
    if row is None:
        return None
    await _notify(connection, row["id"])
    return Taken(job=_job(row), lease=lease, deaths=row["deaths"])


async def extend_lease(
    connection: Connection,
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    lasting: timedelta,
) -> bool | None:
    """Extend a lease; return whether the job is to be cancelled. None: the lease has run out."""
    found: bool | None = await connection.fetchval(SQL["extend_lease"], job_id, lease, lasting)
    return found


async def check_lease(connection: Connection, *, job_id: uuid.UUID, lease: uuid.UUID) -> bool | None:
    """Return whether the job is to be cancelled. None: the lease has run out, by the database's clock."""
    found: bool | None = await connection.fetchval(SQL["check_lease"], job_id, lease)
    return found


async def report_progress(
    connection: Connection,
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    progress: JobProgress,
) -> None:
    """Record how far a job is; nothing happens where the lease is another's."""
    if await connection.fetchval(SQL["report_progress"], job_id, lease, progress.show()) is not None:
        await _notify(connection, job_id)


async def save_checkpoint(
    connection: Connection,
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    state: Mapping[str, Any],
) -> bool:
    """Record from where a job goes on; False: the lease has run out, and nothing was recorded."""
    return await connection.fetchval(SQL["save_checkpoint"], job_id, lease, dict(state)) is not None


async def release_job(
    connection: Connection,
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    state: JobState = JobState.WAITING,
    note: str | None,
    again_in: timedelta | None,
    tries: int,
) -> bool:
    """Give a job back, to be taken again; False: the lease is another's. In a transaction."""
    said = None if note is None else storable(note, longest=LONGEST_ERROR)[0]
    values = (job_id, lease, state, said, again_in, tries)
    if await connection.fetchval(SQL["release_job"], *values) is None:
        return False
    await _notify(connection, job_id, wanted=again_in is None)
    return True


async def end_job(
    connection: Connection,
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID | None,
    state: JobState,
    result: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> Job | None:
    """End a job, with its entry in the log; in a transaction. None: the lease is another's, or it has ended.

    ``lease`` None: of a job that no process has.
    """
    await connection.execute(SQL["lock_jobs"], _LOCK)
    said = None if error is None else storable(error, longest=LONGEST_ERROR)[0]
    values = (job_id, lease, state, None if result is None else dict(result), said)
    row = await connection.fetchrow(SQL["end_job"], *values)
    if row is None:
        return None
    job = _job(row)
    assert job.ended_at is not None  # noqa: S101 - tells mypy
    detail: dict[str, Any] = {"job": str(job.id), "kind": job.kind, "state": job.state.value}
    if job.error is not None:
        detail["error"] = job.error
    if job.result is not None and len(orjson.dumps(job.result)) <= LONGEST_RESULT_IN_LOG:
        detail["result"] = job.result
    by = job.asked_by
    if job.state is JobState.CANCELLED and job.cancelled_by is not None:
        by = job.cancelled_by
    await record_entry(connection, job, action=AuditAction.JOB_ENDED, at=job.ended_at, by=by, detail=detail)
    await _notify(connection, job_id, wanted=True)
    return job


async def cancel_job(connection: Connection, *, job_id: uuid.UUID, by: str) -> Job | None:
    """Cancel a job, in a transaction; return it as it is then. None: it had ended, or there is none.

    One that no process has begun, or that changes nothing in the registry, ends at once. Any other ends once a process
    has brought it to a point at which nothing is half done.
    """
    await connection.execute(SQL["lock_jobs"], _LOCK)
    row = await connection.fetchrow(SQL["ask_to_cancel"], job_id, storable(by)[0])
    if row is None:
        return None
    job = _job(row)
    if job.state is JobState.PAUSED or (
        job.state is JobState.WAITING and (job.started_at is None or not job.acts)
    ):
        return await end_job(connection, job_id=job_id, lease=None, state=JobState.CANCELLED)
    await _notify(connection, job_id, wanted=True)
    return job


async def trim_jobs(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget jobs that ended before an instant; return how many."""
    status: str = await connection.execute(SQL["trim_jobs"], before, limit)
    return int(status.rpartition(" ")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCount:
    """How many jobs of a kind are in a state, and when the oldest of them was asked for."""

    kind: str
    state: JobState
    jobs: int
    since: datetime


async def count_jobs(connection: Connection) -> list[JobCount]:
    """Count the jobs on record by kind and state."""
    return [
        JobCount(kind=row["kind"], state=JobState(row["state"]), jobs=row["jobs"], since=row["since"])
        for row in await connection.fetch(SQL["count_jobs"])
    ]


def job_of(row: Any) -> Job:
    """Return the job of a row with all columns."""
    return _job(row)


def _job(row: Any) -> Job:
    values = {name: row[name] for name in _COLUMNS}
    values["state"] = JobState(row["state"])
    if row["repositories"] is not None:
        values["repositories"] = tuple(RepositoryName(name) for name in row["repositories"])
    return Job(**values)


def _hash(asked: Asked) -> bytes:
    """Return a hash of what was asked for, without who did and how."""
    members = [asked.kind, asked.params, asked.reason]
    return hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).digest()


async def record_entry(
    connection: Connection, job: Job, *, action: AuditAction, at: datetime, by: str, detail: Mapping[str, Any]
) -> None:
    """Stage an entry; it names the repository if the job is about a single one, and the tag if its parameters do.

    In the caller's transaction.
    """
    request = RequestInfo(host=job.asked_from, user_agent=job.asked_with)
    actor_id, client_id = await operator_ids(connection, name=by, request=request)
    single = job.repositories is not None and len(job.repositories) == 1
    tag = job.params.get("tag") if single else None
    await connection.execute(
        SQL["stage_job_entry"],
        at,
        action,
        AuditSource.POLICY if job.by_policy else AuditSource.OPERATOR,
        actor_id,
        client_id,
        job.repositories[0] if single and job.repositories else None,
        tag if isinstance(tag, str) else None,
        {name: value for name, value in detail.items() if value is not None},
    )


async def _notify(connection: Connection, job_id: uuid.UUID, *, wanted: bool = False) -> None:
    await connection.execute(f"NOTIFY {CHANNEL}, '{job_id}'")
    if wanted:
        await connection.execute(f"NOTIFY {WANTED_CHANNEL}")

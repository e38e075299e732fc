"""``reconciler jobs``: what was asked for, how far it is, and how it ended."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import cyclopts

from indexer.commands.common import (
    AsJson,
    Config,
    database_url,
    operator,
    read_settings,
    run_async,
    with_database,
)
from indexer.common.errors import ConfigurationError, StoreError
from indexer.common.terminal import write_lines
from reconciler.commands.acting import finish
from reconciler.commands.shared import write_json

if TYPE_CHECKING:
    from indexer.jobs.job import Job
    from indexer.store.pool import Connection

REPOSITORIES_SHOWN = 3

app = cyclopts.App(name="jobs", help="List, show, follow and cancel jobs.")

JobId = Annotated[str, cyclopts.Parameter(help="The job's id.")]


@app.command(name="list")
def list_(
    *,
    state: Annotated[
        str | None,
        cyclopts.Parameter(
            help="A comma list: only jobs in any of these states, for example waiting,running."
        ),
    ] = None,
    kind: Annotated[
        str | None, cyclopts.Parameter(help="A comma list: only jobs of any of these kinds.")
    ] = None,
    limit: Annotated[int, cyclopts.Parameter(help="At most this many.")] = 50,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """List jobs, newest first."""
    states = None if state is None else state.split(",")
    known = ("waiting", "running", "paused", "done", "failed", "cancelled")
    for word in states or ():
        if word not in known:
            raise ConfigurationError(f"--state {word}: there is none of that name, only {', '.join(known)}")
    if limit < 1:
        raise ConfigurationError("--limit must be 1 or more")

    async def work(held: Connection) -> int:
        from indexer.jobs.job import JobState  # noqa: PLC0415
        from indexer.store.jobs import newest_jobs  # noqa: PLC0415

        found = await newest_jobs(
            held,
            limit=limit,
            states=None if states is None else [JobState(word) for word in states],
            kinds=None if kind is None else kind.split(","),
        )
        if json:
            write_json({"jobs": [job.show() for job in found]})
        elif found:
            write_lines(_table(found))
        else:
            sys.stdout.write("no jobs\n")
        return 0

    return with_database(config, work)


@app.command
def show(job: JobId, /, *, config: Config = None, json: AsJson = False) -> int:
    """Show one job."""
    job_id = _id(job)

    async def work(held: Connection) -> int:
        found = await _find(held, job_id)
        if json:
            write_json(found.show())
        else:
            write_lines(_details(found))
        return 0

    return with_database(config, work)


@app.command
def watch(job: JobId, /, *, config: Config = None, json: AsJson = False) -> int:
    """Follow a job until it has ended.

    Exit 0: done; 1: failed or cancelled; 3: the brake held it back.
    """
    job_id = _id(job)
    settings = read_settings(config, logs=False)

    async def work() -> int:
        from reconciler.commands.following import watch_to_the_end  # noqa: PLC0415

        return finish(await watch_to_the_end(database_url(settings), job_id, quiet=json), json=json)

    return run_async(work())


@app.command
def cancel(job: JobId, /, *, config: Config = None, json: AsJson = False) -> int:
    """Cancel a job: at once if nothing of it was begun, else as soon as nothing is half done.

    Exit 0: it is, or will be; 1: it had ended already.
    """
    job_id = _id(job)

    async def work(held: Connection) -> int:
        from indexer.store.jobs import cancel_job  # noqa: PLC0415

        async with held.transaction():
            cancelled = await cancel_job(held, job_id=job_id, by=operator("reconciler jobs cancel").name)
        if cancelled is None:
            found = await _find(held, job_id)
            raise StoreError(f"job {job_id} has ended already: {found.state}")
        if json:
            write_json(cancelled.show())
        elif cancelled.state.has_ended:
            write_lines([f"cancelled: job {job_id}"])
        else:
            wait = f"`reconciler jobs watch {job_id}` waits for that"
            write_lines([f"job {job_id} will be cancelled as soon as nothing is half done; {wait}"])
        return 0

    return with_database(config, work)


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is not the id of a job; `reconciler jobs list` shows them"
        ) from None


async def _find(held: Connection, job_id: uuid.UUID) -> Job:
    from indexer.store.jobs import find_job  # noqa: PLC0415

    found = await find_job(held, job_id=job_id)
    if found is None:
        raise StoreError(f"there is no job {job_id}")
    return found


def _table(jobs: list[Job]) -> Iterator[str]:
    yield f"{'JOB':<36}  {'KIND':<9}  {'STATE':<9}  {'ASKED BY':<10}  {'CREATED':<20}  ABOUT"
    for job in jobs:
        yield (
            f"{job.id}  {job.kind:<9}  {job.state:<9}  {job.asked_by:<10}  {job.created_at:%Y-%m-%dT%H:%M:%SZ}  "
            f"{_about(job)}"
        )


def _about(job: Job) -> str:
    if job.repositories is None:
        return "the whole registry"
    more = len(job.repositories) - REPOSITORIES_SHOWN
    return ", ".join(job.repositories[:REPOSITORIES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _details(job: Job) -> Iterator[str]:
    shown = job.show()
    yield f"job {job.id}: {job.kind}, {job.state}"
    progress = job.progress or {}
    if progress:
        total = "?" if progress["total"] is None else progress["total"]
        yield f"  progress: {progress['done']} of {total} {progress['unit']} {progress['message']}".rstrip()
    yield f"  about: {_about(job)}"
    for name in (
        "asked_by",
        "reason",
        "created_at",
        "started_at",
        "ended_at",
        "cancelled_by",
        "note",
        "error",
    ):
        if shown[name] is not None:
            yield f"  {name.replace('_', ' ')}: {shown[name]}"
    for title in ("params", "result"):
        for name, value in (shown[title] or {}).items():
            if value not in (None, [], {}, ""):
                yield f"  {title}.{name}: {value}"

"""Jobs: ask for one, see how far it is, follow it as Server-Sent Events, cancel it."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from indexer.api.bodies import validated
from indexer.api.job_watch import POLL_SECONDS
from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ROOT, ApiCall, RequestHeader, command, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Query, Several, Texts
from indexer.api.problems import not_found
from indexer.api.responses import SSE, Changed, Document, Items, Out, Stream
from indexer.api.rights import (
    bounds_of,
    may_cancel,
    may_see,
    owner_of,
    require_acting,
    require_kind,
    visible_repositories,
)
from indexer.background.loop import WakeEvent
from indexer.common.errors import CallerError
from indexer.jobs.job import Asked, Job, JobState
from indexer.jobs.kinds import KINDS, Kind
from indexer.oci.reference import RepositoryName
from indexer.store import jobs
from indexer.store.jobs import Conflict, Idempotency
from indexer.store.listing.freshness import find_repository, freshness
from indexer.store.listing.jobs import JobFilter, listed_jobs
from indexer.store.listing.page_query import fetch_page
from indexer.store.pool import connection, transaction

SCOPE = "jobs"
NAMELESS = "a registry token without a subject"
LONGEST_REASON = 1000
LONGEST_KEY = 255
KEEP_ALIVE_SECONDS = 15.0
LONGEST_STREAM_SECONDS = 900.0
"""After that the client must connect again, so that its token is verified again."""
RECONNECT_MILLISECONDS = 2000
LAST_EVENT_ID = "Last-Event-ID"
ENDED = "ended"
"""Id of the last event of a job. A client that reconnects with it gets 204, at which an EventSource stops."""
KEY = RequestHeader(
    name="Idempotency-Key",
    description="Any text of the client's. The same request with the same key gives the same job, however often it is "
    "sent; another request with it is a 422.",
    pattern="^[!-~]{1,255}$",
)


class JobQuery(ListQuery):
    """Jobs, newest first."""

    state: Several[JobState] | None = Field(default=None, description="In any of these states.")
    kind: Texts | None = Field(default=None, description="Of any of these kinds.")
    repository: Texts | None = Field(default=None, description="That name any of these repositories.")
    asked_by: Texts | None = Field(default=None, description="Asked for by any of these.")


class ProgressShown(Shown):
    """How far a job is."""

    done: int
    total: int | None = Field(description="Null: not known.")
    unit: str
    message: str


class JobShown(Shown):
    """A job."""

    id: uuid.UUID
    kind: str
    state: JobState
    repositories: list[str] | None = Field(description="Which it is about; null: the whole registry.")
    params: dict[str, Any]
    asked_by: str
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: ProgressShown | None
    note: str | None = Field(description="Why it does not get on just now, where it waits or is paused.")
    cancel_asked_at: datetime | None
    cancelled_by: str | None
    result: dict[str, Any] | None
    error: str | None = Field(description="Why it failed, in a sentence.")


def _text(value: object) -> object:
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("it must not contain NUL")
    return value


class JobRequest(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description=f"One of {', '.join(KINDS)}.", json_schema_extra={"enum": list(KINDS)}
    )
    params: dict[str, Any] = Field(default_factory=dict, description="What the kind takes.")
    reason: Annotated[str, Field(max_length=LONGEST_REASON), BeforeValidator(_text)] | None = Field(
        default=None, description="Why; it goes into the audit log."
    )


@operation("/jobs", query=JobQuery, result=Listed[JobShown], item=JobShown)
async def list_jobs(call: ApiCall[JobQuery]) -> Items:
    """List the jobs that the caller may see, newest first."""
    query = call.query
    wanted = JobFilter(
        states=query.state, kinds=query.kind, repositories=query.repository, asked_by=query.asked_by
    )
    listing = listed_jobs(granted=visible_repositories(call.principal), wanted=wanted)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    shown = [jobs.job_of(row).show() for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@operation("/jobs/{id}", query=Query, result=JobShown)
async def get_job(call: ApiCall[Query]) -> Document:
    """Show one job."""
    return Document(body=(await _visible(call)).show())


@command(
    "POST", "/jobs", body=JobRequest, result=JobShown, status=202, headers=(KEY,), refusals=(404, 409, 422)
)
async def request_job(call: ApiCall[Query]) -> Changed:
    """Ask for a job.

    The answer is the job as it waits; `Location` is where it is shown. 403: the token may not ask for this. 404: there
    is no such repository, or the token knows of none. 409: another job acts on the same repositories.
    """
    require_acting(call.principal, acting_is_on=call.acting_is_on)
    wanted: JobRequest = call.body
    kind = KINDS.get(wanted.kind)
    if kind is None:
        raise CallerError(
            f"kind: there is no kind {wanted.kind!r}",
            status=422,
            code="unknown_kind",
            parameter="kind",
            allowed=", ".join(KINDS),
        )
    return await ask_for(
        call, kind, validated(wanted.params, kind.params, below="params"), reason=wanted.reason
    )


async def ask_for(call: ApiCall[Any], kind: Kind, params: BaseModel, *, reason: str | None) -> Changed:
    """Ask for a job that the caller may ask for, else raise; return the answer: 202 and where the job is shown.

    The caller of this has called ``require_acting``.
    """
    repositories = kind.repositories(params)
    require_kind(call.principal, kind, repositories)
    await _require_on_record(call, kind, repositories)
    asked = Asked(
        kind=kind.name,
        acts=kind.acts_with(params),
        params=params.model_dump(mode="json"),
        repositories=repositories,
        asked_by=call.principal.name or NAMELESS,
        asked_from=call.client.address,
        asked_with=call.client.request,
        reason=reason,
        bounds=bounds_of(call.principal, repositories),
    )
    async with transaction(call.store) as held:
        done = await jobs.request_job(held, asked=asked, idempotency=_idempotency(call))
    if isinstance(done, Conflict):
        raise _conflict(call, done)
    headers = {"Location": f"{ROOT}/jobs/{done.job.id}"}
    if done.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Changed(body=done.job.show(), status=202, headers=headers)


@command("POST", "/jobs/{id}/cancel", result=JobShown, status=202, refusals=(404, 409))
async def cancel_job(call: ApiCall[Query]) -> Changed:
    """Cancel a job.

    One that was not begun ends at once. Any other ends as soon as nothing is half done; the answer is the job as it is
    now. 409: it has ended already.
    """
    require_acting(call.principal, acting_is_on=call.acting_is_on)
    job = await _visible(call)
    if not may_cancel(call.principal, job):
        raise CallerError("this token may not cancel the job", status=403, code="not_granted")
    async with transaction(call.store) as held:
        cancelled = await jobs.cancel_job(held, job_id=job.id, by=call.principal.name or NAMELESS)
    if cancelled is None:
        raise CallerError("the job has ended already", status=409, code="job_ended")
    return Changed(body=cancelled.show(), status=202)


@operation(
    "/jobs/{id}/events",
    query=Query,
    result=JobShown,
    media_types=(SSE,),
    headers=(
        RequestHeader(
            name=LAST_EVENT_ID,
            description="What an EventSource sends when it connects again. The stream begins with the job as it is now "
            "in any case; after the end of the job the answer is 204, at which an EventSource stops.",
            pattern="^[!-~]{0,255}$",
        ),
    ),
)
async def follow_job(call: ApiCall[Query]) -> Stream | Changed:
    """Follow a job as Server-Sent Events, until it has ended.

    `event: state` when its state changes, and first of all; `event: progress` for every other change. `data` is the
    job. The server ends a stream after 15 minutes; a client connects again.
    """
    job = await _visible(call)
    if job.state.has_ended and call.headers.get(LAST_EVENT_ID) == ENDED:
        return Changed(body=None, status=204)

    async def write(out: Out) -> None:
        with call.streams.slot(sealed=False) as woken, call.watch.notifier.wakes(job.id, woken):
            await _follow(call, job.id, woken, out)

    headers = {"X-Accel-Buffering": "no"}  # or nginx would buffer events
    return Stream(media_type=f"{SSE}; charset=utf-8", write=write, headers=headers)


async def _follow(call: ApiCall[Query], job_id: uuid.UUID, woken: WakeEvent, out: Out) -> None:
    now = time.monotonic()
    ends, spoke_at = now + LONGEST_STREAM_SECONDS, now
    await out(f"retry: {RECONNECT_MILLISECONDS}\n\n".encode())
    shown: dict[str, Any] | None = None
    while not call.streams.closing and time.monotonic() < ends:
        job = await call.watch.read(job_id)
        if job is None:
            return  # its time on record is over
        new = job.show()
        if new != shown:
            event = "state" if shown is None or new["state"] != shown["state"] else "progress"
            mark = f"id: {ENDED}\n" if job.state.has_ended else ""
            await out(f"{mark}event: {event}\ndata: ".encode() + orjson.dumps(new) + b"\n\n")
            shown, spoke_at = new, time.monotonic()
        if job.state.has_ended:
            return
        await woken.wait(POLL_SECONDS)
        if time.monotonic() - spoke_at >= KEEP_ALIVE_SECONDS and not call.streams.closing:
            await out(b": \n\n")
            spoke_at = time.monotonic()


async def _visible(call: ApiCall[Any]) -> Job:
    """Return the job of the path; raise a 404 where there is none, or the caller may not see it."""
    try:
        job_id = uuid.UUID(call.path["id"])
    except ValueError:
        raise not_found("there is no such job") from None
    async with call.readers.reading() as held:
        job = await jobs.find_job(held, job_id=job_id)
    if job is None or not may_see(call.principal, job):
        raise not_found("there is no such job")
    return job


async def _require_on_record(
    call: ApiCall[Any], kind: Kind, repositories: list[RepositoryName] | None
) -> None:
    if not kind.on_record:
        return
    async with connection(call.store) as held:
        for name in repositories or ():
            if await find_repository(held, name=name) is None:
                raise not_found("there is no such repository on record")


def _idempotency(call: ApiCall[Any]) -> Idempotency | None:
    key = call.headers.get(KEY.name)
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise CallerError(
            f"{KEY.name}: not a key",
            code="invalid_parameter",
            parameter=KEY.name,
            allowed="1 to 255 printable ASCII characters without spaces",
        )
    return Idempotency(owner=owner_of(call.principal), key=key)


def _conflict(call: ApiCall[Any], conflict: Conflict) -> CallerError:
    other = conflict.with_job
    if other is None:
        return CallerError(
            f"{KEY.name}: another request had this key",
            status=422,
            code="idempotency_key_reused",
            parameter=KEY.name,
            allowed="a key of its own for each request",
        )
    which = (
        f"job {other.id} ({other.kind}, {other.state})" if may_see(call.principal, other) else "another job"
    )
    where = "on the whole registry" if other.repositories is None else "on the same repositories"
    return CallerError(
        f"{which} acts {where}: wait until it has ended, or cancel it", status=409, code="another_job_acts"
    )

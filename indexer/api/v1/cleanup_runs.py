"""The runs of cleanup: jobs that delete what policies planned, and what each did."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Query, Several, Texts
from indexer.api.problems import not_found
from indexer.api.responses import Document, Items
from indexer.api.v1.cleanup import require_all
from indexer.api.v1.jobs import JobShown
from indexer.common.rfc3339 import format_time
from indexer.jobs.job import Job, JobState
from indexer.jobs.kinds import CLEANUP
from indexer.oci.digest import digest_from_bytes
from indexer.store import jobs
from indexer.store.listing.cleanup_runs import ActionFilter, RunFilter, listed_actions, listed_runs
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import Row, fetch_page
from indexer.store.pool import Connection

RUNS = "cleanup runs"
DONE = "cleanup run verdicts"
NO_RUN = "there is no such run of cleanup"


class RunsQuery(ListQuery):
    """Runs, newest first."""

    state: Several[JobState] | None = Field(default=None, description="In any of these states.")
    policy: Texts | None = Field(
        default=None, description="That any of these policies began by itself, in mode `enforce`."
    )


class RunVerdictsQuery(ListQuery):
    """What a run did."""

    repository: Texts | None = Field(default=None, description="In any of these repositories.")
    outcome: Texts | None = Field(default=None, description="What came to any of these, like `deleted`.")


class RunVerdict(Shown):
    """What a run did to one tag or manifest."""

    repository: str
    tag: str | None = Field(description="Null: the manifest itself.")
    digest: str
    action: Literal["delete", "unlink", "put_back", "restore"]
    outcome: str | None = Field(description="What it came to; null: not certain yet.")
    text: str | None = Field(description="The outcome in words.")
    reason: str | None = Field(description="Why the policy deletes it.")
    at: datetime = Field(description="When it was begun.")
    ended_at: datetime | None


@operation("/cleanup/runs", query=RunsQuery, result=Listed[JobShown], item=JobShown)
async def list_runs(call: ApiCall[RunsQuery]) -> Items:
    """List the jobs of cleanup, newest first: those of `reconciler run`, and those that people asked for."""
    require_all(call)
    listing = listed_runs(RunFilter(states=call.query.state, policies=call.query.policy))
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, RUNS, listing.orders))
        count = await counted(held, call, listing)
    shown = [jobs.job_of(row).show() for row in found.rows]
    return items_of(call, RUNS, listing, found, items=shown, freshness=fresh, count=count)


@operation("/cleanup/runs/{id}", query=Query, result=JobShown)
async def get_run(call: ApiCall[Query]) -> Document:
    """Show one run of cleanup; `result` counts what came of it."""
    require_all(call)
    async with call.readers.reading() as held:
        return Document(body=(await _run(held, call.path["id"])).show())


@operation("/cleanup/runs/{id}/verdicts", query=RunVerdictsQuery, result=Listed[RunVerdict], item=RunVerdict)
async def list_run_verdicts(call: ApiCall[RunVerdictsQuery]) -> Items:
    """List the tags and manifests for which a run put a deletion on record, and what each came to.

    What it skipped before that is only counted, in the `result` of the run.
    """
    require_all(call)
    wanted = ActionFilter(repositories=call.query.repository, outcomes=call.query.outcome)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        listing = listed_actions((await _run(held, call.path["id"])).id, wanted)
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, DONE, listing.orders))
        count = await counted(held, call, listing)
    shown = [_show(row) for row in found.rows]
    return items_of(call, DONE, listing, found, items=shown, freshness=fresh, count=count)


async def _run(held: Connection, text: str) -> Job:
    try:
        number = uuid.UUID(text)
    except ValueError:
        raise not_found(NO_RUN) from None
    job = await jobs.find_job(held, job_id=number)
    if job is None or job.kind != CLEANUP.name:
        raise not_found(NO_RUN)
    return job


def _show(row: Row) -> dict[str, Any]:
    return {
        "repository": row["repository"],
        "tag": row["tag"] or None,
        "digest": digest_from_bytes(row["digest"]),
        "action": row["kind"],
        "outcome": row["outcome"],
        "text": row["note"],
        "reason": row["reason"],
        "at": format_time(row["asked_at"]),
        "ended_at": format_time(row["ended_at"]),
    }

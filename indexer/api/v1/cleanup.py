"""Cleanup: the policies in force, what they would delete now, plans on record, and their approval."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, command, operation
from indexer.api.pagination import MAX_LIMIT, Limit, ListQuery
from indexer.api.parameters import Query, Several, Texts, WholeNumber
from indexer.api.problems import not_found
from indexer.api.responses import Changed, Document, Items
from indexer.api.rights import require_acting
from indexer.cleanup.approving import NOT_FOUND, Refused, approve, reject
from indexer.cleanup.evaluation import freed_together
from indexer.cleanup.planning import outcome_json, summary_json
from indexer.cleanup.preview import preview
from indexer.cleanup.status import status_json
from indexer.common.errors import CallerError
from indexer.common.rfc3339 import format_time
from indexer.policies.verdicts import Decision
from indexer.store import cleanup_plans, policies_in_force
from indexer.store.cleanup_plans import StoredApproval, StoredPlan
from indexer.store.listing.cleanup import VerdictFilter, listed_plans, listed_verdicts
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import fetch_page
from indexer.store.operators import Operator
from indexer.store.pool import connection

PLANS = "cleanup plans"
VERDICTS = "cleanup verdicts"
LONGEST_REASON = 1000
WITHOUT_NUL = r"^[^\x00]*$"
"""PostgreSQL stores no NUL."""
EVALUATING = "cleanup evaluations"


class RunShown(Shown):
    """A job that `reconciler run` began for a policy."""

    job: str
    state: str
    created_at: datetime
    ended_at: datetime | None
    result: dict[str, Any] | None = Field(description="How many tags and manifests came to what.")
    error: str | None


class PolicyShown(Shown):
    """A policy in force, and how it stands."""

    policy: str
    mode: str
    plan_id: str | None = Field(description="Its plan that counts; null: none was made under these policies.")
    acts: bool = Field(description="Whether what it planned may be carried out now.")
    refusal: str | None = Field(description="A stable code: why not.")
    text: str | None = Field(description="The same in words.")
    keep: int | None = Field(description="Verdicts of that plan; null without one.")
    delete: int | None
    hold: int | None
    brake: list[str] = Field(description="The limits that its plan is beyond, in words. Any stops all of it.")
    by_itself: bool = Field(description="Whether `reconciler run` does what is due: in mode `enforce`.")
    last_run: RunShown | None = Field(description="The newest run that it began; null: none yet.")


class ReadingError(Shown):
    """Why what a program reads is not in force."""

    process: str | None
    file: str | None
    error: str


class InForceShown(Shown):
    """The bytes in force."""

    sha256: str | None = Field(description="Null: no policies are in force.")
    since: datetime | None
    differ: str | None = Field(description="How programs differ in what they read; then nothing acts.")
    errors: list[ReadingError]


class NextRun(Shown):
    """What the next run would delete."""

    tags: int
    manifests: int


class PlannedShown(Shown):
    """What is planned and open."""

    tags: int
    manifests: int
    due: int = Field(description="Of both, what has waited long enough.")
    pending: int = Field(description="Of both, what waits for its time.")
    next_due_at: datetime | None
    next_run: NextRun
    outcomes: dict[str, int] = Field(description="What became of what was planned, in all.")


class SourceShown(Shown):
    """What a source reported last as in use."""

    source: str
    images: int
    reported_at: datetime | None = Field(
        description="Null: the policies name the source, and it never reported."
    )
    counted_at: datetime | None = Field(description="When the set came that counts.")
    valid_until: datetime | None
    silent: bool = Field(
        description="Its set ran out, or never came. If the policies name it, nothing in its scope is deleted."
    )
    waits_for_confirmation: bool = Field(description="Its last sets were too small to count.")
    suspected_at: datetime | None
    suspected_images: int | None


class CleanupShown(Shown):
    """What is in force, how each policy stands, and what is planned."""

    policies: InForceShown
    cleanup: list[PolicyShown]
    planned: PlannedShown
    in_use: list[SourceShown]


class VerdictShown(Shown):
    """What becomes of a tag or manifest, and why."""

    policy: str
    repository: str
    tag: str | None = Field(description="Null: of a manifest.")
    digest: str | None
    decision: Decision
    reason: str = Field(description="A stable code.")
    rule: str | None
    text: str = Field(description="The reason in words.")
    evidence: list[dict[str, Any]] = Field(description="Instants with their bounds, and how they are known.")
    expires_at: datetime | None = Field(
        description="The earliest instant at which it would go if nothing changes; null: never, or not known."
    )
    siblings: list[str] = Field(description="Other tags of the digest.")
    also: list[dict[str, Any]] = Field(description="Other rules that say the same.")
    alarms: list[str]


class Summary(Shown):
    """Verdicts by decision, and what deletions free together."""

    keep: int
    delete: int
    hold: int
    freed_bytes: int


class OutcomeShown(Summary):
    """What one policy comes to."""

    id: str
    mode: str
    brake: list[str] = Field(
        description="The limits that it is beyond, in words; any of them stops all of it."
    )
    weak_share: float
    notes: list[str]


class PreviewShown(Shown):
    """What policies in force would delete now."""

    plan_id: str | None = Field(description="Of the newest plan on record under these policies; null: none.")
    as_of: datetime
    policies_sha256: str
    verdicts: list[VerdictShown]
    next: int | None = Field(description="Value of `after` for what follows; null: nothing does.")
    policies: list[OutcomeShown] = Field(
        description="Without policies that have a budget, if the token may not read everything: they are evaluated "
        "over all of their repositories."
    )
    summary: Summary = Field(description="Of these policies together.")


class PlanQuery(Query):
    """What to evaluate, and which verdicts to show."""

    repository: Texts | None = Field(default=None, description="Only these repositories.")
    tag: Texts | None = Field(default=None, description="Only verdicts on tags of these names.")
    policy: Texts | None = Field(default=None, description="Only these policies.")
    decision: Several[Decision] | None = Field(default=None, description="Only verdicts with these.")
    limit: Limit = Field(default=MAX_LIMIT, description="Number of verdicts, at most.")
    after: WholeNumber = Field(
        default=0, description="How many verdicts to leave out: `next` of the page before."
    )


class VerdictQuery(ListQuery):
    """Verdicts of a plan."""

    repository: Texts | None = Field(default=None, description="Only of these repositories.")
    policy: Texts | None = Field(default=None, description="Only by these policies.")
    decision: Several[Decision] | None = Field(default=None, description="Only verdicts with these.")


class StoredPlanShown(Shown):
    """A plan on record."""

    id: str
    made_at: datetime
    confirmed_at: datetime = Field(description="When an evaluation last came to the same.")
    asked_by: str | None = Field(description="Null: the daemon made it.")
    policies_sha256: str
    freed_bytes: int = Field(
        description="What all its policies free together. A blob that two of them need to let go counts here, and with "
        "neither."
    )
    policies: list[OutcomeShown]
    approvals: list[dict[str, Any]] = Field(description="Who approved it, when, and why.")
    rejected_at: datetime | None
    rejected_by: str | None
    rejected_because: str | None


class DecisionRequest(BaseModel):
    """Why a plan is approved or rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[str, Field(max_length=LONGEST_REASON, pattern=WITHOUT_NUL)] | None = Field(
        default=None, description="It goes into the audit log."
    )


@operation("/cleanup/policies", query=Query, result=CleanupShown)
async def get_cleanup(call: ApiCall[Query]) -> Document:
    """Show which policies are in force, how each stands, and what the next cleanup run would delete."""
    require_all(call)
    async with call.readers.reading() as held:
        return Document(body=await status_json(held, now=datetime.now(UTC)))


@operation("/cleanup/plan", query=PlanQuery, result=PreviewShown, missing=True)
async def preview_cleanup(call: ApiCall[PlanQuery]) -> Document:
    """Show what the policies in force would delete now, and why everything else stays.

    Evaluated for this request, and not kept: `reconciler cleanup plan` keeps a plan that can be approved. 422: too much
    for one request; name a repository. 404: no policies are in force.
    """
    query = call.query
    if not query.repository:
        require_all(call)
    readable = None if query.repository is None else list(filter(call.principal.may_read, query.repository))
    lock: asyncio.Lock = call.memory.setdefault(EVALUATING, asyncio.Lock())
    async with lock, connection(call.store) as held:  # one at a time: it takes a processor
        file = await policies_in_force.in_force(held)
        if file is None or not file.content:
            raise not_found("no policies are in force: set INDEXER_POLICIES_FILE")
        policies = file.policies()
        _check_ids(query.policy, [policy.id for policy in policies.cleanup])
        decisions = None if query.decision is None else frozenset(query.decision)
        tags = None if query.tag is None else frozenset(query.tag)
        found = await preview(
            held,
            policies,
            now=datetime.now(UTC),
            repositories=readable,
            policy_ids=query.policy,
            wanted=lambda verdict: (
                (decisions is None or verdict.decision in decisions) and (tags is None or verdict.tag in tags)
            ),
            skip=query.after,
            limit=query.limit,
        )
        newest = await cleanup_plans.newest_under(held, policies_sha256=file.sha256, since=file.since)
        # With a budget it is evaluated over all of its repositories, and what it comes to names tags of any.
        limited = call.principal.repositories is not None
        outcomes = [each for each in found.outcomes if not limited or each.policy.budget is None]
        freed = await freed_together(held, outcomes)
    more = query.after + len(found.verdicts) < found.number
    return Document(
        body={
            "plan_id": newest,
            "as_of": format_time(found.as_of),
            "policies_sha256": file.sha256,
            "verdicts": found.verdicts,
            "next": query.after + len(found.verdicts) if more else None,
            "policies": [outcome_json(outcome) for outcome in outcomes],
            "summary": summary_json(outcomes, freed_bytes=freed),
        }
    )


def _check_ids(wanted: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in wanted or ():
        if name not in known:
            raise CallerError(
                "policy: no policy of that id is in force",
                code="unknown_policy",
                parameter="policy",
                allowed=", ".join(known),
            )


@operation("/cleanup/plans", query=ListQuery, result=Listed[StoredPlanShown], item=StoredPlanShown)
async def list_plans(call: ApiCall[ListQuery]) -> Items:
    """List the plans on record, newest first."""
    require_all(call)
    listing = listed_plans()
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, PLANS, listing.orders))
        plans = [await cleanup_plans.find_plan(held, plan_id=row["id"]) for row in found.rows]
        approvals = await cleanup_plans.approvals_of(held, plan_ids=[row["id"] for row in found.rows])
        count = await counted(held, call, listing)
    shown = [_plan(plan, approvals) for plan in plans if plan is not None]
    return items_of(call, PLANS, listing, found, items=shown, freshness=fresh, count=count)


@operation("/cleanup/plans/{id}", query=Query, result=StoredPlanShown)
async def get_plan(call: ApiCall[Query]) -> Document:
    """Show a plan on record, without its verdicts."""
    require_all(call)
    async with call.readers.reading() as held:
        plan = await cleanup_plans.find_plan(held, plan_id=call.path["id"])
        if plan is None:
            raise not_found("there is no such plan")
        return Document(body=_plan(plan, await cleanup_plans.approvals_of(held, plan_ids=[plan.id])))


@operation("/cleanup/plans/{id}/verdicts", query=VerdictQuery, result=Listed[VerdictShown], item=VerdictShown)
async def list_plan_verdicts(call: ApiCall[VerdictQuery]) -> Items:
    """List the verdicts of a plan on record that are not to keep."""
    require_all(call)
    query = call.query
    wanted = VerdictFilter(repositories=query.repository, policies=query.policy, decisions=query.decision)
    listing = listed_verdicts(call.path["id"], wanted)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        if await cleanup_plans.find_plan(held, plan_id=call.path["id"]) is None:
            raise not_found("there is no such plan")
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, VERDICTS, listing.orders))
        count = await counted(held, call, listing)
    shown = [row["shown"] for row in found.rows]
    return items_of(call, VERDICTS, listing, found, items=shown, freshness=fresh, count=count)


@command(
    "POST",
    "/cleanup/plans/{id}/approve",
    body=DecisionRequest,
    result=StoredPlanShown,
    refusals=(404, 409, 422),
)
async def approve_plan(call: ApiCall[Query]) -> Changed:
    """Approve a plan.

    With `propose` it may then be carried out; with `enforce` all plans under the same policies may. 409: other policies
    are in force by now, it was rejected, its policies never act, or it is beyond its brake.
    """
    return await _decide(call, approving=True)


@command(
    "POST",
    "/cleanup/plans/{id}/reject",
    body=DecisionRequest,
    result=StoredPlanShown,
    refusals=(404, 422),
)
async def reject_plan(call: ApiCall[Query]) -> Changed:
    """Reject a plan: it is never carried out, and approvals of it end."""
    return await _decide(call, approving=False)


async def _decide(call: ApiCall[Any], *, approving: bool) -> Changed:
    require_operator(call)
    decide = approve if approving else reject
    async with connection(call.store) as held:
        refused = await decide(
            held,
            plan_id=call.path["id"],
            at=datetime.now(UTC),
            operator=operator_of(call),
            reason=call.body.reason,
        )
        if refused is not None:
            raise _refused(refused)
        plan = await cleanup_plans.find_plan(held, plan_id=call.path["id"])
        assert plan is not None  # noqa: S101 - it was just decided on; tells mypy
        return Changed(body=_plan(plan, await cleanup_plans.approvals_of(held, plan_ids=[plan.id])))


def _refused(refused: Refused) -> Exception:
    if refused.code == NOT_FOUND:
        return not_found("there is no such plan")
    return CallerError(refused.text, status=409, code=refused.code)


def _plan(plan: StoredPlan, approvals: Sequence[StoredApproval]) -> Mapping[str, Any]:
    return {
        "id": plan.id,
        "made_at": format_time(plan.made_at),
        "confirmed_at": format_time(plan.confirmed_at),
        "asked_by": plan.asked_by,
        "policies_sha256": plan.policies_sha256,
        "freed_bytes": plan.frees,
        "policies": [
            {
                "id": part.policy,
                "mode": part.mode,
                "brake": [limit.text for limit in part.brake],
                "weak_share": round(part.weak_share, 4),
                "notes": list(part.notes),
                "keep": part.kept,
                "delete": part.deleted,
                "hold": part.held,
                "freed_bytes": part.freed_bytes,
            }
            for part in plan.parts
        ],
        "approvals": [
            {"by": each.by, "at": format_time(each.at), "reason": each.reason}
            for each in approvals
            if each.plan_id == plan.id
        ],
        "rejected_at": format_time(plan.rejected_at),
        "rejected_by": plan.rejected_by,
        "rejected_because": plan.rejected_because,
    }


def require_all(call: ApiCall[Any]) -> None:
    """Raise a 403 for a caller who may not read everything."""
    if call.principal.repositories is not None:
        raise CallerError(
            "this is about the whole registry, and the token grants single repositories only",
            status=403,
            code="not_granted",
        )


def require_operator(call: ApiCall[Any]) -> None:
    """Raise a 401 or 403 unless the caller holds an operator token."""
    require_acting(call.principal, acting_is_on=call.acting_is_on)
    if not call.principal.may_act:
        raise CallerError("this takes an operator token", status=403, code="operator_token_needed")


def operator_of(call: ApiCall[Any]) -> Operator:
    """Return the caller for the audit log."""
    return Operator(name=call.principal.name, host=call.client.address, command=call.client.request)

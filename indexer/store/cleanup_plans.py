"""Plans of cleanup: what policies come to, who approved it, what is planned since when, and what may be done now.

A plan is what the policies of one file come to at one instant; each of its policies has its own brake. What policies
that act (``propose``, ``enforce``) delete is *planned* from the first plan that names it, until it is done or a later
evaluation keeps it. ``due_verdicts`` is the only way to something that may be done.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from indexer.inventory.changes import AuditAction
from indexer.jobs.job import JobState
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.policies import plans
from indexer.policies.cleanup import ENGINE
from indexer.policies.limits import Limit
from indexer.policies.rules import Mode, Policies
from indexer.store import policies_in_force
from indexer.store.cleanup_facts import APPLIED_WITHIN
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("cleanup_plans")

LOCK = 0x706C616E  # "plan"
CONFIRMED_WITHIN = timedelta(hours=6)
"""Nothing is due by a plan that no evaluation came to again for so long: much may have happened since."""

MOST_DUE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPart:
    """What one policy has in a plan; see ``policies.cleanup.Evaluation``. ``brake``: the limits that it is beyond."""

    policy: str
    mode: str
    freed_bytes: int
    weak_share: float
    kept: int
    deleted: int
    held: int
    brake: tuple[Limit, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan on record. ``policies_sha256`` is hex; ``asked_by`` None: the daemon made it."""

    id: str
    made_at: datetime
    confirmed_at: datetime
    position: int
    engine: int
    policies_sha256: str
    asked_by: str | None = None
    rejected_at: datetime | None = None
    rejected_by: str | None = None
    rejected_because: str | None = None
    parts: tuple[PolicyPart, ...] = ()
    freed_bytes: int | None = None

    @property
    def frees(self) -> int:
        """What all policies free together; of a plan that an older program made, the sum of what each frees."""
        return sum(part.freed_bytes for part in self.parts) if self.freed_bytes is None else self.freed_bytes

    def of(self, part: PolicyPart) -> plans.Plan:
        """Return one policy's part as ``plans.refusal`` asks for it."""
        return plans.Plan(
            id=self.id,
            policies_sha256=self.policies_sha256,
            made_at=self.made_at,
            brake=part.brake,
            weak_share=part.weak_share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredApproval:
    """Who approved a plan, when, and why."""

    plan_id: str
    at: datetime
    policies_sha256: str
    by: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownVerdict:
    """A verdict that is not to keep, and how it is shown (``policies.serialize.as_json``)."""

    policy: str
    repository: str
    tag: str | None
    digest: str | None
    decision: str
    shown: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a policy planned to delete. ``tag`` None: a manifest."""

    id: int
    first_at: datetime
    due_at: datetime
    repository: RepositoryName
    policy: str
    tag: TagName | None
    digest: Digest
    rule: str | None
    reason: str

    def as_plans_have_it(self) -> plans.Planned:
        """Return what ``plans.cancelled`` asks for."""
        return plans.Planned(self.repository, self.tag, self.digest, self.first_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due(Planned):
    """Something planned that may be done now, by a plan that allows it; ``text`` is why, in words."""

    plan_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToPlan:
    """What is to be planned. ``pending``: how long it waits; None: not at all, it has waited before."""

    repository: str
    tag: str | None
    digest: str
    rule: str | None
    reason: str
    pending: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCounts:
    """How much is planned and open, how much of it is due, and when the next is."""

    tags: int
    manifests: int
    due: int
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a policy stands now: its plan that counts, and why nothing is done by it (None: it acts).

    ``plans`` has every plan of it that may be carried out; of ``enforce`` that is the newest.
    """

    policy: str
    mode: str
    plan_id: str | None
    refusal: str | None
    plans: tuple[str, ...] = field(default=())
    part: PolicyPart | None = None
    """What it has in its plan that counts."""
    evaluated_at: datetime | None = None
    """When it was evaluated last; None: never. What was planned before and not since is not due."""


async def lock_planning(connection: Connection) -> None:
    """Wait until no other transaction stores plans; it is released with the caller's transaction."""
    await connection.execute(SQL["lock_planning"], LOCK)


# --- plans -----------------------------------------------------------------------------------------------


async def equal_plan(
    connection: Connection,
    *,
    policies_sha256: str,
    policies: Sequence[str],
    content_sha256: bytes,
    since: datetime,
) -> str | None:
    """Return the newest plan of the same policies and bytes since an instant, if it deletes the same."""
    found: str | None = await connection.fetchval(
        SQL["equal_plan"], bytes.fromhex(policies_sha256), ENGINE, list(policies), content_sha256, since
    )
    return found


async def confirm_plan(
    connection: Connection,
    *,
    plan_id: str,
    at: datetime,
    parts: Sequence[PolicyPart],
    freed_bytes: int | None = None,
) -> None:
    """Record that an evaluation came to a plan again, with what its policies have now."""
    await connection.execute(SQL["confirm_plan"], plan_id, at, freed_bytes)
    await _put_parts(connection, plan_id, parts)


async def add_plan(
    connection: Connection,
    *,
    plan: StoredPlan,
    content_sha256: bytes,
    verdicts: Sequence[ShownVerdict],
) -> None:
    """Store a plan with its parts and its verdicts, in the caller's transaction."""
    await connection.execute(
        SQL["add_plan"],
        plan.id,
        plan.made_at,
        plan.position,
        plan.engine,
        bytes.fromhex(plan.policies_sha256),
        content_sha256,
        plan.asked_by,
        plan.freed_bytes,
    )
    await _put_parts(connection, plan.id, plan.parts)
    for start in range(0, len(verdicts), 5000):
        portion = verdicts[start : start + 5000]
        await connection.execute(
            SQL["add_verdicts"],
            plan.id,
            list(range(start + 1, start + 1 + len(portion))),
            [each.policy for each in portion],
            [each.repository for each in portion],
            [each.tag for each in portion],
            [None if each.digest is None else digest_to_bytes(Digest(each.digest)) for each in portion],
            [each.decision for each in portion],
            [dict(each.shown) for each in portion],
        )


async def _put_parts(connection: Connection, plan_id: str, parts: Sequence[PolicyPart]) -> None:
    for number, part in enumerate(parts):
        await connection.execute(
            SQL["put_plan_policy"],
            plan_id,
            part.policy,
            number,
            part.mode,
            [asdict(limit) for limit in part.brake],
            part.freed_bytes,
            part.weak_share,
            part.kept,
            part.deleted,
            part.held,
            list(part.notes),
        )


async def find_plan(connection: Connection, *, plan_id: str) -> StoredPlan | None:
    """Return a plan with its parts, None if there is none of that id."""
    row = await connection.fetchrow(SQL["find_plan"], plan_id)
    return None if row is None else (await _with_parts(connection, [row]))[0]


async def newest_under(connection: Connection, *, policies_sha256: str, since: datetime) -> str | None:
    """Return the plan that was come to last under some bytes since an instant, and not rejected."""
    found: str | None = await connection.fetchval(
        SQL["newest_under"], bytes.fromhex(policies_sha256), since, ENGINE
    )
    return found


async def list_plans(connection: Connection, *, limit: int) -> list[StoredPlan]:
    """Return the newest plans."""
    return await _with_parts(connection, await connection.fetch(SQL["list_plans"], limit))


async def list_verdicts(
    connection: Connection, *, plan_id: str, after: int, limit: int
) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the verdicts of a plan that are not to keep, after a number, as they are shown."""
    rows = await connection.fetch(SQL["list_verdicts"], plan_id, after, limit)
    return [(row["number"], row["shown"]) for row in rows]


async def _with_parts(connection: Connection, rows: Sequence[Any]) -> list[StoredPlan]:
    parts: dict[str, list[PolicyPart]] = {row["id"]: [] for row in rows}
    for row in await connection.fetch(SQL["plan_policies"], list(parts)):
        values = dict(row)
        plan_id = values.pop("plan_id")
        values["brake"] = tuple(Limit(**each) for each in values["brake"])
        values["notes"] = tuple(values["notes"])
        parts[plan_id].append(PolicyPart(**values))
    return [
        StoredPlan(
            **{**dict(row), "policies_sha256": row["policies_sha256"].hex()}, parts=tuple(parts[row["id"]])
        )
        for row in rows
    ]


# --- approving -------------------------------------------------------------------------------------------


async def approve_plan(
    connection: Connection, *, plan: StoredPlan, at: datetime, operator: Operator, reason: str | None
) -> None:
    """Record an approval and its audit entry, in the caller's transaction. Whether it may be given is asked before."""
    await connection.execute(
        SQL["approve"], plan.id, at, bytes.fromhex(plan.policies_sha256), operator.name, reason
    )
    await record_action(
        connection,
        action=AuditAction.CLEANUP_APPROVED,
        operator=operator,
        at=at,
        detail=_of_plan(plan) | ({"reason": reason} if reason else {}),
    )


async def reject_plan(
    connection: Connection, *, plan: StoredPlan, at: datetime, operator: Operator, reason: str | None
) -> None:
    """Record that a plan was rejected, which ends its approvals, and its audit entry."""
    await connection.execute(SQL["reject"], plan.id, at, operator.name, reason)
    await record_action(
        connection,
        action=AuditAction.CLEANUP_REJECTED,
        operator=operator,
        at=at,
        detail=_of_plan(plan) | ({"reason": reason} if reason else {}),
    )


def _of_plan(plan: StoredPlan) -> dict[str, object]:
    return {
        "plan": plan.id,
        "policies": [part.policy for part in plan.parts],
        "policies_sha256": plan.policies_sha256,
        "deleted": sum(part.deleted for part in plan.parts),
    }


async def record_plan(connection: Connection, *, plan: StoredPlan, operator: Operator | None) -> None:
    """Stage the audit entry of a new plan. No operator: the daemon made it."""
    await record_action(
        connection,
        action=AuditAction.CLEANUP_PLANNED,
        operator=operator,
        at=plan.made_at,
        detail=_of_plan(plan),
    )


async def approvals_of(connection: Connection, *, plan_ids: Iterable[str]) -> list[StoredApproval]:
    """Return the approvals of some plans, oldest first."""
    rows = await connection.fetch(SQL["approvals_of"], list(plan_ids))
    return [_approval(row) for row in rows]


def _approval(row: Any) -> StoredApproval:
    return StoredApproval(**{**dict(row), "policies_sha256": row["policies_sha256"].hex()})


# --- what may be done ------------------------------------------------------------------------------------


async def due_verdicts(
    connection: Connection,
    *,
    now: datetime,
    limit: int = MOST_DUE,
    tags_only: bool = False,
    without: Iterable[int] = (),
    only: Iterable[int] | None = None,
    repositories: Iterable[str] | None = None,
    policies: Iterable[str] | None = None,
) -> list[Due]:
    """Return what may be done now, oldest first: planned long enough ago, by a plan that nothing refuses.

    ``without``: the ids of what is not wanted again; ``only``, ``repositories``, ``policies``: None, all. What is left
    out so takes no room within the limit.
    Nothing while programs read different policies. Whoever acts asks again before each request: the registry, and
    ``changed_since``.
    """
    wanted = None if policies is None else set(policies)
    standings = await standing(connection, now=now)
    rows = await connection.fetch(
        SQL["due"],
        *_due([each for each in standings if wanted is None or each.policy in wanted], now, limit),
        tags_only,
        list(without),
        None if repositories is None else list(repositories),
        None if only is None else list(only),
    )
    return [
        Due(**_planned_values(row), plan_id=row["plan_id"], text=row["text"] or row["reason"]) for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The newest job that ``reconciler run`` began for a policy."""

    policy: str
    job: uuid.UUID
    state: JobState
    created_at: datetime
    ended_at: datetime | None
    result: Mapping[str, Any] | None
    error: str | None


async def last_runs(connection: Connection) -> dict[str, LastRun]:
    """Return the newest job of each policy that was begun for it, by its id."""
    rows = await connection.fetch(SQL["last_runs"])
    return {row["policy"]: LastRun(**{**dict(row), "state": JobState(row["state"])}) for row in rows}


async def due_counts(
    connection: Connection, standings: Sequence[Standing], *, now: datetime
) -> tuple[int, int]:
    """Return how many tags and manifests ``due_verdicts`` returns, by how policies stand."""
    row = await connection.fetchrow(SQL["due_counts"], *_due(standings, now, MOST_DUE))
    assert row is not None  # noqa: S101 - an aggregate has a row; tells mypy
    return row["tags"], row["manifests"]


def _due(standings: Sequence[Standing], now: datetime, limit: int) -> tuple[object, ...]:
    """Return the parameters of the statements ``due`` and ``due_counts``."""
    allowed = [(plan_id, each) for each in standings for plan_id in each.plans]
    return (
        [plan_id for plan_id, _ in allowed],
        now,
        [each.policy for _, each in allowed],
        limit,
        [each.evaluated_at for _, each in allowed],
    )


async def standing(connection: Connection, *, now: datetime) -> list[Standing]:
    """Return how every policy in force stands, in the order of the file: what it may do, or why it may not."""
    file = await policies_in_force.in_force(connection)
    if file is None:
        return []
    readings = await policies_in_force.readings(connection, now=now)
    differing = policies_in_force.differing(readings, file) is not None
    in_force, policies = file.as_plans_have_it(), file.policies()
    under = bytes.fromhex(file.sha256)
    rows = await connection.fetch(SQL["plans_under"], under, file.since, ENGINE)
    made = await _with_parts(connection, rows)
    approvals = [
        plans.Approval(plan_id=each.plan_id, policies_sha256=each.policies_sha256, at=each.at)
        for each in map(_approval, await connection.fetch(SQL["approvals"], under))
    ]
    return _standings(policies, made, approvals, in_force, now=now, differing=differing)


def _standings(
    policies: Policies,
    made: Sequence[StoredPlan],
    approvals: Sequence[plans.Approval],
    in_force: plans.InForce,
    *,
    now: datetime,
    differing: bool,
) -> list[Standing]:
    found = []
    for policy in policies.cleanup:
        own = [(plan, part) for plan in made for part in plan.parts if part.policy == policy.id]
        evaluated_at = own[0][0].confirmed_at if own else None
        stale = evaluated_at is not None and now - evaluated_at > CONFIRMED_WITHIN
        if policy.mode is Mode.ENFORCE:
            own = own[:1]  # the newest speaks for all before it, rejected or not
        own = [(plan, part) for plan, part in own if plan.rejected_at is None]
        refusals = {
            plan.id: plans.refusal(policy, plan.of(part), approvals, in_force, now)
            or ("stale" if stale else None)
            for plan, part in own
        }
        allowed = tuple(plan_id for plan_id, refused in refusals.items() if refused is None)
        newest = own[0][0].id if own else None
        if policy.mode is Mode.PREVIEW:
            why: str | None = plans.Refusal.PREVIEW
        elif differing:
            why, allowed = DIFFERING, ()
        elif not own:
            why = NO_PLAN
        else:
            why = None if allowed else refusals[own[0][0].id]
        counts = allowed[0] if allowed else newest
        found.append(
            Standing(
                policy=policy.id,
                mode=policy.mode,
                plan_id=counts,
                refusal=None if why is None else str(why),
                plans=allowed,
                part=next((part for plan, part in own if plan.id == counts), None),
                evaluated_at=evaluated_at,
            )
        )
    return found


DIFFERING = "policies_differ"
NO_PLAN = "no_plan"


async def changed_since(
    connection: Connection, *, due: Planned, since: datetime, grace: timedelta = timedelta(0)
) -> str | None:
    """Return what our record says against doing something now, in a sentence; None: nothing.

    ``since``: when it was evaluated last. It was pulled, checked or pushed since, the tag points elsewhere, somebody
    put it on hold, or a source reported it as in use. A pull counts from shortly before on: its event, or the hold,
    may not have been on record yet. So does a push, as far as the policy's ``grace`` for pushes reaches: one that was
    on record would have kept it.
    """
    from indexer.store import holds, in_use  # noqa: PLC0415 - they are asked at the end only

    packed = digest_to_bytes(due.digest)
    known, pushed = since - APPLIED_WITHIN, since - min(grace, APPLIED_WITHIN)
    if await connection.fetchval(SQL["used_since"], due.repository, packed, pushed, due.tag or "", known):
        return "it was pulled, checked or pushed since it was planned"
    if due.tag is not None:
        points_to = await connection.fetchval(SQL["tag_points_to"], due.repository, due.tag)
        if points_to != packed:
            return "the tag points to something else by now, or is gone"
    elif await connection.fetchval(SQL["has_tags"], due.repository, packed):
        return "a tag points to it"
    if await holds.holds_any(
        connection, repository=due.repository, tag=due.tag, digest=due.digest, since=known
    ):
        return "it was put on hold since it was planned"
    if await in_use.names(connection, repository=due.repository, tag=due.tag, digest=due.digest):
        return "a source reports it as in use"
    return None


# --- what is planned -------------------------------------------------------------------------------------


async def open_planned(connection: Connection, *, policies: Iterable[str]) -> list[Planned]:
    """Return what some policies planned and is neither done nor cancelled."""
    rows = await connection.fetch(SQL["open_planned"], list(policies))
    return [Planned(**_planned_values(row)) for row in rows]


def _planned_values(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "first_at": row["first_at"],
        "due_at": row["due_at"],
        "repository": RepositoryName(row["repository"]),
        "policy": row["policy"],
        "tag": TagName(row["tag"]) if row["tag"] else None,
        "digest": digest_from_bytes(row["digest"]),
        "rule": row["rule"],
        "reason": row["reason"],
    }


async def put_planned(connection: Connection, *, policy: str, at: datetime, planned: Sequence[ToPlan]) -> int:
    """Note what a policy plans; what is open keeps its beginning. Return how much is new."""
    rows = await connection.fetch(
        SQL["put_planned"],
        policy,
        at,
        [each.repository for each in planned],
        [each.tag or "" for each in planned],
        [digest_to_bytes(Digest(each.digest)) for each in planned],
        [each.rule for each in planned],
        [each.reason for each in planned],
        [each.pending for each in planned],
    )
    return sum(row["added"] for row in rows)


async def cancel_planned(
    connection: Connection, *, at: datetime, cancelled: Sequence[tuple[int, bool, str]]
) -> int:
    """End what is planned, by id: whether it is a near miss, and why; with audit entries. Return how many were open."""
    rows = await connection.fetch(
        SQL["end_planned"],
        [number for number, _, _ in cancelled],
        at,
        ["near_miss" if near else "cancelled" for _, near, _ in cancelled],
        [because for _, _, because in cancelled],
    )
    return await _recorded(connection, rows)


async def cancel_planned_of_others(connection: Connection, *, policies: Iterable[str], at: datetime) -> int:
    """End what other policies than these planned, with audit entries."""
    return await _recorded(
        connection, await connection.fetch(SQL["end_planned_of_others"], list(policies), at)
    )


async def _recorded(connection: Connection, rows: Sequence[Any]) -> int:
    if rows:
        await connection.execute(SQL["record_ended"], [row["id"] for row in rows])
    return len(rows)


async def mark_done(connection: Connection, *, planned_id: int, at: datetime) -> bool:
    """Record that something planned was done; False if it was not open any more."""
    rows = await connection.fetch(SQL["end_planned"], [planned_id], at, ["done"], [None])
    return bool(rows)


async def mark_skipped(
    connection: Connection, *, planned_id: int, at: datetime, because: str, near_miss: bool
) -> bool:
    """Record that something planned was not done, since it is not what the plan says; it is planned anew if need be."""
    return await cancel_planned(connection, at=at, cancelled=[(planned_id, near_miss, because)]) == 1


async def planned_counts(connection: Connection, *, now: datetime) -> PlannedCounts:
    """Return how much is planned."""
    row = await connection.fetchrow(SQL["planned_counts"], now)
    assert row is not None  # noqa: S101 - an aggregate has a row; tells mypy
    return PlannedCounts(**dict(row))


async def plan_counts(connection: Connection) -> dict[str, int]:
    """Return how many plans on record wait for a decision, were approved, and were rejected."""
    row = await connection.fetchrow(SQL["plan_counts"])
    assert row is not None  # noqa: S101 - an aggregate has a row; tells mypy
    return dict(row)


async def outcome_counts(connection: Connection) -> dict[str, int]:
    """Return how much of what was planned was done, cancelled, and a near miss."""
    rows = await connection.fetch(SQL["outcome_counts"])
    return {"done": 0, "cancelled": 0, "near_miss": 0} | {row["outcome"]: row["number"] for row in rows}


async def trim(connection: Connection, *, before: datetime) -> None:
    """Forget plans, and what became of what was planned, from before an instant."""
    await connection.execute(SQL["trim_plans"], before)
    await connection.execute(SQL["trim_planned"], before)

"""Plans: policies are evaluated, and what they come to is stored, with what is planned and what is cancelled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from indexer.cleanup.evaluation import (
    Outcome,
    at_one_instant,
    evaluate_policy,
    freed_together,
    look_at_world,
    owned,
)
from indexer.common.rfc3339 import format_time
from indexer.policies import plans
from indexer.policies.cleanup import ENGINE, plan_id
from indexer.policies.rules import Mode, Policies, Policy
from indexer.policies.serialize import as_json
from indexer.policies.verdicts import Decision, Verdict
from indexer.policies.words import text_of
from indexer.store import cleanup_plans, policies_in_force
from indexer.store.cleanup_plans import Planned, PolicyPart, ShownVerdict, StoredPlan, ToPlan
from indexer.store.operators import Operator
from indexer.store.pool import Connection

Show = Callable[[dict[str, Any]], None]
Key = tuple[str, str | None, str | None]


@dataclass(slots=True, kw_only=True)
class Made:
    """A plan that was made. ``plan`` is the one on record, perhaps of an earlier evaluation that came to the same.

    ``freed_bytes``: what all policies free together. ``stored`` is false where other policies came into force
    meanwhile: then nothing can follow from it.
    """

    plan: StoredPlan
    outcomes: list[Outcome]
    as_of: datetime
    freed_bytes: int
    stored: bool = True
    new: bool = False
    cancelled: int = 0
    near_misses: int = 0

    @property
    def braked(self) -> bool:
        """True where any policy is beyond its brake."""
        return any(outcome.brake for outcome in self.outcomes)

    @property
    def would_delete(self) -> bool:
        """True where any policy deletes something."""
        return any(outcome.counts[Decision.DELETE] for outcome in self.outcomes)


@dataclass(slots=True)
class _Taken:
    """What is kept of verdicts: those that are not to keep, as they are shown, and those on what is planned."""

    show: Show
    planned: frozenset[Key]
    stored: list[ShownVerdict] = field(default_factory=list)
    of_planned: list[Verdict] = field(default_factory=list)
    to_plan: dict[str, list[ToPlan]] = field(default_factory=dict)
    hashed: Any = field(default_factory=hashlib.sha256)


async def make_plan(
    connection: Connection,
    policies: Policies,
    *,
    now: datetime,
    operator: Operator | None,
    policy_ids: Iterable[str] | None = None,
    show: Show = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Made:
    """Evaluate policies and store the plan. ``show`` gets every verdict as JSON, in order.

    ``progress`` gets how many repositories are done, and of how many. ``operator`` None: the daemon makes it.
    """
    open_before = await cleanup_plans.open_planned(
        connection, policies=[policy.id for policy in policies.cleanup]
    )
    keys = ((each.repository, each.tag, each.digest if each.tag is None else None) for each in open_before)
    taken = _Taken(show, frozenset(keys))
    outcomes: list[Outcome] = []
    async with at_one_instant(connection):
        world = await look_at_world(connection, now=now)
        parts = await owned(connection, policies, policy_ids=policy_ids)
        total = sum(len(rows) for _, rows in parts)
        done = 0
        for policy, rows in parts:
            taken.to_plan[policy.id] = []
            outcomes.append(
                await evaluate_policy(
                    connection,
                    policy,
                    rows,
                    policies=policies,
                    world=world,
                    take=partial(_take, taken, policy, now),
                    progress=partial(_progressed, progress, done, total),
                )
            )
            done += len(rows)
        freed = await freed_together(connection, outcomes)
    plan = StoredPlan(
        id=plan_id(
            policies.sha256,
            ",".join(outcome.policy.id for outcome in outcomes),
            position=world.known.position,
            now=now,
        ),
        made_at=now,
        confirmed_at=now,
        position=world.known.position,
        engine=ENGINE,
        policies_sha256=policies.sha256,
        asked_by=None if operator is None else operator.name,
        parts=tuple(_part(outcome) for outcome in outcomes),
        freed_bytes=freed,
    )
    made = Made(plan=plan, outcomes=outcomes, as_of=now, freed_bytes=freed)
    async with connection.transaction():
        await _store(connection, made, taken, open_before, operator)
    return made


def _part(outcome: Outcome) -> PolicyPart:
    return PolicyPart(
        policy=outcome.policy.id,
        mode=outcome.policy.mode,
        freed_bytes=outcome.freed_bytes,
        weak_share=outcome.weak_share,
        kept=outcome.counts[Decision.KEEP],
        deleted=outcome.counts[Decision.DELETE],
        held=outcome.counts[Decision.HOLD],
        brake=outcome.brake,
        notes=outcome.notes,
    )


def _progressed(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _take(taken: _Taken, policy: Policy, now: datetime, verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        shown = as_json(verdict)
        taken.show(shown)
        key = (verdict.repository, verdict.tag, verdict.digest if verdict.tag is None else None)
        if key in taken.planned:
            taken.of_planned.append(verdict)
        if verdict.decision is Decision.KEEP:
            continue
        taken.stored.append(
            ShownVerdict(
                policy=policy.id,
                repository=verdict.repository,
                tag=verdict.tag,
                digest=verdict.digest,
                decision=verdict.decision,
                shown=shown,
            )
        )
        if verdict.decision is not Decision.DELETE:
            continue
        line = (policy.id, verdict.repository, verdict.tag or "", verdict.digest or "")
        taken.hashed.update("\0".join(line).encode() + b"\n")
        planned = to_plan(verdict, policy, now)
        if planned is not None:
            taken.to_plan[policy.id].append(planned)


def to_plan(verdict: Verdict, policy: Policy, now: datetime) -> ToPlan | None:
    """Return what is planned for a verdict of deletion.

    None for a manifest that goes with a tag that is still there: it is planned once the tag is gone.
    """
    pending = policy.undo.pending
    if verdict.digest is None:
        return None
    waits: timedelta | None = pending
    if verdict.tag is None:
        due = verdict.expires_at or now
        if due > now + pending:
            return None
        waits = None if due <= now else pending
    return ToPlan(
        repository=verdict.repository,
        tag=verdict.tag,
        digest=verdict.digest,
        rule=verdict.rule,
        reason=verdict.reason,
        pending=waits,
    )


async def _store(
    connection: Connection,
    made: Made,
    taken: _Taken,
    open_before: Sequence[Planned],
    operator: Operator | None,
) -> None:
    await cleanup_plans.lock_planning(connection)
    in_force = await policies_in_force.in_force(connection)
    plan = made.plan
    if in_force is None or in_force.sha256 != plan.policies_sha256:
        made.stored = False
        return
    for part in plan.parts:
        taken.hashed.update(f"{part.policy} {part.mode} {[limit.name for limit in part.brake]}\n".encode())
    content = taken.hashed.digest()
    ids = [part.policy for part in plan.parts]
    acting = [outcome.policy for outcome in made.outcomes if outcome.policy.mode is not Mode.PREVIEW]
    if ids:
        await _add_or_confirm(connection, made, taken, content, since=in_force.since, operator=operator)
    evaluated = {policy.id for policy in acting}
    await _cancel(connection, made, taken, [each for each in open_before if each.policy in evaluated])
    act = [policy.id for policy in in_force.policies().cleanup if policy.mode is not Mode.PREVIEW]
    made.cancelled += await cleanup_plans.cancel_planned_of_others(connection, policies=act, at=made.as_of)
    for policy in acting:
        if taken.to_plan[policy.id]:
            await cleanup_plans.put_planned(
                connection, policy=policy.id, at=made.as_of, planned=taken.to_plan[policy.id]
            )


async def _add_or_confirm(
    connection: Connection,
    made: Made,
    taken: _Taken,
    content: bytes,
    *,
    since: datetime,
    operator: Operator | None,
) -> None:
    plan = made.plan
    equal = await cleanup_plans.equal_plan(
        connection,
        policies_sha256=plan.policies_sha256,
        policies=[part.policy for part in plan.parts],
        content_sha256=content,
        since=since,
    )
    if equal is None:
        await cleanup_plans.add_plan(connection, plan=plan, content_sha256=content, verdicts=taken.stored)
        made.new = True
        if any(part.deleted for part in plan.parts if part.mode != Mode.PREVIEW):
            await cleanup_plans.record_plan(connection, plan=plan, operator=operator)
    else:
        await cleanup_plans.confirm_plan(
            connection, plan_id=equal, at=made.as_of, parts=plan.parts, freed_bytes=made.freed_bytes
        )
        found = await cleanup_plans.find_plan(connection, plan_id=equal)
        assert found is not None  # noqa: S101 - it was just confirmed; tells mypy
        made.plan = found


async def _cancel(connection: Connection, made: Made, taken: _Taken, open_before: Sequence[Planned]) -> None:
    """End what was planned and does not go any more."""
    by_planned = {each.as_plans_have_it(): each for each in open_before}
    found = [
        (by_planned[each.planned].id, each.near_miss, _because(each))
        for each in plans.cancelled(by_planned, taken.of_planned)
    ]
    if not found:
        return
    made.near_misses = sum(near for _, near, _ in found)
    made.cancelled = await cleanup_plans.cancel_planned(connection, at=made.as_of, cancelled=found)


def _because(cancelled: plans.Cancelled) -> str:
    verdict = cancelled.verdict
    if verdict is None:
        return "it is gone, or its policy has it no more"
    if verdict.digest != cancelled.planned.digest:
        return "the tag points to something else by now"
    return text_of(verdict)


def plan_json(made: Made) -> dict[str, Any]:
    """Return a plan as ``cleanup plan --json`` and the API show it, without its verdicts."""
    return {
        "plan_id": made.plan.id if made.stored else None,
        "as_of": format_time(made.as_of),
        "policies_sha256": made.plan.policies_sha256,
        "policies": [outcome_json(outcome) for outcome in made.outcomes],
        "summary": summary_json(made.outcomes, freed_bytes=made.freed_bytes),
    }


def summary_json(outcomes: Sequence[Outcome], *, freed_bytes: int) -> dict[str, int]:
    """Return the sums of what policies came to, and what they free together."""
    return {
        **{decision.value: sum(each.counts[decision] for each in outcomes) for decision in Decision},
        "freed_bytes": freed_bytes,
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Return what one policy came to."""
    return {
        "id": outcome.policy.id,
        "mode": outcome.policy.mode,
        "brake": [limit.text for limit in outcome.brake],
        "weak_share": round(outcome.weak_share, 4),
        "notes": list(outcome.notes),
        **summary_json([outcome], freed_bytes=outcome.freed_bytes),
    }

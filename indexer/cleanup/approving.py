"""Approving and rejecting plans: what may be approved, and what the refusal says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexer.policies.cleanup import ENGINE
from indexer.policies.rules import Mode
from indexer.store import cleanup_plans, policies_in_force
from indexer.store.operators import Operator
from indexer.store.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a plan was not approved or rejected: a stable code, and a sentence."""

    code: str
    text: str


NOT_FOUND = "not_found"


async def approve(
    connection: Connection, *, plan_id: str, at: datetime, operator: Operator, reason: str | None
) -> Refused | None:
    """Approve a plan, with its audit entry; return why not, or None."""
    async with connection.transaction():
        await cleanup_plans.lock_planning(connection)
        plan = await cleanup_plans.find_plan(connection, plan_id=plan_id)
        refused = (
            Refused(code=NOT_FOUND, text=f"there is no plan {plan_id}")
            if plan is None
            else await _why_not(connection, plan)
        )
        if plan is None or refused is not None:
            return refused
        await cleanup_plans.approve_plan(connection, plan=plan, at=at, operator=operator, reason=reason)
        return None


async def _why_not(connection: Connection, plan: cleanup_plans.StoredPlan) -> Refused | None:
    file = await policies_in_force.in_force(connection)
    if (
        file is None
        or file.sha256 != plan.policies_sha256
        or plan.made_at < file.since
        or plan.engine != ENGINE
    ):
        return Refused(
            code="policy_changed",
            text=f"other policies are in force than plan {plan.id} was made with: make a new one",
        )
    if plan.rejected_at is not None:
        return Refused(
            code="rejected",
            text=f"plan {plan.id} was rejected by {plan.rejected_by}: make a new one",
        )
    acting = [part for part in plan.parts if part.mode != Mode.PREVIEW]
    if not acting:
        return Refused(
            code="preview", text="its policies are in mode preview, which never acts: set propose or enforce"
        )
    braked = [part for part in acting if part.brake]
    if braked:
        limits = "; ".join(limit.text for part in braked for limit in part.brake)
        return Refused(
            code="blocked.brake",
            text=f"plan {plan.id} is beyond its brake: {limits}. Change the policy, or its brake, if that is meant",
        )
    return None


async def reject(
    connection: Connection, *, plan_id: str, at: datetime, operator: Operator, reason: str | None
) -> Refused | None:
    """Reject a plan, with its audit entry; one that is rejected stays so. Return why not, or None."""
    async with connection.transaction():
        await cleanup_plans.lock_planning(connection)
        plan = await cleanup_plans.find_plan(connection, plan_id=plan_id)
        if plan is None:
            return Refused(code=NOT_FOUND, text=f"there is no plan {plan_id}")
        if plan.rejected_at is None:
            await cleanup_plans.reject_plan(connection, plan=plan, at=at, operator=operator, reason=reason)
        return None

"""The loop of ``reconciler run`` that makes plans by every policy that acts (``propose``, ``enforce``).

It only plans: what is due is done by jobs (``reconciler.cleanup.due``). Plans that come to the same are one, so nothing
piles up.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from indexer.background.loop import IterationResult
from indexer.cleanup.planning import Made, make_plan
from indexer.policies.problems import PoliciesRefused
from indexer.policies.rules import Mode, Policies
from indexer.store import cleanup_plans, holds, policies_in_force
from indexer.store.advisory_locks import LockKey, alone
from indexer.store.pool import Connection, Pool, connection, transaction

log = structlog.get_logger()

LOOKS_EVERY_SECONDS = 5.0
PLANS_EVERY = timedelta(hours=1)
KEPT = timedelta(days=90)
"""Plans that no evaluation came to again, and what became of what was planned."""


async def plan_what_acts(held: Connection, policies: Policies, *, now: datetime) -> Made | None:
    """Make a plan by every policy that acts; None: another process is making one just now."""
    async with alone(held, LockKey.PLANNING) as only_one:
        if not only_one:
            return None
        acting = [policy.id for policy in policies.cleanup if policy.mode is not Mode.PREVIEW]
        return await make_plan(held, policies, now=now, operator=None, policy_ids=acting)


class PlanningLoop:
    """Makes a plan when other policies came into force, and every hour."""

    name = "cleanup-plans"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._planned_at: datetime | None = None
        self._under: tuple[str, datetime] | None = None

    async def run_once(self) -> IterationResult:
        """Make a plan if it is time."""
        now = datetime.now(UTC)
        nothing = IterationResult(items=0, rest_seconds=LOOKS_EVERY_SECONDS)
        async with connection(self._pool) as held:
            file = await policies_in_force.in_force(held)
            if file is None:
                return nothing
            under = (file.sha256, file.since)
            fresh = self._planned_at is not None and now - self._planned_at < PLANS_EVERY
            if fresh and under == self._under:
                return nothing
            try:
                policies = file.policies()
            except PoliciesRefused as refused:  # written by a newer program
                log.warning("policies_refused", error=str(refused))
                return nothing
            made = await plan_what_acts(held, policies, now=now)
            if made is None:
                return nothing
        async with transaction(self._pool) as held:
            await cleanup_plans.trim(held, before=now - KEPT)
            await holds.trim(held, before=now - KEPT)
        self._planned_at, self._under = now, under
        if made.new and made.would_delete:
            log.info("cleanup_planned", plan=made.plan.id, braked=made.braked)
        return IterationResult(items=int(made.new), rest_seconds=LOOKS_EVERY_SECONDS)

"""The loop of ``reconciler run`` that has done what is due by policies in mode ``enforce``.

It asks for a job; whether anything may be deleted is decided where it is done. So nothing happens before a plan was
approved that was made under exactly the bytes in force, beyond a brake, outside a window, or while anything is paused.
Right before, a new plan is made: what is deleted is what the policies say now, not an hour ago.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Counter

from indexer.background.loop import IterationResult
from indexer.cleanup.loop import plan_what_acts
from indexer.jobs.job import Asked, JobState
from indexer.jobs.kinds import CLEANUP
from indexer.jobs.params import CleanupParams
from indexer.policies.problems import PoliciesRefused
from indexer.policies.rules import Mode, Policies
from indexer.store import cleanup_plans, jobs, maintenance, policies_in_force, trash_copies
from indexer.store.cleanup_plans import Due, LastRun
from indexer.store.instants import NEVER
from indexer.store.jobs import Conflict
from indexer.store.pool import Connection, Pool, connection, transaction

log = structlog.get_logger()

LOOKS_EVERY_SECONDS: Final = 5.0
MOST_REPOSITORIES: Final = 100
"""In one job: nobody else may act in them as long as it runs."""
AGAIN_AFTER: Final = timedelta(hours=1)
"""What could not be done is tried again so much later; so is anything after somebody cancelled a run."""
AFTER_FAILURE: Final = timedelta(minutes=10)
EMPTYING: Final = "undo.trash"
"""Who asks for a job that deletes copies: no policy can be called so."""

BEGUN = Counter(
    "reconciler_cleanup_runs_total", "Jobs of cleanup that this process asked for, by policy.", ["policy"]
)


def may_begin(last: LastRun | None, newest_due_at: datetime, now: datetime) -> bool:
    """Tell whether a run of a policy is worth it: the last has ended, and something became due since, or long ago."""
    if last is None:
        return True
    if last.ended_at is None:
        return False
    waited = now - last.ended_at
    if last.state is JobState.FAILED:
        return waited >= AFTER_FAILURE
    if last.state is JobState.CANCELLED:
        return waited >= AGAIN_AFTER
    return newest_due_at > last.created_at or waited >= AGAIN_AFTER


class DueLoop:
    """Asks for a job of each policy by which something is due."""

    name = "cleanup-due"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run_once(self) -> IterationResult:
        """Ask for the jobs that are worth it now."""
        begun = 0
        async with connection(self._pool) as held:
            policies = await _in_force(held)
            if policies is not None and await self._worth_it(held, policies):
                made = await plan_what_acts(held, policies, now=datetime.now(UTC))
                worth_it = {} if made is None or not made.stored else await self._worth_it(held, policies)
                for policy, due in worth_it.items():
                    begun += await self._begin(asked_for(policy, due), len(due))
            if policies is not None:
                begun += await self._begin_emptying(held)
        return IterationResult(items=begun, rest_seconds=LOOKS_EVERY_SECONDS)

    async def _worth_it(self, held: Connection, policies: Policies) -> dict[str, list[Due]]:
        """Return what is due of each policy of which a run is worth it."""
        enforced = [policy.id for policy in policies.cleanup if policy.mode is Mode.ENFORCE]
        if not enforced or await maintenance.why_paused(held) is not None:
            return {}
        now = datetime.now(UTC)
        due = await cleanup_plans.due_verdicts(held, now=now, policies=enforced)
        if not due:
            return {}
        last = await cleanup_plans.last_runs(held)
        found = {name: [each for each in due if each.policy == name] for name in enforced}
        return {
            name: of_it
            for name, of_it in found.items()
            if of_it and may_begin(last.get(name), max(each.due_at for each in of_it), now)
        }

    async def _begin_emptying(self, held: Connection) -> int:
        """Ask for a job in repositories whose copies in the trash are kept no longer, at most every hour."""
        now = datetime.now(UTC)
        expired = await trash_copies.expired_repositories(held, before=now, limit=MOST_REPOSITORIES)
        if not expired or await maintenance.why_paused(held) is not None:
            return 0
        last = (await cleanup_plans.last_runs(held)).get(EMPTYING)
        if not may_begin(last, NEVER, now):
            return 0
        reason = "copies of what was deleted are kept no longer"
        return await self._begin(_asked(EMPTYING, CleanupParams(repositories=expired), reason), len(expired))

    async def _begin(self, asked: Asked, due: int) -> int:
        policy = asked.asked_by
        async with transaction(self._pool) as held:
            requested = await jobs.request_job(held, asked=asked)
        if isinstance(requested, Conflict):  # somebody acts there: in the next round, or later
            return 0
        BEGUN.labels(policy).inc()
        log.info("cleanup_begun", policy=policy, job=str(requested.job.id), due=due)
        return 1


def asked_for(policy: str, due: Iterable[Due]) -> Asked:
    """Return the job that does what is due by a policy, in the repositories where it has been due for longest."""
    names = list(dict.fromkeys(each.repository for each in due))[:MOST_REPOSITORIES]
    params = CleanupParams(repositories=names, policies=[policy])
    return _asked(policy, params, f"what policy {policy} planned is due")


def _asked(by: str, params: CleanupParams, reason: str) -> Asked:
    return Asked(
        kind=CLEANUP.name,
        acts=CLEANUP.acts,
        params=params.model_dump(mode="json"),
        repositories=params.repositories,
        asked_by=by,
        asked_from=socket.gethostname(),
        asked_with="reconciler run",
        by_policy=True,
        reason=reason,
        bounds={},
    )


async def _in_force(held: Connection) -> Policies | None:
    file = await policies_in_force.in_force(held)
    if file is None:
        return None
    try:
        return file.policies()
    except PoliciesRefused:  # written by a newer program; the loop that plans says so
        return None

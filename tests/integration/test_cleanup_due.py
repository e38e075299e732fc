"""What `reconciler run` does by itself: it asks for a job where something is due by a policy that decides by itself."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.jobs.job import JobState
from indexer.store import cleanup_plans, maintenance, policies_in_force
from indexer.store.cleanup_plans import LastRun
from indexer.store.operators import Operator
from indexer.store.pool import Connection, Pool, connection, transaction
from reconciler.cleanup.due import AFTER_FAILURE, AGAIN_AFTER, DueLoop, may_begin
from tests.fixtures.cleanup_rows import Rows

ANN = Operator(name="ann", host="here", command="a test")
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def policies(mode: str = "enforce", *, brake: int = 100, blocked: str = "") -> bytes:
    return f"""version: 1
{blocked}cleanup:
  - id: a
    mode: {mode}
    scope: {{repositories: {{any: ["team/**"]}}}}
    delete: [{{id: old, tags: {{glob: ["pr-*"]}}, older: {{pushed: 30d}}}}]
    brake: {{tags: {brake}, share: 100%, repository_share: 100%}}
    undo: {{pending: 0s}}
""".encode()


@pytest.fixture
async def held(pool: Pool) -> Any:
    """A repository with two tags that are due by policies, and one that is not."""
    async with connection(pool) as connected:
        rows = Rows(connected)
        await rows.begin()
        await connected.execute("UPDATE receiver_session SET heartbeat_at = now()")
        for tag, days in (("pr-1", 40), ("pr-2", 40), ("v1", 400)):
            await rows.tag(tag, tag, NOW - timedelta(days=days))
        yield connected


async def in_force(held: Connection, content: bytes) -> None:
    await policies_in_force.put_in_force(held, content=content, at=datetime.now(UTC), by=None)


async def approve(pool: Pool, held: Connection) -> None:
    """Make a plan as the loop that plans does, and approve it."""
    from indexer.cleanup.loop import PlanningLoop  # noqa: PLC0415

    await PlanningLoop(pool).run_once()
    (newest, *_) = await cleanup_plans.list_plans(held, limit=1)
    async with transaction(pool) as approving:
        await cleanup_plans.approve_plan(
            approving, plan=newest, at=datetime.now(UTC), operator=ANN, reason="seen"
        )


async def begun(pool: Pool, held: Connection) -> list[Any]:
    await DueLoop(pool).run_once()
    return list(await held.fetch("SELECT kind, params, repositories, asked_by, by_policy, state FROM job"))


async def test_due__asks_for_one_job(pool: Pool, held: Connection) -> None:
    """Once approved: a job of the policy, in its repositories; no second one while that has not ended."""
    await in_force(held, policies())
    assert [] == await begun(pool, held), "nobody approved it"
    await approve(pool, held)
    (job,) = await begun(pool, held)
    assert ("cleanup", "a", True) == (job["kind"], job["asked_by"], job["by_policy"])
    assert {"repositories": ["team/app"], "policies": ["a"]} == job["params"]
    assert 1 == len(await begun(pool, held))
    await held.execute("UPDATE job SET state = 'done', ended_at = now()")
    assert 1 == len(await begun(pool, held)), "what is left was tried just now"
    await held.execute("UPDATE job SET ended_at = ended_at - $1::interval", AGAIN_AFTER)
    assert 2 == len(await begun(pool, held))


@pytest.mark.parametrize(
    "why", ["propose", "preview", "brake", "blocked", "changed", "rejected", "maintenance"]
)
async def test_due__asks_for_nothing(pool: Pool, held: Connection, why: str) -> None:
    """Other modes, a brake, a window, other bytes, a rejection, maintenance: each keeps it from asking."""
    if why in {"propose", "preview"}:
        await in_force(held, policies(why))
        if why == "propose":
            await approve(pool, held)
    elif why == "brake":
        await in_force(held, policies(brake=1))
        await approve(pool, held)
    else:
        await in_force(held, policies())
        await approve(pool, held)
    if why == "blocked":
        await in_force(held, policies(blocked='blocked: ["daily 00:00-24:00Z"]\n'))
        await approve(pool, held)
    if why == "changed":
        await in_force(held, policies() + b"# one more line\n")
    if why == "rejected":
        (newest, *_) = await cleanup_plans.list_plans(held, limit=1)
        async with transaction(pool) as rejecting:
            await cleanup_plans.reject_plan(
                rejecting, plan=newest, at=datetime.now(UTC), operator=ANN, reason="no"
            )
    if why == "maintenance":
        async with transaction(pool) as beginning:
            await maintenance.begin_maintenance(beginning, lasting=None, operator=ANN, reason="gc")
    assert [] == await begun(pool, held)


async def expired_copy(held: Connection, trash: str, repository: str) -> None:
    await held.execute(
        "INSERT INTO trash_copy (kept_until, put_at, repository, trash, digest)"
        " VALUES (now() - interval '1 hour', now(), $1, $2, '\\x0100')",
        repository,
        trash,
    )


async def test_due__copies_that_are_kept_no_longer(pool: Pool, held: Connection) -> None:
    """A job where they were made, at most every hour; none while nothing may act, or without policies."""
    await expired_copy(held, "trash/x", "x")
    assert [] == await begun(pool, held), "no policies"
    await in_force(held, policies("preview", blocked='blocked: ["daily 00:00-24:00Z"]\n'))
    assert [] == await begun(pool, held), "nothing may act"
    await in_force(held, policies("preview"))
    (job,) = await begun(pool, held)
    assert ("cleanup", "undo.trash", ["x"]) == (job["kind"], job["asked_by"], job["repositories"])
    await held.execute("UPDATE job SET state = 'done', ended_at = now()")
    assert 1 == len(await begun(pool, held)), "it was tried just now"
    await held.execute("UPDATE job SET ended_at = ended_at - $1::interval", AGAIN_AFTER)
    assert 2 == len(await begun(pool, held))


async def test_due__nothing_in_the_trash_is_cleaned_up(pool: Pool, held: Connection) -> None:
    """A repository that has copies is no policy's, also once the policy does not name the trash any more."""
    await expired_copy(held, "team/app", "x")
    await held.execute("UPDATE trash_copy SET kept_until = 'infinity'")
    await in_force(held, policies())
    await approve(pool, held)
    assert [] == await begun(pool, held)
    await held.execute("DELETE FROM trash_copy")
    await approve(pool, held)
    assert 1 == len(await begun(pool, held))


def run(state: JobState = JobState.DONE, *, ended: timedelta | None = timedelta(0)) -> LastRun:
    return LastRun(
        policy="a",
        job=uuid.uuid4(),
        state=state,
        created_at=NOW - HOUR * 2,
        ended_at=None if ended is None else NOW - ended,
        result={},
        error=None,
    )


@pytest.mark.parametrize(
    ("last", "due", "expected"),
    [
        (None, NOW - HOUR * 9, True),
        (run(ended=None), NOW, False),
        (run(), NOW - HOUR, True),  # it became due since
        (run(), NOW - HOUR * 3, False),
        (run(ended=AGAIN_AFTER), NOW - HOUR * 3, True),
        (run(JobState.FAILED), NOW, False),
        (run(JobState.FAILED, ended=AFTER_FAILURE), NOW - HOUR * 3, True),
        (run(JobState.CANCELLED, ended=AFTER_FAILURE), NOW, False),
        (run(JobState.CANCELLED, ended=AGAIN_AFTER), NOW, True),
    ],
)
def test_may_begin(last: LastRun | None, due: datetime, *, expected: bool) -> None:
    """A run ends before the next; what could not be done, failed or was cancelled is not tried again at once."""
    assert expected is may_begin(last, due, NOW)

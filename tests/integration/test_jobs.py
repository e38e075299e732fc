"""Jobs on a real PostgreSQL: asked for, taken by one process at a time, ended, each with its entries in the log."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from indexer.background.housekeeping import Housekeeper, Retention
from indexer.common.errors import RegistryDenied, RegistryUnavailable
from indexer.jobs.job import Job, JobState
from indexer.store import jobs, maintenance
from indexer.store.jobs import Conflict, Requested
from indexer.store.operators import Operator
from indexer.store.pool import Pool, connect, connection, transaction
from reconciler.acting.context import JobContext
from reconciler.acting.interruptions import JobFailed, LeaseLost
from reconciler.jobs.loop import JobLoop
from tests.fixtures.jobs import add, asked, find, nothing, request, run_all, runner, take

ANN = Operator(name="ann", host="here", command="reconciler maintenance")


async def staged(pool: Pool) -> list[tuple[str, dict[str, Any]]]:
    async with pool.acquire() as held:
        rows = await held.fetch("SELECT action::text, detail FROM audit_staged ORDER BY id")
    return [(row["action"], row["detail"]) for row in rows]


async def expire(pool: Pool, job: Job) -> None:
    """Let the lease of a job run out, as if its process had said nothing for so long."""
    async with pool.acquire() as held:
        await held.execute(
            "UPDATE job SET leased_until = clock_timestamp() - interval '1 s' WHERE id = $1", job.id
        )


# --- asking ---------------------------------------------------------------------------------------------------


async def test_request__is_on_record_and_in_the_log(pool: Pool) -> None:
    """A request gives a waiting job and, in the same transaction, an entry that names who asked for what and why."""
    async with pool.acquire() as held:
        await held.execute("INSERT INTO repository (name, created_at) VALUES ('team/app', now())")
    job = await add(pool, "team/app", params={"tag": "v1"}, reason="too old")
    assert (JobState.WAITING, ("team/app",), 7) == (job.state, job.repositories, job.id.version)
    assert job == await find(pool, job)
    async with pool.acquire() as held:
        row = await held.fetchrow(
            "SELECT s.action::text, s.source::text, s.tag, s.detail, r.name AS repository, a.name AS actor "
            "FROM audit_staged AS s JOIN repository AS r ON r.id = s.repository_id JOIN actor AS a ON a.id = s.actor_id"
        )
    assert row is not None
    assert {
        "action": "job.requested",
        "source": "operator",
        "tag": "v1",
        "repository": "team/app",
        "actor": "ann",
        "detail": {"job": str(job.id), "kind": "act", "params": {"tag": "v1"}, "reason": "too old"},
    } == dict(row)


async def test_request__refused_leaves_nothing(pool: Pool) -> None:
    """A transaction that is not committed leaves neither job nor entry."""

    async def interrupted() -> None:
        async with transaction(pool) as held:
            await jobs.request_job(held, asked=asked("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await interrupted()
    async with connection(pool) as held:
        assert [] == await jobs.list_unended(held, limit=9)
    assert [] == await staged(pool)


ALL: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("earlier", "wanted", "conflicts"),
    [
        (("a",), ("a",), True),
        (("a", "b"), ("b", "c"), True),
        (("a",), ("b",), False),
        (ALL, ("a",), True),  # or a registry-wide job would never begin
        (("a",), ALL, False),  # it waits until the single ones have ended
        (ALL, ALL, True),
    ],
)
async def test_request__conflicts(
    pool: Pool, earlier: tuple[str, ...], wanted: tuple[str, ...], conflicts: bool
) -> None:
    """One acting job at a time has a repository; a registry-wide one is refused only by another, and waits."""
    first = await add(pool, *earlier)
    done = await request(pool, asked(*wanted))
    assert conflicts == isinstance(done, Conflict)
    if isinstance(done, Conflict):
        assert done.with_job == first
    assert isinstance(await request(pool, asked(*wanted, kind="observe", acts=False)), Requested)


async def test_request__ended_jobs_are_not_in_the_way(pool: Pool) -> None:
    """Once a job has ended, the next one on its repository is taken."""
    await add(pool, "a")
    assert 1 == await run_all(runner(pool))
    assert isinstance(await request(pool, asked("a")), Requested)


async def test_request__idempotency_key(pool: Pool) -> None:
    """The same request with the same key gives the same job, also once it has ended; another one is a conflict."""
    first = await request(pool, asked("a"), key="k")
    assert isinstance(first, Requested)
    assert Requested(job=first.job, replayed=True) == await request(pool, asked("a"), key="k")
    assert 1 == await run_all(runner(pool))
    again = await request(pool, asked("a"), key="k")
    assert isinstance(again, Requested)
    assert (True, first.job.id, JobState.DONE) == (again.replayed, again.job.id, again.job.state)
    assert Conflict(with_job=None) == await request(pool, asked("a", reason="another"), key="k")
    other = await request(pool, asked("a"), key="k2")
    assert isinstance(other, Requested)
    assert other.job.id != first.job.id
    assert ["job.requested", "job.ended", "job.requested"] == [action for action, _ in await staged(pool)]


async def test_request__many_at_once_on_one_repository(pool: Pool) -> None:
    """Of many that ask for the same repository at once, exactly one gets it."""
    done = await asyncio.gather(*(request(pool, asked("a")) for _ in range(12)))
    assert {Requested: 1, Conflict: 11} == Counter(map(type, done))


# --- taking ---------------------------------------------------------------------------------------------------


async def test_take__oldest_first_and_each_once(pool: Pool) -> None:
    """Two processes that take until nothing is left: every job is taken once, the oldest first."""
    wanted = [await add(pool, f"r{number}") for number in range(20)]
    taken = [one for one in await asyncio.gather(*(take(pool) for _ in range(30))) if one is not None]
    assert sorted(one.id for one in wanted) == sorted(one.job.id for one in taken)
    assert wanted[0].id in {one.job.id for one in taken[:5]}


async def test_take__registry_wide_waits_for_single_ones(pool: Pool) -> None:
    """A registry-wide job runs alone: it waits for the single ones before it, those after it are refused."""
    single = await add(pool, "a")
    wide = await add(pool)
    first = await take(pool)
    assert first is not None
    assert single.id == first.job.id
    assert await take(pool) is None
    await runner(pool).execute(first)
    second = await take(pool)
    assert second is not None
    assert wide.id == second.job.id


async def test_take__never_two_that_share_a_repository(pool: Pool) -> None:
    """Even if two that share a repository are on record, one waits for the other."""
    await add(pool, "a", "b")
    async with pool.acquire() as held:
        await held.execute(
            "INSERT INTO job (id, kind, acts, params, repositories, asked_by, asked_from, asked_with, bounds, "
            "created_at) VALUES ($1, 'act', true, '{}', '{b,c}', 'x', 'x', 'x', '{}', now())",
            uuid.uuid4(),
        )
    taken = [one for one in await asyncio.gather(*(take(pool) for _ in range(6))) if one is not None]
    assert 1 == len(taken)


async def test_take__equal_observing_jobs_one_after_the_other(pool: Pool) -> None:
    """Two reconciles of the same repositories do not run beside each other; of different ones they do."""
    observe = runner(pool, observe=nothing)
    for names in ((), (), ("a",)):
        await add(pool, *names, kind="observe", acts=False)
    taken = [await observe.take() for _ in range(3)]
    assert [None, ("a",)] == [one.job.repositories for one in taken if one is not None]


async def test_take__unknown_kind_is_left_alone(pool: Pool) -> None:
    """A kind that this version does not know is left for one that does."""
    job = await add(pool, "a", kind="future")
    assert 0 == await run_all(runner(pool))
    assert job == await find(pool, job)
    assert 1 == await run_all(runner(pool, future=nothing))


async def test_take__the_lease_of_the_dead(pool: Pool) -> None:
    """A job whose process disappeared is taken by the next once the lease has run out, and not before."""
    job = await add(pool, "a")
    first = await take(pool)
    assert first is not None
    assert await take(pool) is None
    await expire(pool, job)
    second = await take(pool)
    assert second is not None
    assert (job.id, 1) == (second.job.id, second.deaths)
    assert second.lease != first.lease


async def test_lock__of_a_process_that_is_stopped_is_not_waited_for(pool: Pool, database_url: str) -> None:
    """A process that is stopped while it asks for a job keeps nobody from asking for longer than some seconds."""
    stopped = await connect(database_url, application="tests")
    try:
        await stopped.execute("BEGIN")
        await jobs.request_job(stopped, asked=asked("a"))
        async with asyncio.timeout(30):
            assert isinstance(await request(pool, asked("a")), Requested)
        assert stopped.is_closed()
    finally:
        stopped.terminate()


# --- executing ------------------------------------------------------------------------------------------------


async def test_execute__done(pool: Pool) -> None:
    """What a handler returns is the result; start, end and progress are on record, and the end is in the log."""

    async def handler(context: JobContext) -> Mapping[str, Any]:
        await context.check()
        await context.progress(1, 2, "tags", "v1")
        await context.progress(2, 2, "tags", "v2")
        return {"deleted": 2}

    job = await add(pool, "a")
    assert 1 == await run_all(runner(pool, act=handler))
    done = await find(pool, job)
    assert (JobState.DONE, {"deleted": 2}, None) == (done.state, done.result, done.error)
    assert {"done": 2, "total": 2, "unit": "tags", "message": "v2"} == done.progress
    assert done.started_at is not None
    assert done.ended_at is not None
    assert done.created_at <= done.started_at <= done.ended_at
    assert ("job.ended", {"job": str(job.id), "kind": "act", "state": "done", "result": {"deleted": 2}}) == (
        await staged(pool)
    )[-1]


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (JobFailed("the tag moved"), "the tag moved"),
        (RegistryDenied("the registry refuses: 403"), "the registry refuses: 403"),
        (
            ValueError("a secret"),
            "something unexpected went wrong (ValueError); the reconciler's log has the details",
        ),
    ],
)
async def test_execute__failed(pool: Pool, raised: Exception, error: str) -> None:
    """A handler that raises has failed, with a sentence; nothing of an unexpected error's text is shown."""

    async def handler(_: JobContext) -> Mapping[str, Any]:
        raise raised

    job = await add(pool, "a")
    assert 1 == await run_all(runner(pool, act=handler))
    assert (JobState.FAILED, error) == ((await find(pool, job)).state, (await find(pool, job)).error)
    action, detail = (await staged(pool))[-1]
    assert ("job.ended", "failed", error) == (action, detail["state"], detail["error"])


async def test_execute__registry_away_is_tried_again(pool: Pool) -> None:
    """A registry that does not answer makes a job wait, not fail; its checkpoint stays, and it is done later."""
    calls: list[Mapping[str, Any]] = []

    async def handler(context: JobContext) -> Mapping[str, Any]:
        calls.append(dict(context.state))
        await context.save({"step": len(calls)})
        if len(calls) == 1:
            raise RegistryUnavailable("the registry does not answer")
        return {}

    job = await add(pool, "a")
    acting = runner(pool, act=handler)
    assert 1 == await run_all(acting)
    waiting = await find(pool, job)
    assert (JobState.WAITING, 1) == (waiting.state, waiting.tries)
    assert "the registry does not answer; it is tried again in 5 s" == waiting.note
    assert waiting.not_before is not None
    async with pool.acquire() as held:
        await held.execute("UPDATE job SET not_before = clock_timestamp() WHERE id = $1", job.id)
    assert 1 == await run_all(acting)
    assert JobState.DONE == (await find(pool, job)).state
    assert [{}, {"step": 1}] == calls


async def test_execute__cancelled_at_the_next_check(pool: Pool) -> None:
    """A running job that is cancelled ends at its next check, not in what it must finish; the log says who did it."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(context: JobContext) -> Mapping[str, Any]:
        begun.set()
        await cancelled.wait()
        await context.check(finishing=True)
        await context.check()
        raise AssertionError("it went on")

    job = await add(pool, "a")
    working = asyncio.create_task(run_all(runner(pool, act=handler)))
    await begun.wait()
    async with transaction(pool) as held:
        asked_for = await jobs.cancel_job(held, job_id=job.id, by="bob")
    assert asked_for is not None
    assert (JobState.RUNNING, "bob") == (asked_for.state, asked_for.cancelled_by)
    cancelled.set()
    assert 1 == await working
    ended = await find(pool, job)
    assert (JobState.CANCELLED, "bob") == (ended.state, ended.cancelled_by)
    async with pool.acquire() as held:
        actor = await held.fetchval(
            "SELECT a.name FROM audit_staged AS s JOIN actor AS a ON a.id = s.actor_id WHERE action = 'job.ended'"
        )
    assert "bob" == actor


async def test_cancel__waiting_ends_at_once(pool: Pool) -> None:
    """A job that nobody has begun is cancelled at once, and nothing executes it; one that has ended is not."""
    job = await add(pool, "a")
    for expected in (JobState.CANCELLED, None):
        async with transaction(pool) as held:
            done = await jobs.cancel_job(held, job_id=job.id, by="bob")
        assert expected == (None if done is None else done.state)
    assert 0 == await run_all(runner(pool))


async def test_cancel__begun_and_waiting_comes_to_a_point_at_which_nothing_is_half_done(pool: Pool) -> None:
    """An acting job that waits for the registry halfway is taken once more, to finish what is half done."""
    finished: list[str] = []

    async def handler(context: JobContext) -> Mapping[str, Any]:
        if not context.state:
            await context.save({"half": "done"})
            raise RegistryUnavailable("away")
        await context.check(finishing=True)
        finished.append("half")
        await context.check()
        raise AssertionError("it went on")

    job = await add(pool, "a")
    acting = runner(pool, act=handler)
    assert 1 == await run_all(acting)
    async with transaction(pool) as held:
        done = await jobs.cancel_job(held, job_id=job.id, by="bob")
    assert done is not None
    assert JobState.WAITING == done.state
    assert 1 == await run_all(acting)  # although its time to try again has not come
    assert (["half"], JobState.CANCELLED) == (finished, (await find(pool, job)).state)


async def test_check__after_the_lease_does_nothing_more(pool: Pool) -> None:
    """A process that wakes after its lease ran out may neither act nor write, though nobody else has the job yet."""
    acted: list[str] = []

    async def sleeper(context: JobContext) -> Mapping[str, Any]:
        await expire(pool, context.job)
        for step in (context.check(), context.check(finishing=True), context.save({"x": 1})):
            with pytest.raises(LeaseLost):
                await step
        await context.check()
        acted.append("sleeper")
        return {"by": "sleeper"}

    async def next_one(context: JobContext) -> Mapping[str, Any]:
        await context.check()
        acted.append("next")
        return {"by": "next"}

    job = await add(pool, "a")
    slow = runner(pool, act=sleeper)
    taken = await slow.take()
    assert taken is not None
    await slow.execute(taken)
    assert JobState.RUNNING == (await find(pool, job)).state
    assert 1 == await run_all(runner(pool, act=next_one))
    ended = await find(pool, job)
    assert (["next"], {"by": "next"}, None) == (acted, ended.result, ended.checkpoint)
    assert ["job.requested", "job.ended"] == [action for action, _ in await staged(pool)]


async def test_end__by_a_process_whose_lease_passed_on_is_not_written(pool: Pool) -> None:
    """The end that a slow process comes to is not written once another process has the job."""
    job = await add(pool, "a")
    first = await take(pool)
    assert first is not None
    await expire(pool, job)
    second = await take(pool)
    assert second is not None
    await runner(pool).execute(first)
    assert JobState.RUNNING == (await find(pool, job)).state
    await runner(pool).execute(second)
    assert JobState.DONE == (await find(pool, job)).state


async def test_keep__extends_the_lease_of_a_handler_that_takes_long(pool: Pool) -> None:
    """A handler that works for longer than a lease lasts keeps its job."""
    lasting, begun = timedelta(seconds=2), asyncio.Event()

    async def handler(context: JobContext) -> Mapping[str, Any]:
        begun.set()
        await asyncio.sleep(4.5)
        await context.check()
        return {}

    job = await add(pool, "a")
    working = asyncio.create_task(run_all(runner(pool, act=handler, lasting=lasting)))
    other = runner(pool, lasting=lasting)
    await begun.wait()
    while not working.done():
        assert await other.take() is None or working.done()
        await asyncio.sleep(0.1)
    assert (JobState.DONE, 1) == ((await find(pool, job)).state, working.result())


async def test_keep__ends_a_handler_that_never_checks(pool: Pool) -> None:
    """A handler that does not look after its lease is ended where it is, soon after the lease is lost."""
    ended = asyncio.Event()

    async def handler(context: JobContext) -> Mapping[str, Any]:
        await expire(pool, context.job)
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return {}

    job = await add(pool, "a")
    slow = runner(pool, act=handler, lasting=timedelta(seconds=2))
    taken = await slow.take()
    assert taken is not None
    async with asyncio.timeout(20):
        await slow.execute(taken)
    assert ended.is_set()
    assert JobState.RUNNING == (await find(pool, job)).state


async def test_deaths__a_job_that_kills_its_processes_fails(pool: Pool) -> None:
    """A job with which one process after the other disappears has failed, with a sentence that says so."""
    job = await add(pool, "a")
    for _ in range(10):
        assert await take(pool) is not None
        await expire(pool, job)
    assert 1 == await run_all(runner(pool))
    failed = await find(pool, job)
    assert JobState.FAILED == failed.state
    assert failed.error is not None
    assert failed.error.startswith("10 processes ended without a word")


# --- maintenance ----------------------------------------------------------------------------------------------


async def test_maintenance__pauses_what_acts(pool: Pool) -> None:
    """During maintenance acting jobs are not taken and running ones pause at their next check; others go on."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(context: JobContext) -> Mapping[str, Any]:
        begun.set()
        await go_on.wait()
        await context.check(finishing=True)
        await context.check()
        return {}

    job = await add(pool, "a")
    acting = runner(pool, act=handler, observe=nothing)
    working = asyncio.create_task(run_all(acting))
    await begun.wait()
    async with transaction(pool) as held:
        await maintenance.begin_maintenance(
            held, lasting=timedelta(hours=2), operator=ANN, reason="garbage-collect"
        )
    go_on.set()
    assert 1 == await working
    paused = await find(pool, job)
    assert JobState.PAUSED == paused.state
    assert paused.note is not None
    assert "ann began maintenance" in paused.note
    await add(pool, "b", kind="observe", acts=False)
    assert 1 == await run_all(acting)
    async with transaction(pool) as held:
        assert await maintenance.end_maintenance(held, operator=ANN, reason=None)
        assert not await maintenance.end_maintenance(held, operator=ANN, reason=None)
    assert 1 == await run_all(acting)
    assert JobState.DONE == (await find(pool, job)).state
    assert ["operator.maintenance_began", "operator.maintenance_ended"] == [
        action for action, _ in await staged(pool) if action.startswith("operator")
    ]


async def test_maintenance__ends_by_the_clock_of_the_database(pool: Pool) -> None:
    """Maintenance for a time is over after it, without anybody ending it."""
    async with transaction(pool) as held:
        await maintenance.begin_maintenance(held, lasting=timedelta(seconds=1), operator=ANN, reason=None)
        assert await maintenance.why_paused(held) is not None
        await held.execute("SELECT pg_sleep(1.1)")
        assert await maintenance.why_paused(held) is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", None),
        (b"version: 1\n", None),
        (b'version: 1\nblocked: ["daily 00:00-24:00Z"]\n', "blocked_window"),
        (b"version: 99\n", "policies_unreadable"),
    ],
)
async def test_blocked__by_the_policies_in_force(pool: Pool, content: bytes, code: str | None) -> None:
    """In a blocked window of the policies in force nothing acts, nor where they cannot be read."""
    job = await add(pool, "a")
    async with pool.acquire() as held:
        await held.execute(
            "INSERT INTO policies_in_force (since, sha256, content) VALUES (now(), $1, $2)",
            hashlib.sha256(content).digest(),
            content,
        )
        pause = await maintenance.why_paused(held)
    assert code == (None if pause is None else pause.code)
    assert (1 if code is None else 0) == await run_all(runner(pool))
    assert (code is None) == (await find(pool, job)).state.has_ended
    async with transaction(pool) as held:
        await maintenance.begin_maintenance(held, lasting=None, operator=ANN, reason=None)
        pause = await maintenance.why_paused(held)
    assert pause is not None
    assert "maintenance" == pause.code


# --- the loop -------------------------------------------------------------------------------------------------


async def test_loop__stops_without_losing_a_job(pool: Pool) -> None:
    """A process that is asked to stop gives its jobs back at their next check, and another goes on at once."""
    stop, begun = asyncio.Event(), asyncio.Event()

    async def handler(context: JobContext) -> Mapping[str, Any]:
        begun.set()
        await context.save({"half": "way"})
        while not context.stop_requested:
            await asyncio.sleep(0.01)
        await context.check()
        raise AssertionError("it went on")

    job = await add(pool, "a")
    loop = JobLoop(runner(pool, act=handler, stop=stop))
    assert 1 == (await loop.run_once()).items
    await begun.wait()
    stop.set()
    await loop.stop()
    given_back = await find(pool, job)
    assert (JobState.WAITING, {"half": "way"}) == (given_back.state, given_back.checkpoint)
    assert 1 == await run_all(runner(pool))


async def test_loop__two_race_and_each_job_is_done_once(pool: Pool) -> None:
    """Two loops on one database: a hundred jobs, each executed exactly once, never two on one repository."""
    executed: Counter[str] = Counter()
    at_work: Counter[str] = Counter()

    async def handler(context: JobContext) -> Mapping[str, Any]:
        name = (context.job.repositories or ("",))[0]
        at_work[name] += 1
        assert 1 == at_work[name]
        await asyncio.sleep(0)
        await context.check()
        executed[str(context.job.id)] += 1
        at_work[name] -= 1
        return {}

    wanted = [await add(pool, f"r{number}") for number in range(100)]
    loops = [JobLoop(runner(pool, act=handler)) for _ in range(2)]
    async with asyncio.timeout(60):
        while sum(executed.values()) < len(wanted):
            await asyncio.gather(*(loop.run_once() for loop in loops))
            await asyncio.sleep(0.01)
    for loop in loops:
        await loop.stop()
    assert Counter(str(job.id) for job in wanted) == executed
    states = {(await find(pool, job)).state for job in wanted}
    assert {JobState.DONE} == states


async def test_housekeeping__forgets_ended_jobs(pool: Pool) -> None:
    """Jobs that ended longer ago than their retention are forgotten; those that have not ended never are."""
    old, open_ = await add(pool, "a"), await add(pool, "b", kind="of-the-future")
    assert 1 == await run_all(runner(pool))
    day = timedelta(days=1)
    async with pool.acquire() as held:
        await held.execute("UPDATE job SET ended_at = now() - interval '2 days' WHERE id = $1", old.id)
    await Housekeeper(
        pool, Retention(inbox=day, events=day, tombstones=day, due=day, pull_detail=day, jobs=day)
    ).run_once()
    async with connection(pool) as held:
        assert [None, open_] == [await jobs.find_job(held, job_id=one.id) for one in (old, open_)]

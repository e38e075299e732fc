"""Jobs in processes of their own: killed between any two requests, stopped beyond their lease, racing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.jobs.job import Job, JobState
from indexer.store.pool import Pool
from tests.fixtures.jobs import add, find

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.slow


class Workers:
    """Processes that execute jobs, all ended with the test."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *, lease: float = 2) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.fixtures.job_worker", self._url, name, str(lease)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        self._all.append(process)
        return process

    def end(self) -> None:
        for process in self._all:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def workers(database_url: str) -> Iterator[Workers]:
    started = Workers(database_url)
    yield started
    started.end()


async def until_resting(process: subprocess.Popen[bytes], times: int = 1) -> None:
    """Return at the beginning of a pause of the process."""
    assert process.stdout is not None
    for _ in range(times):
        line = await asyncio.to_thread(process.stdout.readline)
        assert b"resting\n" == line


async def until_done(pool: Pool, *jobs: Job) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        for job in jobs:
            while (await find(pool, job)).state is not JobState.DONE:
                await asyncio.sleep(0.05)


async def acted(pool: Pool, job: Job) -> list[tuple[int, str]]:
    async with pool.acquire() as held:
        rows = await held.fetch("SELECT step, process FROM acted WHERE job = $1 ORDER BY number", job.id)
    return [(row["step"], row["process"]) for row in rows]


@pytest.fixture(autouse=True)
async def acts(pool: Pool) -> None:
    """The table of what was done."""
    await pool.execute(
        "CREATE TABLE acted (number bigint GENERATED ALWAYS AS IDENTITY, job uuid, step integer, process text)"
    )


async def test_stopped_beyond_its_lease__does_nothing_more(pool: Pool, workers: Workers) -> None:
    """SIGSTOP beyond the lease, then SIGCONT: another process ended the job, and the one that wakes does nothing."""
    job = await add(pool, "a", params={"steps": 7, "rest": 0.4})
    sleeper = workers.start("sleeper")
    await until_resting(sleeper, times=3)
    sleeper.send_signal(signal.SIGSTOP)
    workers.start("other")
    await until_done(pool, job)
    before = await acted(pool, job)
    sleeper.send_signal(signal.SIGCONT)
    # It is awake, and has looked after its lease, once it takes a job again.
    later = [await add(pool, f"later{number}", params={"steps": 3, "rest": 0.1}) for number in range(40)]
    await until_done(pool, *later)
    assert {"sleeper", "other"} == {process for each in later for _, process in await acted(pool, each)}
    assert before == await acted(pool, job)
    assert list(range(7)) == [step for step, _ in before]
    assert [process for _, process in before] == ["sleeper"] * 2 + ["other"] * 5
    assert {"ended_by": "other"} == (await find(pool, job)).result


async def test_stopped_beyond_its_lease__nobody_else(pool: Pool, workers: Workers) -> None:
    """Also where no other process took the job meanwhile, the one that wakes gives it up, and takes it anew."""
    job = await add(pool, "a", params={"steps": 6, "rest": 0.4})
    sleeper = workers.start("sleeper")
    await until_resting(sleeper, times=3)
    sleeper.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2.5)
    sleeper.send_signal(signal.SIGCONT)
    await until_done(pool, job)
    assert list(range(6)) == [step for step, _ in await acted(pool, job)]
    async with pool.acquire() as held:
        assert await held.fetchval("SELECT count(*) FROM audit_staged WHERE action = 'job.ended'") == 1


async def test_killed_between_requests__each_step_is_done(pool: Pool, workers: Workers) -> None:
    """SIGKILL again and again: every process goes on where the one before it was; no step is lost, none done twice."""
    job = await add(pool, "a", params={"steps": 8, "rest": 0.4})
    for number in range(3):
        process = workers.start(f"killed{number}")
        await until_resting(process, times=2)
        process.kill()
    workers.start("last")
    await until_done(pool, job)
    found = await acted(pool, job)
    assert list(range(8)) == [step for step, _ in found]
    assert ["killed0", "killed1", "killed2"] == [process for _, process in found[:3]]


async def test_racing__each_job_once_and_one_a_repository(pool: Pool, workers: Workers) -> None:
    """Two processes race for sixty jobs: every step of every job is done exactly once."""
    for name in ("one", "two"):
        workers.start(name, lease=30)
    jobs = [await add(pool, f"r{number}", params={"steps": 3, "rest": 0.01}) for number in range(60)]
    await until_done(pool, *jobs)
    everything = [await acted(pool, job) for job in jobs]
    assert [[0, 1, 2]] * 60 == [[step for step, _ in each] for each in everything]
    assert {1} == {len({process for _, process in each}) for each in everything}
    assert {"one", "two"} == {process for each in everything for _, process in each}

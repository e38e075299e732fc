"""What the verbs that act share: they ask for a job, execute it where no daemon does, and wait for its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from indexer.common.errors import ConfigurationError, RegistryUnavailable, StoreError
from indexer.jobs.kinds import KINDS, Kind
from indexer.jobs.params import Params
from indexer.oci.reference import RepositoryName
from indexer.settings import Settings
from indexer.store import loops
from indexer.store.pool import Pool, open_pool
from reconciler.acting.context import JobContext
from reconciler.acting.interruptions import JobFailed
from reconciler.commands import acting, following
from reconciler.commands.acting import ask_for, exit_code_of, finish, run_job
from reconciler.jobs.kinds import HANDLERS
from reconciler.jobs.loop import JobLoop
from tests.fixtures.jobs import add, find, runner


class OneRepository(Params):
    """Parameters of the test's kind."""

    repository: str


KIND = Kind(
    name="act",
    params=OneRepository,
    acts=True,
    repositories=lambda params: [RepositoryName(params.repository)],
)


async def handler(context: JobContext) -> Mapping[str, Any]:
    await context.check()
    return {"by": context.job.worker, "of": context.job.params["repository"]}


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that acts."""
    monkeypatch.setitem(KINDS, "act", KIND)
    monkeypatch.setitem(HANDLERS, "act", handler)


def settings_of(migrated_url: str) -> Settings:
    return Settings.read(
        {"INDEXER_DATABASE_URL": migrated_url, "RECONCILER_REGISTRY_URL": "http://127.0.0.1:1"}
    )


@pytest_asyncio.fixture
async def pool(migrated_url: str) -> AsyncIterator[Pool]:
    """The database that the verbs use."""
    opened = await open_pool(migrated_url, size=4, application="tests")
    yield opened
    await opened.close()


ASKED = {"repository": "team/app"}


async def follow(migrated_url: str, *, detach: bool = False) -> Any:
    asked = ask_for("act", ASKED, command="reconciler act", reason="because")
    return await following.follow(settings_of(migrated_url), migrated_url, asked, detach=detach, quiet=True)


async def test_follow__without_a_daemon_does_it_itself(migrated_url: str, pool: Pool) -> None:
    """Where no daemon takes jobs, the verb executes its own, by the same runner, and returns it at its end."""
    job = await follow(migrated_url)
    assert ("done", "team/app", "because") == (job.state, job.result["of"], job.reason)
    assert job.result["by"].startswith("reconciler job ")
    assert job == await find(pool, job)


async def test_follow__leaves_it_to_a_daemon_that_lives(migrated_url: str, pool: Pool) -> None:
    """Where a daemon reported lately, it executes the job, and the verb waits."""
    async with pool.acquire() as held:
        await loops.report(
            held,
            loop="jobs",
            process="reconciler run here:1",
            at=datetime.now(UTC),
            outcome="good",
            error=None,
        )
    loop = JobLoop(runner(pool, act=handler))

    async def daemon() -> None:
        while True:
            await loop.run_once()
            await asyncio.sleep(0.05)

    running = asyncio.create_task(daemon())
    job = await follow(migrated_url)
    running.cancel()
    assert "done" == job.state
    assert job.result["by"].startswith("test ")


async def test_follow__a_daemon_that_takes_nothing_is_not_waited_for(
    migrated_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that lives and does not take the job, because it is of another version: the verb executes it."""
    monkeypatch.setattr(following, "TAKEN_WITHIN_SECONDS", 0.2)
    async with pool.acquire() as held:
        await loops.report(
            held,
            loop="jobs",
            process="reconciler run here:1",
            at=datetime.now(UTC),
            outcome="good",
            error=None,
        )
    assert "done" == (await follow(migrated_url)).state


async def test_follow__detached(migrated_url: str) -> None:
    """Detached it returns at once, and nothing is done here; that the job waits is no failure then."""
    job = await follow(migrated_url, detach=True)
    assert "waiting" == job.state
    assert (0, 1) == (exit_code_of(job, detached=True), exit_code_of(job))


async def test_follow__another_acts_there(migrated_url: str, pool: Pool) -> None:
    """Where another job acts on the repository, nothing is asked for, and the sentence names that job."""
    other = await add(pool, "team/app")
    with pytest.raises(StoreError, match=str(other.id)):
        await follow(migrated_url)


async def test_follow__gives_up_waiting_for_the_registry(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that stays away ends the wait after a time, not the job: it waits for the next process."""

    async def away(_: JobContext) -> Mapping[str, Any]:
        raise RegistryUnavailable("the registry does not answer")

    monkeypatch.setitem(HANDLERS, "act", away)
    monkeypatch.setattr(following, "RETRIED_FOR_SECONDS", 0.5)
    job = await follow(migrated_url)
    assert "waiting" == job.state
    assert 1 == exit_code_of(job)


def test_run_job__only_with_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes nothing is read, asked or done, and the sentence says so."""
    monkeypatch.setattr(acting, "read_settings", None)
    with pytest.raises(ConfigurationError, match=r"nothing was done: `reconciler act` .* only with --yes"):
        run_job(
            "act",
            ASKED,
            command="reconciler act",
            yes=False,
            reason=None,
            detach=False,
            config=None,
            json=False,
        )


def test_ask_for__wrong_parameters() -> None:
    """Parameters that the kind does not take are wrong usage, by name."""
    with pytest.raises(ConfigurationError, match="repository: Field required"):
        ask_for("act", {}, command="reconciler act", reason=None)


async def test_finish__prints_one_object_or_words(
    migrated_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON is the job as one object; words say how it ended; the exit code is by state, 3 where the brake held it."""
    done = await follow(migrated_url)
    capsys.readouterr()
    assert 0 == finish(done, json=True)
    assert done.show() == json.loads(capsys.readouterr().out)
    assert 0 == finish(done, json=False, text_of=lambda job: [f"deleted {job.params['repository']}"])
    assert "deleted team/app\n" == capsys.readouterr().out

    async def braked(_: JobContext) -> Mapping[str, Any]:
        raise JobFailed("the brake held it", result={"brake": "too many"})

    monkeypatch.setitem(HANDLERS, "act", braked)
    held = await follow(migrated_url)
    capsys.readouterr()
    assert 3 == finish(held, json=False)
    assert f"failed: the brake held it\n  job {held.id}\n" == capsys.readouterr().out

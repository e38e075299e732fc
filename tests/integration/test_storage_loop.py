"""The loop that asks for checks of the storage: once an interval, however many processes ask."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from indexer.jobs.job import Job, JobState
from indexer.settings import Settings
from indexer.store import jobs
from indexer.store.pool import Pool, connection, transaction
from reconciler.jobs.kinds import HANDLERS, OF_STORAGE, handlers_of
from reconciler.storage.loop import CheckLoop
from tests.fixtures.jobs import add

HOUR = timedelta(hours=1)


async def asked_for(pool: Pool) -> list[Job]:
    async with connection(pool) as held:
        return await jobs.newest_jobs(held, limit=10, kinds=["storage-check"])


async def test_loop__asks_once_an_interval(pool: Pool) -> None:
    """Several processes ask at once and later: one job, until its interval has passed."""
    loops = [CheckLoop(pool, interval=timedelta(days=3650)) for _ in range(4)]
    await asyncio.gather(*(loop.run_once() for loop in loops))
    (job,) = await asked_for(pool)
    assert (job.asked_by, job.acts, job.params["content"]) == ("reconciler run", False, False)
    async with transaction(pool) as held:
        await jobs.cancel_job(held, job_id=job.id, by="ann")
    await loops[0].run_once()
    assert len(await asked_for(pool)) == 1
    async with transaction(pool) as held:
        await held.execute(
            "UPDATE job SET created_at = created_at - interval '2 hours', idempotency_key = 'x'"
        )
    await CheckLoop(pool, interval=HOUR).run_once()
    assert [each.state for each in await asked_for(pool)] == [JobState.WAITING, JobState.CANCELLED]


async def test_loop__leaves_a_check_that_has_not_ended(pool: Pool) -> None:
    """Where a check waits or runs, however old, no second one is asked for."""
    await add(pool, kind="storage-check", acts=False)
    async with transaction(pool) as held:
        await held.execute("UPDATE job SET created_at = created_at - interval '9 days'")
    await CheckLoop(pool, interval=HOUR).run_once()
    assert len(await asked_for(pool)) == 1


def test_handlers__of_a_daemon_without_a_storage() -> None:
    """A daemon that does not know where the storage is leaves jobs about it to one that does."""
    assert OF_STORAGE.isdisjoint(handlers_of(Settings()))
    assert handlers_of(Settings(reconciler_storage_url="file:///srv")) is HANDLERS
    assert handlers_of(Settings(reconciler_registry_config=Path("/etc/config.yml"))) is HANDLERS


def test_interval__needs_a_storage() -> None:
    """An interval without a storage is an error of the settings, not a loop that fails for ever."""
    with pytest.raises(ValueError, match="RECONCILER_STORAGE_URL"):
        Settings(reconciler_storage_check_interval=HOUR)

"""A walk whose process is gone: it is seen at once, closed by the next walk, and not mistaken for one under way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from indexer.store.drift import RunMode, RunOutcome
from indexer.store.listing.runs import latest_runs
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connect
from indexer.store.reconcile_runs import Worker
from reconciler.drift.joining import enter
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState

SETTINGS = RunSettings(mode=RunMode.ONCE, concurrency=2, brake_share=0.1, reread_after=timedelta(0))


async def outcomes(pool: Pool) -> list[str | None]:
    async with pool.acquire() as held:
        return [row["outcome"] for row in await latest_runs(held, limit=9)]


async def test_interrupted__shown_and_closed(pool: Pool, lookups: Lookups, database_url: str) -> None:
    """A run is under way as long as its session lives; then it is interrupted, and the next walk closes it."""
    session = await connect(database_url, application="tests walker")
    await enter(Worker(session), replace(SETTINGS, mode=RunMode.RUN))
    assert await outcomes(pool) == [None]
    registry = DirectRegistry(RegistryState())
    assert (await ReconcileRun(pool, lookups, registry, SETTINGS).run()).outcome is RunOutcome.COMPLETE
    assert await outcomes(pool) == ["complete", None]
    walker = session.get_server_pid()
    session.terminate()
    while await pool.fetchval("SELECT true FROM pg_stat_activity WHERE pid = $1", walker):
        pass
    assert await outcomes(pool) == ["complete", "interrupted"]
    assert await pool.fetchval("SELECT count(*) FROM reconcile_run WHERE finished_at IS NULL") == 1
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    assert await outcomes(pool) == ["complete", "complete", "interrupted"]
    assert await pool.fetchval("SELECT count(*) FROM reconcile_run WHERE finished_at IS NULL") == 0


async def test_interrupted__a_walk_lets_go(pool: Pool, lookups: Lookups) -> None:
    """A walk that ended holds no lock on its pooled connection."""
    await ReconcileRun(pool, lookups, DirectRegistry(RegistryState()), SETTINGS).run()
    assert await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0

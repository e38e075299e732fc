"""A walk that nobody waits for: evenly over the interval, at once when it is urgent, and left when told to stop."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from indexer.oci.reference import RepositoryName
from indexer.store import reconcile_runs
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool
from reconciler.drift import pacing
from reconciler.drift.joining import join_if_due
from reconciler.drift.loop import INTERVAL, ReconcileLoop
from reconciler.drift.pacing import SHARE, Pacing, may_be_taken
from reconciler.drift.report import RunReport, RunSettings
from reconciler.drift.run import ReconcileRun
from tests.fixtures.ingesting import recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import docker_image

NAMES = [RepositoryName(f"team/app{number:02}") for number in range(24)]
HOUR = timedelta(hours=1)
SETTINGS = RunSettings(mode=RunMode.RUN, concurrency=4, brake_share=0.1, reread_after=timedelta(0))
IMAGE = docker_image("one")


def filled() -> RegistryState:
    state = RegistryState()
    for name in NAMES:
        state.push(name, IMAGE.manifest.data, media_type=IMAGE.media_type, tag="v1")
    return state


def compared(registry: DirectRegistry) -> int:
    return len([call for call in registry.asked if call[0] == "list_tags"])


async def until_compared(registry: DirectRegistry, count: int) -> None:
    """Wait until so many repositories were compared, and then a little for one too many."""
    while compared(registry) < count:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    assert count == compared(registry)


@pytest.mark.parametrize(
    ("passed", "expected"),
    [(timedelta(0), 1), (HOUR / 4, 7), (HOUR / 2, 13), (HOUR * 0.999, 24), (HOUR * 3, 24), (-HOUR, 1)],
)
def test_may_be_taken__evenly(passed: timedelta, expected: int) -> None:
    """The first at once, the last before the end, none before its turn; a clock set back stops nothing for good."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    assert expected == may_be_taken(total=24, listed_at=now - passed, now=now, over=HOUR)


async def by_interval(_: Connection) -> str:
    return INTERVAL


async def take_part(
    pool: Pool, lookups: Lookups, registry: DirectRegistry, *, urgent: bool, stop: asyncio.Event
) -> RunReport:
    async def is_urgent() -> bool:
        return urgent

    async with reconcile_runs.working(pool) as worker:
        entered = await join_if_due(worker, SETTINGS, young=HOUR, why_now=by_interval)
        assert entered is not None
        pace = Pacing(HOUR, is_urgent=is_urgent)
        return await ReconcileRun(pool, lookups, registry, SETTINGS, pacing=pace, stop=stop).take_part(
            worker, entered
        )


async def test_spread__in_turn_left_when_told_to_stop_and_gone_on_with(pool: Pool, lookups: Lookups) -> None:
    """Of 24 repositories one is compared at once, half by the middle; whoever is urgent takes all that is left."""
    state = filled()
    registry, stop = DirectRegistry(state), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(take_part(pool, lookups, registry, urgent=False, stop=stop))
        await until_compared(registry, 1)
        stop.set()
    assert RunOutcome.INTERRUPTED is first.result().outcome
    assert 23 == await pool.fetchval("SELECT count(*) FROM reconcile_repository WHERE done_at IS NULL")

    await pool.execute("UPDATE reconcile_run SET listed_at = now() - $1::interval", HOUR * SHARE / 2)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        second = group.create_task(take_part(pool, lookups, registry, urgent=False, stop=stop))
        await until_compared(registry, 13)
        stop.set()
    assert RunOutcome.INTERRUPTED is second.result().outcome

    third = await take_part(pool, lookups, registry, urgent=True, stop=asyncio.Event())
    assert RunOutcome.COMPLETE is third.outcome
    assert len(NAMES) == compared(registry) == third.counts["repositories"]
    assert {(name, "v1"): IMAGE.digest for name in NAMES} == await recorded_tags(pool)


async def test_walker__an_urgent_cause_ends_the_spread_walk_and_begins_another(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry process that shows while a walk is spread: the walk ends at once, and one of everything begins."""
    monkeypatch.setattr(pacing, "CHECK_EVERY_SECONDS", 0.0)
    registry = DirectRegistry(filled())
    walker = ReconcileLoop(pool, lookups, registry, replace(SETTINGS, concurrency=8), interval=HOUR)
    await walker.run_once()
    assert len(NAMES) == compared(registry)

    await pool.execute("UPDATE reconcile_run SET started_at = started_at - interval '2 hours'")
    walker._reconciled_at = datetime.now(UTC) - 2 * HOUR
    async with asyncio.TaskGroup() as group:
        group.create_task(walker.run_once())
        await until_compared(registry, len(NAMES) + 1)
        await pool.execute(
            "INSERT INTO registry_instance"
            " (key, instance, address, first_seen_at, last_seen_at, first_event_at, last_event_at, events)"
            " VALUES ('\\x01', 'new', 'registry:5000', now(), now(), now(), now(), 1)"
        )
    assert 2 * len(NAMES) == compared(registry)
    await walker.run_once()
    assert 3 * len(NAMES) == compared(registry)
    causes = [row["cause"] for row in await pool.fetch("SELECT cause FROM reconcile_run ORDER BY id")]
    assert ["start", INTERVAL, "registry restarted"] == causes

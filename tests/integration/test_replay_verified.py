"""Recorded deliveries, then looks at a registry that serves the recorded truth: the inventory becomes the truth."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from indexer.background.loop import Loop
from indexer.inventory.changes import WorkKind
from indexer.store import work_items
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.drift.plan import make_plan
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.resolve.loop import Resolver
from reconciler.verify import decide
from reconciler.verify.loop import Verifier
from tests.fixtures import captures
from tests.fixtures.captures import Capture
from tests.fixtures.ingesting import check_counters, check_history, ingest, recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState

CONCURRENCY = 16


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks a moment apart: the recordings are long over, so nothing is gained by waiting."""
    moment = timedelta(milliseconds=5)
    monkeypatch.setattr(work_items, "FIRST_OBSERVATION_DELAY", moment)
    monkeypatch.setattr(work_items, "OBSERVATION_SPACING", moment)
    monkeypatch.setattr(decide, "SPACING", moment)


@pytest.mark.parametrize("name", captures.everyday_first())
async def test_settled__verification_and_one_walk_make_it_the_truth(
    pool: Pool, lookups: Lookups, name: str
) -> None:
    """After the backlog is drained and one walk done, tags, broken tags and readable manifests are the truth."""
    capture = captures.load(name)
    registry = DirectRegistry(RegistryState.from_truth(capture.truth))
    await ingest(pool, lookups, capture, batch=200)
    await drain(pool, Verifier(pool, lookups, registry, concurrency=CONCURRENCY), WorkKind.VERIFY)
    assert await told_lies(pool, capture) == set()
    await Resolver(pool, lookups, registry, concurrency=CONCURRENCY).run_once()
    report = await walk(pool, lookups, registry)
    assert report == RunOutcome.COMPLETE
    await drain(pool, Verifier(pool, lookups, registry, concurrency=CONCURRENCY), WorkKind.VERIFY)
    assert await recorded_tags(pool) == capture.tags
    assert await broken_tags(pool) == capture.broken
    assert await held_manifests(pool) <= capture.manifests
    await check_counters(pool)
    await check_history(pool)
    plan = await make_plan(pool, registry, concurrency=CONCURRENCY, scope=None, on_progress=lambda _: None)
    assert plan.differences == []


@pytest.mark.parametrize("name", captures.everyday_first())
async def test_settled__a_walk_alone_finds_every_tag(pool: Pool, lookups: Lookups, name: str) -> None:
    """Without a single notification, a walk finds every readable tag and lists the broken ones as broken."""
    capture = captures.load(name)
    registry = DirectRegistry(RegistryState.from_truth(capture.truth))
    assert await walk(pool, lookups, registry) == RunOutcome.COMPLETE
    readable = {key: digest for key, digest in capture.tags.items() if key not in capture.broken}
    assert await recorded_tags(pool) == readable
    assert await broken_tags(pool) == capture.broken
    await check_counters(pool)


async def walk(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> RunOutcome:
    settings = RunSettings(
        mode=RunMode.ONCE, concurrency=CONCURRENCY, brake_share=0.1, reread_after=timedelta(0)
    )
    return (await ReconcileRun(pool, lookups, registry, settings).run()).outcome


async def drain(pool: Pool, loop: Loop, kind: WorkKind) -> None:
    """Run a loop until nothing of its kind is due."""
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM work_item WHERE kind = $1", kind):
            if not (await loop.run_once()).items:
                await asyncio.sleep(0.005)


async def told_lies(pool: Pool, capture: Capture) -> set[tuple[str, str]]:
    """Tags that some event spoke of and that are still on record with another digest than the true one."""
    spoken_of = {
        (event["target"]["repository"], event["target"]["tag"])
        for delivery in capture.deliveries
        if delivery["body"]
        for event in delivery["body"].get("events", [])
        if event["target"].get("tag")
    }
    recorded = await recorded_tags(pool)
    return {key for key in spoken_of if recorded.get(key) != capture.tags.get(key)}


async def broken_tags(pool: Pool) -> set[tuple[str, str]]:
    rows = await pool.fetch(
        "SELECT r.name AS repository, t.name FROM tag AS t JOIN repository AS r ON r.id = t.repository_id"
        " WHERE t.broken_reason IS NOT NULL"
    )
    return {(row["repository"], row["name"]) for row in rows}


async def held_manifests(pool: Pool) -> set[tuple[str, str]]:
    rows = await pool.fetch(
        "SELECT r.name AS repository, encode(substr(m.digest, 2), 'hex') AS hash FROM repository_manifest AS h"
        " JOIN repository AS r ON r.id = h.repository_id JOIN manifest AS m ON m.id = h.manifest_id"
        " WHERE h.deleted_at IS NULL"
    )
    return {(row["repository"], f"sha256:{row['hash']}") for row in rows}

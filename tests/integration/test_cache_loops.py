"""What the loops do with a pull-through cache: nothing is asked of it but what was pulled, and nothing is deleted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.background.loop import Loop
from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName
from indexer.store import work_items
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from indexer.store.traits import Trait, find_traits
from reconciler.drift.cache import CACHE_NOTE
from reconciler.drift.plan import make_plan
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.resolve import loop as resolving
from reconciler.resolve.loop import Resolver
from reconciler.verify.loop import Verifier
from tests.fixtures.captures import Capture
from tests.fixtures.ingesting import ingest, recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import RequestInfo
from tests.simulators.state import RegistryState
from tools.sample_images import Image, index, oci_image

APP = RepositoryName("lib/x")
AMD, ARM = oci_image("amd"), oci_image("arm", platform="linux/arm64")
BOTH = index([AMD, ARM])
SETTINGS = RunSettings(
    mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0), hidden_tag_requests=100
)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timedelta(milliseconds=1)
    monkeypatch.setattr(work_items, "FIRST_OBSERVATION_DELAY", moment)
    monkeypatch.setattr(resolving, "RETRY", moment)
    monkeypatch.setattr(resolving, "RACE_WINDOW", moment)


def holding(*images: tuple[Image, str]) -> DirectRegistry:
    """A cache that serves these, whatever its upstream has."""
    state = RegistryState()
    for image, tag in images:
        for part in (*image.children, image):
            for blob in part.blobs:
                state.push_blob(APP, blob.data)
            state.push(APP, part.manifest.data, media_type=part.media_type)
        state.push(APP, image.manifest.data, media_type=image.media_type, tag=tag)
    registry = DirectRegistry(state)
    registry.is_cache = True
    return registry


async def pulled(pool: Pool, lookups: Lookups, registry: DirectRegistry, image: Image, tag: str) -> None:
    """Somebody pulled a tag through the cache, and it says so."""
    events: list[dict[str, Any]] = []
    registry.state.listeners.append(events.append)
    size = image.manifest.size
    registry.state.tell_content(
        "pull",
        APP,
        digest=registry.state.repositories[APP].tags[tag],
        size=size,
        media_type=image.media_type,
        tag=tag,
        request=RequestInfo(method="GET", user_agent="docker/28"),
    )
    registry.state.listeners.clear()
    delivery = {
        "received_at": datetime.now(UTC).timestamp(),
        "content_type": registry.state.version.events_media_type,
        "body": {"events": events},
    }
    capture = Capture(name="pull", deliveries=[json.loads(json.dumps(delivery))], truth={})
    await ingest(pool, lookups, capture, batch=10)


async def work_off(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    """Let verification and reading do what is due, until nothing is."""
    loops: list[Loop] = [
        Verifier(pool, lookups, registry, concurrency=4),
        Resolver(pool, lookups, registry, concurrency=4),
    ]
    waiting = "SELECT count(*) FROM work_item WHERE kind = ANY($1)"
    async with asyncio.timeout(20):
        while await pool.fetchval(waiting, [WorkKind.VERIFY, WorkKind.RESOLVE]):
            for loop in loops:
                await loop.run_once()


async def test_loops__ask_for_what_was_pulled_by_its_digest(pool: Pool, lookups: Lookups) -> None:
    """A tag is never asked for, nor the children and configs of what was pulled: they may not have been."""
    registry = holding((AMD, "one"), (BOTH, "both"), (ARM, "never"))
    await pulled(pool, lookups, registry, AMD, "one")
    await pulled(pool, lookups, registry, BOTH, "both")

    await work_off(pool, lookups, registry)
    report = await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    plan = await make_plan(pool, registry, concurrency=4, scope=[APP], on_progress=lambda _: None)

    asked = Counter(call[0] for call in registry.asked)
    assert set(asked) <= {"get_manifest", "ping"}
    assert {call[2] for call in registry.asked if call[0] == "get_manifest"} == {AMD.digest, BOTH.digest}
    assert await recorded_tags(pool) == {(APP, "one"): AMD.digest, (APP, "both"): BOTH.digest}
    assert (report.outcome, report.of_cache, plan.of_cache) == (RunOutcome.COMPLETE, True, True)
    assert await pool.fetchval("SELECT note FROM reconcile_run") == CACHE_NOTE
    async with connection(pool) as held:
        assert (await find_traits(held))[Trait.IS_CACHE].holds


async def test_walk__of_a_cache_shows_no_absence(pool: Pool, lookups: Lookups) -> None:
    """What is pulled right after a walk is on record: the walk compared nothing, and no verification will follow."""
    registry = holding((AMD, "one"))
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()

    await pulled(pool, lookups, registry, AMD, "one")
    await work_off(pool, lookups, registry)

    assert await recorded_tags(pool) == {(APP, "one"): AMD.digest}


async def test_loops__404_of_a_cache_is_no_absence(pool: Pool, lookups: Lookups) -> None:
    """What the cache has forgotten and cannot fetch again is 404: tag and manifest stay on record."""
    registry = holding((AMD, "one"))
    await pulled(pool, lookups, registry, AMD, "one")
    registry.state.remove_silently(APP)

    await work_off(pool, lookups, registry)
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()

    assert await recorded_tags(pool) == {(APP, "one"): AMD.digest}
    assert await pool.fetchval("SELECT count(*) FROM repository_manifest WHERE deleted_at IS NULL") == 1


async def test_walk__of_what_became_a_cache(pool: Pool, lookups: Lookups) -> None:
    """What was on record of a registry that is a cache now stays; and it is compared again once it is none."""
    registry = holding((AMD, "one"), (ARM, "two"))
    registry.is_cache = False
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    before = await recorded_tags(pool)
    assert len(before) == 2
    registry.state.remove_silently(APP, tag="two")
    registry.is_cache = True

    await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    assert await recorded_tags(pool) == before
    registry.is_cache = False
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    assert {tag for _, tag in await recorded_tags(pool)} == {"one"}

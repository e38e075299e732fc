"""A repository is compared part by part: bounded in what is held at a time, and as if it were compared at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from indexer.oci.reference import RepositoryName
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.drift import compare
from reconciler.drift.compare import Comparer, TagRange
from reconciler.drift.plan import make_plan
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from tests.fixtures.ingesting import check_counters, check_history, recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import Image, docker_image

APP = RepositoryName("team/app")
PAGE, TOGETHER = 10, 30
SETTINGS = RunSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0))
FIRST, SECOND = docker_image("first"), docker_image("second")
KEPT = [f"kept-{number:03}" for number in range(25)]
MOVED = [f"moved-{number:03}" for number in range(25)]
GONE = [f"gone-{number:03}" for number in range(75)]
NEW = [f"new-{number:03}" for number in range(25)]
OMITTED = "omitted"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of ten tags, and one listing for thirty that answered 404."""
    monkeypatch.setattr(compare, "PAGE", PAGE)
    monkeypatch.setattr(compare, "CONFIRMED_TOGETHER", TOGETHER)


def push(state: RegistryState, image: Image, tags: list[str]) -> None:
    for tag in tags:
        state.push(APP, image.manifest.data, media_type=image.media_type, tag=tag)


async def changed_behind_our_back(pool: Pool, lookups: Lookups) -> DirectRegistry:
    """Return a registry that was reconciled once, and changed in every way since."""
    state = RegistryState()
    at_first = [*KEPT, *MOVED, *GONE, OMITTED]
    push(state, FIRST, at_first)
    report = await ReconcileRun(pool, lookups, DirectRegistry(state), SETTINGS).run()
    assert (RunOutcome.COMPLETE, len(at_first), 0) == (
        report.outcome,
        report.counts["found"],
        report.counts["changed"],
    )
    push(state, SECOND, [*MOVED, *NEW])
    for tag in GONE:
        state.remove_silently(APP, tag=tag)
    state.omitted_tags.add((APP, OMITTED))
    return DirectRegistry(state)


async def test_parts__bounded(pool: Pool, lookups: Lookups) -> None:
    """No part has more than a page, or what waited for one listing; every tag is looked at in exactly one."""
    registry = await changed_behind_our_back(pool, lookups)
    comparer = Comparer(
        pool, registry, limit=asyncio.Semaphore(4), reread_after=timedelta(0), keeps_record=False
    )
    parts: list[TagRange] = [part async for part in (await comparer.begin(APP)).ranges()]
    assert max(len(part.observations) for part in parts) < TOGETHER + PAGE
    seen = Counter(look.tag for part in parts for look, _ in part.observations)
    assert Counter([*KEPT, *MOVED, *GONE, *NEW, OMITTED]) == seen
    asked = Counter(call[0] for call in registry.asked)
    assert 1 + len(GONE) // TOGETHER + 1 == asked["list_tags"]
    assert len(seen) == asked["head_tag"]
    assert 0 == asked["head_manifest"]


async def test_parts__walk_and_plan(pool: Pool, lookups: Lookups) -> None:
    """Over many parts a plan shows every difference, and a walk repairs them without asking twice for a manifest."""
    registry = await changed_behind_our_back(pool, lookups)
    before = await recorded_tags(pool)
    made = await make_plan(pool, registry, concurrency=4, scope=None, on_progress=lambda _: None)
    assert Counter(tag_extra=len(GONE), tag_stale=len(MOVED), tag_missing=len(NEW)) == Counter(
        each.kind.value for each in made.differences
    )
    assert before == await recorded_tags(pool)
    registry.asked.clear()
    report = await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    assert RunOutcome.COMPLETE is report.outcome
    assert (0, len(GONE) + len(MOVED) + len(NEW)) == (report.counts["found"], report.counts["changed"])
    truth = {(APP, tag): digest for tag, digest in registry.state.repositories[APP].tags.items()}
    assert truth == await recorded_tags(pool)
    assert "head_manifest" not in {call[0] for call in registry.asked}
    await check_history(pool)
    await check_counters(pool)

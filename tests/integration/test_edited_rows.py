"""Rows that somebody edited by hand, or that a restored database lacks: a walk brings counters back in step."""

from __future__ import annotations

from datetime import timedelta

import pytest

from indexer.oci.reference import RepositoryName
from indexer.store import repositories
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.sizes.loop import Measurer
from tests.fixtures.invariants import miscounted
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import docker_image

APP, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
SETTINGS = RunSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0))


async def off(pool: Pool) -> list[str]:
    async with connection(pool) as held:
        return await miscounted(held)


EDITS = {
    "tags taken": "DELETE FROM tag WHERE name IN ('v1', 'v2')",
    "manifests taken": "DELETE FROM repository_manifest",
    "manifests called deleted": "UPDATE repository_manifest SET deleted_at = now()",
    "a tag added": "INSERT INTO tag (repository_id, name, manifest_id, published_at, first_seen_at, facet_id, "
    "published_source, evidence) SELECT repository_id, 'v9', manifest_id, now(), now(), facet_id, 'event', 'event' "
    "FROM tag WHERE name = 'v1'",
    "counters changed": "UPDATE repository SET tag_count = 7, manifest_count = 7",
}


@pytest.fixture
async def registry(pool: Pool, lookups: Lookups) -> DirectRegistry:
    """A registry that was walked once: two repositories, three tags in each on two manifests."""
    state = RegistryState()
    for repository in (APP, OTHER):
        for tag, content in (("v1", "one"), ("v2", "two"), ("latest", "two")):
            image = docker_image(content)
            state.push(repository, image.manifest.data, media_type=image.media_type, tag=tag)
    registry = DirectRegistry(state)
    assert (await ReconcileRun(pool, lookups, registry, SETTINGS).run()).outcome is RunOutcome.COMPLETE
    assert await off(pool) == []
    return registry


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
async def test_walk__counts_anew(pool: Pool, lookups: Lookups, registry: DirectRegistry, edit: str) -> None:
    """After a walk the counters of tags and manifests are those of the rows, whatever was done to either."""
    await pool.execute(edit)
    assert await off(pool) != []

    # What is said to be deleted is asked for by the first walk, and on record with the second.
    for _ in range(2):
        assert (await ReconcileRun(pool, lookups, registry, SETTINGS).run()).outcome is RunOutcome.COMPLETE

    assert await off(pool) == []


async def test_walk__measures_what_was_miscounted(
    pool: Pool, lookups: Lookups, registry: DirectRegistry
) -> None:
    """Where the counters were off the size may be, too: it is measured anew, and only there."""
    await pool.execute("DELETE FROM work_item")
    await pool.execute("UPDATE repository SET manifest_count = 9, size_bytes = 1 WHERE name = $1", APP)
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    due = await pool.fetch(
        "SELECT r.name FROM work_item JOIN repository AS r ON r.id = repository_id WHERE kind = 'measure'"
    )
    assert [row["name"] for row in due] == [APP]
    await pool.execute("UPDATE work_item SET due_at = now()")
    await Measurer(pool).run_once()
    held = "SELECT sum(m.size_bytes) FROM repository_manifest JOIN manifest AS m ON m.id = manifest_id"
    size = await pool.fetchval(f"{held} JOIN repository AS r ON r.id = repository_id WHERE r.name = $1", APP)
    assert await pool.fetchval("SELECT size_bytes FROM repository WHERE name = $1", APP) == size


async def test_recount__of_what_became_large(
    pool: Pool, lookups: Lookups, registry: DirectRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that has more tags than was counted is large from then on, with its tags."""
    monkeypatch.setattr(repositories, "SORTED_WHOLE", 2)
    await pool.execute("UPDATE repository SET tag_count = 1 WHERE name = $1", APP)
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    large = (
        "SELECT bool_and(t.large AND r.large) FROM tag AS t JOIN repository AS r ON r.id = t.repository_id"
    )
    assert await pool.fetchval(f"{large} WHERE r.name = $1", APP)

"""A batch of manifests is read, then stored together: as if each had been stored alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from indexer.inventory.changes import DueKind
from indexer.oci.reference import RepositoryName
from indexer.store import contents
from indexer.store.contents import ReadManifest
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.drift.report import WalkSettings
from reconciler.drift.walk import Walk
from reconciler.resolve import loop as room
from reconciler.resolve.loop import Resolver
from tests.fixtures.ingesting import check_counters
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import Image, index, oci_image

APP, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
AMD, ARM = oci_image("amd"), oci_image("arm", platform="linux/arm64")
INNER = index([AMD, ARM])
MIDDLE = index([INNER])
OUTER = index([MIDDLE])
PLATFORMS = ["linux/amd64", "linux/arm64"]


def hold(state: RegistryState, repository: str, image: Image, tag: str) -> None:
    for blob in image.blobs:
        state.push_blob(repository, blob.data)
    state.push(repository, image.manifest.data, media_type=image.media_type, tag=tag)


async def walked(pool: Pool, lookups: Lookups, state: RegistryState) -> Resolver:
    """Walk it, so that everything tagged is due to be read."""
    settings = WalkSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0))
    report = await Walk(pool, lookups, DirectRegistry(state), settings).run()
    assert RunOutcome.COMPLETE is report.outcome
    return Resolver(pool, lookups, DirectRegistry(state), concurrency=4)


async def still_due(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT key FROM due WHERE kind = $1 ORDER BY key", DueKind.RESOLVE)
    return [row["key"] for row in rows]


async def shown(pool: Pool) -> dict[tuple[str, str], tuple[int, list[str]]]:
    """Size and platforms of every tag."""
    rows = await pool.fetch(
        "SELECT r.name AS repository, t.name, t.size_bytes, f.platforms FROM tag AS t"
        " JOIN repository AS r ON r.id = t.repository_id JOIN facet AS f ON f.id = t.facet_id"
    )
    return {(row["repository"], row["name"]): (row["size_bytes"], list(row["platforms"])) for row in rows}


@pytest.mark.parametrize("batch", [1, 64])
async def test_batch__indexes_in_indexes(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Sizes and platforms are carried up through every level, whatever of it was read together."""
    monkeypatch.setattr(room, "BATCH", batch)
    state = RegistryState()
    for image, tag in ((AMD, "amd"), (ARM, "arm"), (INNER, "inner"), (MIDDLE, "middle"), (OUTER, "outer")):
        hold(state, APP, image, tag)
    resolver = await walked(pool, lookups, state)
    while await still_due(pool):
        await resolver.run_once()
    both = AMD.size_bytes + ARM.size_bytes
    assert await shown(pool) == {
        (APP, "amd"): (AMD.size_bytes, ["linux/amd64"]),
        (APP, "arm"): (ARM.size_bytes, ["linux/arm64"]),
        (APP, "inner"): (both, PLATFORMS),
        (APP, "middle"): (both, PLATFORMS),
        (APP, "outer"): (both, PLATFORMS),
    }


async def test_batch__one_image_in_two_repositories(pool: Pool, lookups: Lookups) -> None:
    """It is stored once, from the repository that has its config too, and both hold it."""
    state = RegistryState()
    hold(state, APP, AMD, "v1")
    state.push(OTHER, AMD.manifest.data, media_type=AMD.media_type, tag="v1")  # its config is not there
    resolver = await walked(pool, lookups, state)
    await resolver.run_once()
    assert await still_due(pool) == []
    assert await shown(pool) == {
        (APP, "v1"): (AMD.size_bytes, ["linux/amd64"]),
        (OTHER, "v1"): (AMD.size_bytes, ["linux/amd64"]),
    }
    assert 2 == await pool.fetchval("SELECT count(*) FROM repository_manifest WHERE deleted_at IS NULL")
    await check_counters(pool)


async def test_batch__one_that_cannot_be_stored(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays due as it was, and holds up no other of its batch."""
    state = RegistryState()
    for image, tag in ((AMD, "amd"), (ARM, "arm"), (oci_image("third"), "third")):
        hold(state, APP, image, tag)
    resolver = await walked(pool, lookups, state)
    store = contents.store_manifests

    async def refuse(pool: Pool, lookups: Lookups, reads: Iterable[ReadManifest], **named: Any) -> None:
        reads = list(reads)
        if ARM.digest in {read.digest for read in reads}:
            raise ValueError("refused")
        await store(pool, lookups, reads, **named)

    with monkeypatch.context() as patch:
        patch.setattr(contents, "store_manifests", refuse)
        with pytest.raises(ValueError, match="refused"):
            await resolver.run_once()
    assert await still_due(pool) == [ARM.digest]
    assert 0 == await pool.fetchval("SELECT attempts FROM due WHERE kind = $1", DueKind.RESOLVE)
    await resolver.run_once()
    assert await still_due(pool) == []
    assert (ARM.size_bytes, ["linux/arm64"]) == (await shown(pool))[APP, "arm"]

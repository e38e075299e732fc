"""A batch of manifests is read, then stored together: as if each had been stored alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast

import pytest

from indexer.background.housekeeping import Housekeeper, Retention
from indexer.common.errors import RegistryUnavailable, StoreRefused, StoreUnavailable
from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName
from indexer.settings import Settings
from indexer.store import manifest_contents, tags, work_items
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.manifest_contents import ReadManifest
from indexer.store.operators import Operator
from indexer.store.pool import Pool
from reconciler.app import once
from reconciler.components import Components
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.pulls.announced import OwnRequests
from reconciler.registry.client import RegistryClient
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


async def walked(pool: Pool, lookups: Lookups, registry: DirectRegistry | RegistryState) -> Resolver:
    """Walk it, so that everything tagged is due to be read."""
    if isinstance(registry, RegistryState):
        registry = DirectRegistry(registry)
    settings = RunSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0))
    report = await ReconcileRun(pool, lookups, registry, settings).run()
    assert RunOutcome.COMPLETE is report.outcome
    return Resolver(pool, lookups, registry, concurrency=4)


async def still_due(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT key FROM work_item WHERE kind = $1 ORDER BY key", WorkKind.RESOLVE)
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
    await check_counters(pool, read=True)


async def test_batch__one_that_cannot_be_stored(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as its own failure, is tried again later, and holds up no other of its batch."""
    state = RegistryState()
    for image, tag in ((AMD, "amd"), (ARM, "arm"), (oci_image("third"), "third")):
        hold(state, APP, image, tag)
    resolver = await walked(pool, lookups, state)
    store = manifest_contents.store_manifests

    async def refuse(pool: Pool, lookups: Lookups, reads: Iterable[ReadManifest], **named: Any) -> None:
        reads = list(reads)
        if ARM.digest in {read.digest for read in reads}:
            raise ValueError("refused")
        await store(pool, lookups, reads, **named)

    with monkeypatch.context() as patch:
        patch.setattr(manifest_contents, "store_manifests", refuse)
        waits = []
        for attempts in range(1, 4):
            await resolver.run_once()
            assert await still_due(pool) == [ARM.digest]
            (row,) = await pool.fetch(
                "SELECT attempts, due_at, now() AS now FROM work_item WHERE kind = 'resolve'"
            )
            assert row["attempts"] == attempts
            waits.append(row["due_at"] - row["now"])
            assert 0 == (await resolver.run_once()).items
            await pool.execute("UPDATE work_item SET due_at = now() WHERE kind = 'resolve'")
        assert timedelta(0) < waits[0] < waits[1] < waits[2]
        async with pool.acquire() as connection:
            assert 1 == (await work_items.backlog(connection))[WorkKind.RESOLVE].failing
    await resolver.run_once()
    assert await still_due(pool) == []
    assert (ARM.size_bytes, ["linux/arm64"]) == (await shown(pool))[APP, "arm"]
    await check_counters(pool, read=True)


@pytest.mark.parametrize("away", ["get_manifest", "kind", "database"])
async def test_batch__nobody_there_counts_against_no_manifest(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """The round fails, for the harness to wait, and what was taken is given back as it was, to be read at once."""
    state = RegistryState()
    for image, tag in ((AMD, "amd"), (ARM, "arm")):
        hold(state, APP, image, tag)
    registry = DirectRegistry(state)
    resolver = await walked(pool, lookups, registry)
    await pool.execute("UPDATE work_item SET attempts = 3, observations = 2")
    waiting = (
        "SELECT key, attempts, observations, confirmations, lease_until FROM work_item"
        " WHERE kind = 'resolve' ORDER BY key"
    )
    before = await pool.fetch(waiting)
    assert 2 == len(before)
    error = StoreUnavailable("gone") if away == "database" else RegistryUnavailable("connection refused")

    async def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        if away == "database":
            patch.setattr(state.repositories[APP], "manifests", {})
            patch.setattr(tags, "find_pointing", fail)
        else:
            patch.setattr(registry, away, fail)
            patch.setattr(registry, "ping", fail)
        for _ in range(2):
            with pytest.raises(type(error)):
                await resolver.run_once()
            assert before == await pool.fetch(waiting)
    await pool.execute("UPDATE work_item SET due_at = now()")
    await resolver.run_once()
    assert await still_due(pool) == []


async def test_batch__one_that_fails_for_ever_is_given_up(pool: Pool, lookups: Lookups) -> None:
    """However often a manifest failed, its wait is bounded; after INDEXER_WORK_RETENTION it is given up."""
    state = RegistryState()
    hold(state, APP, AMD, "amd")
    resolver = await walked(pool, lookups, state)
    state.repositories[APP].manifests.clear()
    await pool.execute("UPDATE work_item SET attempts = 2000, waiting_since = now() - interval '31 days'")
    await resolver.run_once()
    (row,) = await pool.fetch("SELECT attempts, due_at - now() AS wait FROM work_item WHERE kind = 'resolve'")
    assert 2001 == row["attempts"]
    assert row["wait"] <= room.LONGEST_RETRY
    month = timedelta(days=30)
    keep = Retention(inbox=month, events=month, tombstones=month, due=month, pull_detail=month)
    await Housekeeper(pool, keep).run_once()
    assert await still_due(pool) == []


@pytest.mark.parametrize("apart", [False, True])
async def test_batch__the_database_fails(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """If the database fails while manifests are stored, they are given back at once: their lease need not run out.

    ``apart``: it fails after the batch was refused, when they are stored one by one.
    """
    state = RegistryState()
    for image, tag in ((AMD, "amd"), (ARM, "arm")):
        hold(state, APP, image, tag)
    resolver = await walked(pool, lookups, state)
    store = manifest_contents.store_manifests
    calls: list[int] = []

    async def fail(pool: Pool, lookups: Lookups, reads: Iterable[ReadManifest], **named: Any) -> None:
        reads = list(reads)
        calls.append(len(reads))
        if apart and len(reads) > 1:
            raise StoreRefused("one of them is odd")
        raise StoreUnavailable("the connection was lost")

    monkeypatch.setattr(manifest_contents, "store_manifests", fail)
    with pytest.raises(StoreUnavailable):
        await resolver.run_once()
    assert ([2, 1] if apart else [2]) == calls
    held = (
        "SELECT count(*) FROM work_item WHERE kind = 'resolve' AND (attempts > 0 OR lease_until IS NOT NULL)"
    )
    assert 0 == await pool.fetchval(held)
    monkeypatch.setattr(manifest_contents, "store_manifests", store)
    assert 2 == (await resolver.run_once()).items
    assert [] == await still_due(pool)


async def test_once__says_what_could_not_be_stored(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One manifest that the store refuses makes `reconciler once` say so; it does not end it."""
    state = RegistryState()
    for image, tag in ((AMD, "amd"), (ARM, "arm")):
        hold(state, APP, image, tag)
    store = manifest_contents.store_manifests

    async def refuse(pool: Pool, lookups: Lookups, reads: Iterable[ReadManifest], **named: Any) -> None:
        reads = list(reads)
        if ARM.digest in {read.digest for read in reads}:
            raise StoreRefused("value out of int64 range")
        await store(pool, lookups, reads, **named)

    monkeypatch.setattr(manifest_contents, "store_manifests", refuse)
    for name in ("RETRY", "LONGEST_RETRY"):
        monkeypatch.setattr(room, name, timedelta(milliseconds=1))
    monkeypatch.setattr(work_items, "MEASURE_DELAY", timedelta(0))
    monkeypatch.setattr(work_items, "OBSERVATION_SPACING", timedelta(milliseconds=1))
    registry = cast("RegistryClient", DirectRegistry(state))
    settings = Settings.read({"RECONCILER_REGISTRY_URL": "http://127.0.0.1:5000"}, config=None)
    components = Components(
        settings=settings,
        database_url="",
        pool=pool,
        lookups=lookups,
        registry=registry,
        own_requests=OwnRequests(),
        reconciling=registry,
    )
    report = await once(
        components,
        scope=None,
        release_brake=False,
        thorough=True,
        operator=Operator(name="tests", host="here", command="reconciler once"),
        resume=False,
        on_progress=lambda _: None,
    )
    assert RunOutcome.COMPLETE is report.outcome
    assert 1 == report.undecided["not_read"]["count"] == report.counts["undecided"]
    assert report.reasons[0].startswith(f"{APP}@{ARM.digest}: could not be read and stored, tried 3 times")
    assert [ARM.digest] == await still_due(pool)
    assert (AMD.size_bytes, ["linux/amd64"]) == (await shown(pool))[APP, "amd"]

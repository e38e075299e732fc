"""What a reconcile concludes: when it deletes, what it dates a difference by, and how it explains one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from indexer.oci.digest import parse_digest
from indexer.oci.reference import RepositoryName
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.drift.report import RunReport, RunSettings
from reconciler.drift.run import ReconcileRun
from tests.fixtures.ingesting import recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import docker_image

APP, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
FIRST, SECOND = docker_image("first"), docker_image("second")
ONCE = RunSettings(mode=RunMode.ONCE, concurrency=8, brake_share=0.5, reread_after=timedelta(0))


def push(state: RegistryState, repository: RepositoryName, tag: str | None, image: object = FIRST) -> None:
    state.push(repository, image.manifest.data, media_type=image.media_type, tag=tag)  # type: ignore[attr-defined]


async def reconcile(
    pool: Pool, lookups: Lookups, state: RegistryState, settings: RunSettings = ONCE
) -> RunReport:
    return await ReconcileRun(pool, lookups, DirectRegistry(state), settings).run()


async def test_brake__is_pulled_by_a_repository_that_vanished(pool: Pool, lookups: Lookups) -> None:
    """Three of five tags, fewer than are believed elsewhere: storage that is not mounted looks like this."""
    state = RegistryState()
    for repository, tags in ((APP, "abc"), (OTHER, "de")):
        for tag in tags:
            push(state, repository, tag)
    await reconcile(pool, lookups, state)
    before = await recorded_tags(pool)
    state.remove_silently(APP)

    braked = await reconcile(pool, lookups, state)

    assert (RunOutcome.BRAKED, before) == (braked.outcome, await recorded_tags(pool))
    assert braked.brake is not None
    assert "3 of 5 tags" in braked.brake
    released = await reconcile(pool, lookups, state, replace(ONCE, release_brake=True))
    assert RunOutcome.COMPLETE is released.outcome
    assert {(OTHER, "d"), (OTHER, "e")} == set(await recorded_tags(pool))


async def test_brake__is_pulled_by_manifests_alone(pool: Pool, lookups: Lookups) -> None:
    """A repository without tags may vanish as well: what it held is not deleted from the inventory."""
    state = RegistryState()
    push(state, OTHER, "d")
    for number in range(3):
        push(state, APP, f"v{number}", docker_image(f"number {number}"))
    await reconcile(pool, lookups, state)
    for number in range(3):
        state.remove_silently(APP, tag=f"v{number}")
    await pool.execute("UPDATE repository_manifest SET as_of = now() - interval '1 hour'")
    assert RunOutcome.COMPLETE is (await reconcile(pool, lookups, state)).outcome
    await pool.execute("UPDATE repository_manifest SET as_of = now() - interval '1 hour'")
    state.remove_silently(APP)

    braked = await reconcile(pool, lookups, state)

    assert RunOutcome.BRAKED is braked.outcome
    assert braked.brake is not None
    assert "3 of 4 manifests" in braked.brake
    assert 4 == await pool.fetchval("SELECT count(*) FROM repository_manifest WHERE deleted_at IS NULL")


async def test_manifest__that_is_missing_just_after_its_push_is_asked_for(
    pool: Pool, lookups: Lookups
) -> None:
    """The clocks do not tell which was first: it stays on record, and the registry is asked again."""
    state = RegistryState()
    push(state, OTHER, "d", SECOND)
    push(state, APP, "v1")
    await reconcile(pool, lookups, state, replace(ONCE, brake_share=1.0))
    await pool.execute("DELETE FROM work_item")
    state.repositories[APP].tags.clear()
    state.repositories[APP].manifests.clear()
    await pool.execute("UPDATE repository_manifest SET as_of = now()")

    await reconcile(pool, lookups, state, replace(ONCE, brake_share=1.0))

    assert 2 == await pool.fetchval("SELECT count(*) FROM repository_manifest WHERE deleted_at IS NULL")
    assert [parse_digest(FIRST.digest)] == [
        row["key"]
        for row in await pool.fetch("SELECT key FROM work_item WHERE kind = 'resolve'")
        if row["key"] != SECOND.digest
    ]


async def test_move__is_repaired_though_our_clock_was_set_back(pool: Pool, lookups: Lookups) -> None:
    """The record was verified in our future, and not since it was read: the observation is the younger."""
    state = RegistryState()
    push(state, APP, "v1")
    await reconcile(pool, lookups, state)
    await pool.execute("UPDATE tag SET verified_at = now() + interval '1 hour'")
    push(state, APP, "v1", SECOND)

    report = await reconcile(pool, lookups, state)

    assert 1 == report.counts["changed"]
    assert {(APP, "v1"): SECOND.digest} == await recorded_tags(pool)


@pytest.mark.parametrize("compared", [True, False], ids=["compared before", "never compared"])
async def test_tag__that_was_not_there_before_is_bounded_by_that(
    pool: Pool, lookups: Lookups, *, compared: bool
) -> None:
    """It came after the repository was last compared; in the first full reconcile it is old, but not in that one."""
    state = RegistryState()
    push(state, APP, "old")
    began = datetime.now(UTC)
    if compared:
        await reconcile(pool, lookups, state, replace(ONCE, scope=[APP]))
    push(state, APP, "new")

    report = await reconcile(pool, lookups, state)

    assert RunOutcome.COMPLETE is report.outcome
    (row,) = await pool.fetch("SELECT not_before, cause FROM drift_finding WHERE tag = 'new'")
    if compared:
        assert row["not_before"] >= began
        assert "unannounced" == row["cause"]
    else:
        assert (None, "first_reconcile") == (row["not_before"], row["cause"])

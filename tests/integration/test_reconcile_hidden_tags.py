"""A walk of a registry that hides tags: what was never announced is found, and what is on record is not deleted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from indexer.oci.reference import RepositoryName
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from indexer.store.traits import Trait, find_traits
from reconciler.drift.plan import make_plan
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.registry.hidden_tags import NEVER_THERE
from tests.fixtures.ingesting import recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import docker_image

APP, OTHER = RepositoryName("team/app"), RepositoryName("other")
SETTINGS = RunSettings(
    mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0), hidden_tag_requests=1000
)
IMAGE = docker_image("a")
TAGS = ["v1", "v10", "v100", "v11", "v2"]


def filled(*, is_on_s3: bool) -> RegistryState:
    """A registry with tags of which some would be hidden on S3."""
    state = RegistryState(is_on_s3=is_on_s3)
    for repository, tags in ((APP, TAGS), (OTHER, ["latest"])):
        for tag in tags:
            state.push(repository, IMAGE.manifest.data, media_type=IMAGE.media_type, tag=tag)
    return state


async def trait(pool: Pool) -> bool | None:
    """Return whether it is on record that the registry hides tags; None: nothing is."""
    async with connection(pool) as held:
        shown = (await find_traits(held)).get(Trait.HIDES_TAGS)
    return None if shown is None else shown.holds


async def test_walk__finds_what_is_hidden(pool: Pool, lookups: Lookups) -> None:
    """Hidden tags that nobody announced come into the record; a plan knew of them; later walks change nothing."""
    registry = DirectRegistry(filled(is_on_s3=True))
    assert registry.state.list_tags(APP) == ["v1", "v2"]
    made = await make_plan(
        pool, registry, concurrency=4, scope=None, on_progress=lambda _: None, hidden_tag_requests=1000
    )
    assert {each.tag for each in made.differences if each.repository == APP} == set(TAGS)

    report = await ReconcileRun(pool, lookups, registry, SETTINGS).run()

    assert report.outcome is RunOutcome.COMPLETE
    assert {tag for repository, tag in await recorded_tags(pool) if repository == APP} == set(TAGS)
    assert await trait(pool) is True
    again = await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    assert (again.outcome, again.counts["changed"], again.counts["held_back"]) == (RunOutcome.COMPLETE, 0, 0)


async def test_walk__a_hidden_tag_on_record_is_not_deleted(pool: Pool, lookups: Lookups) -> None:
    """Without any request for hidden tags, what is on record is asked for itself, and stays."""
    state = filled(is_on_s3=False)
    await ReconcileRun(pool, lookups, DirectRegistry(state), SETTINGS).run()
    before = await recorded_tags(pool)
    state.is_on_s3 = True

    report = await ReconcileRun(
        pool, lookups, DirectRegistry(state), replace(SETTINGS, hidden_tag_requests=0)
    ).run()

    assert (report.outcome, report.counts["held_back"]) == (RunOutcome.COMPLETE, 0)
    assert await recorded_tags(pool) == before


async def test_walk__a_hidden_tag_that_is_gone(pool: Pool, lookups: Lookups) -> None:
    """A hidden tag that was removed unseen is deleted from the record as any other."""
    registry = DirectRegistry(filled(is_on_s3=True))
    await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    registry.state.remove_silently(APP, tag="v10")

    await ReconcileRun(pool, lookups, registry, SETTINGS).run()

    assert {tag for repository, tag in await recorded_tags(pool) if repository == APP} == {*TAGS} - {"v10"}


async def test_walk__what_the_registry_is_like_may_change(pool: Pool, lookups: Lookups) -> None:
    """Each walk finds it out anew, and of a registry that hides nothing no page is asked for."""
    state = filled(is_on_s3=True)
    await ReconcileRun(pool, lookups, DirectRegistry(state), SETTINGS).run()
    assert await trait(pool) is True
    state.is_on_s3 = False
    registry = DirectRegistry(state)

    await ReconcileRun(pool, lookups, registry, SETTINGS).run()

    assert await trait(pool) is False
    asked = Counter(call[0] for call in registry.asked)
    assert asked["list_tags_behind"] == 0
    assert sum(call == ("list_tags", NEVER_THERE) for call in registry.asked) <= 1

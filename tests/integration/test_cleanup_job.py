"""The job that deletes what policies planned: what it does and records, resumed too, and what binds it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from indexer.jobs.job import JobState
from indexer.oci.digest import parse_digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.policies.cleanup import ENGINE
from indexer.store import cleanup_plans, maintenance, policies_in_force
from indexer.store.cleanup_plans import PolicyPart, ShownVerdict, StoredPlan, ToPlan
from indexer.store.lookups import Lookups
from indexer.store.operators import Operator
from indexer.store.pool import Connection, Pool, connection, transaction
from reconciler.cleanup.act import Actor, Deleting, Wanted, Why
from reconciler.cleanup.observe import find_way
from reconciler.components import Components
from reconciler.jobs import cleanup
from reconciler.jobs.runner import Runner
from tests.fixtures.acting import Watched, watched
from tests.fixtures.jobs import LASTING, add, find, run_all
from tests.fixtures.registries import StartRegistry
from tools.sample_images import oci_image

APP = RepositoryName("team/app")
TAGS = ("pr-1", "pr-2", "pr-3")
ANN = Operator(name="ann", host="here", command="a test")
ALWAYS = 'blocked: ["daily 00:00-24:00Z"]\n'

pytestmark = [pytest.mark.usefixtures("hurry"), pytest.mark.slow]


def policies(blocked: str = "") -> bytes:
    return f"""version: 1
{blocked}cleanup:
  - id: a
    mode: enforce
    scope: {{repositories: {{any: ["**"]}}}}
    delete: [{{id: old, tags: {{glob: ["*"]}}, older: {{pushed: 0s}}}}]
    grace: {{pushed: 0s}}
    undo: {{pending: 0s}}
    run: {{rate: 100/s}}
""".encode()


async def plan(held: Connection, content: bytes, digests: dict[str | None, str]) -> None:
    """Put policies in force, and an approved plan under them that deletes these tags (None: the manifest)."""
    await plan_all(held, content, [(APP, tag, digest) for tag, digest in digests.items()])


async def plan_all(
    held: Connection, content: bytes, named: Sequence[tuple[str, str | None, str]], *, plan_id: str = "p1"
) -> None:
    """Put policies in force, and an approved plan under them that deletes this: repository, tag or None, digest."""
    at = datetime.now(UTC)
    await policies_in_force.put_in_force(held, content=content, at=at, by=None)
    file = await policies_in_force.in_force(held)
    assert file is not None
    part = PolicyPart(
        policy="a",
        mode="enforce",
        freed_bytes=1,
        weak_share=0.0,
        kept=0,
        deleted=len(named),
        held=0,
        brake=(),
    )
    made = StoredPlan(
        id=plan_id,
        made_at=at,
        confirmed_at=at,
        position=1,
        engine=ENGINE,
        policies_sha256=file.sha256,
        parts=(part,),
    )
    common: dict[str, Any] = {"policy": "a", "decision": "delete"}
    verdicts = [
        ShownVerdict(
            **common,
            repository=repository,
            tag=tag,
            digest=parse_digest(digest),
            shown={"text": f"{tag} is old"},
        )
        for repository, tag, digest in named
    ]
    await cleanup_plans.add_plan(held, plan=made, content_sha256=b"c", verdicts=verdicts)
    wanted = [
        ToPlan(
            repository=repository,
            tag=tag,
            digest=parse_digest(digest),
            rule="old",
            reason="delete.old",
            pending=timedelta(0),
        )
        for repository, tag, digest in named
    ]
    await cleanup_plans.put_planned(held, policy="a", at=at, planned=wanted)
    found = await cleanup_plans.find_plan(held, plan_id=plan_id)
    assert found is not None
    await cleanup_plans.approve_plan(held, plan=found, at=at, operator=ANN, reason="seen")


async def due(pool: Pool) -> set[str | None]:
    async with connection(pool) as held:
        return {each.tag for each in await cleanup_plans.due_verdicts(held, now=datetime.now(UTC))}


async def there(world: Watched) -> set[str]:
    return {tag for tag in TAGS if await asyncio.to_thread(world.pusher.digest_of, APP, tag) is not None}


def running(world: Watched) -> Runner:
    """What executes jobs of cleanup, on the real registry."""
    components = cast("Components", SimpleNamespace(pool=world.pool, registry=world.client))
    return Runner(
        components,
        program="test",
        lasting=LASTING,
        stop=asyncio.Event(),
        handlers={"cleanup": cleanup.run},
    )


async def pushed(world: Watched) -> dict[str | None, str]:
    digests: dict[str | None, str] = {}
    for tag in TAGS:
        image = oci_image(tag)
        await asyncio.to_thread(world.pusher.push, APP, image, tag)
        digests[tag] = image.digest
    await world.until_known(*TAGS)
    return digests


async def test_maintenance__stops_a_run_between_two_requests(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """What is half done is finished, nothing else is begun; after the end the job goes on, and does the rest."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digests = await pushed(world)
        async with transaction(pool) as held:
            await plan(held, policies(), digests)
        assert set(TAGS) == await due(pool)

        async def begin(_method: str, _reference: str) -> None:
            async with transaction(pool) as held:
                if await maintenance.why_paused(held) is None:
                    await maintenance.begin_maintenance(held, lasting=None, operator=ANN, reason="gc")

        world.client.after = begin
        job = await add(pool, kind="cleanup")
        assert 1 == await run_all(running(world))
        paused = await find(pool, job)
        assert (JobState.PAUSED, True) == (paused.state, "ann began maintenance" in (paused.note or ""))
        assert 2 == len(await there(world)), "one was begun when maintenance began"
        assert 0 == await run_all(running(world))
        assert 2 == len(await there(world))

        world.client.after = world.client.before
        async with transaction(pool) as held:
            await maintenance.end_maintenance(held, operator=ANN, reason=None)
        assert 1 == await run_all(running(world))
        ended = await find(pool, job)
        assert JobState.DONE == ended.state, ended
        assert set() == await there(world)
        assert set() == await due(pool)


async def test_blocked__no_run_is_begun(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """In a blocked window of the policies nothing is due, and no job is taken."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digests = await pushed(world)
        async with transaction(pool) as held:
            await plan(held, policies(ALWAYS), digests)
        assert set() == await due(pool)
        job = await add(pool, kind="cleanup")
        assert 0 == await run_all(running(world))
        waiting = await find(pool, job)
        assert (False, set(TAGS)) == (waiting.state.has_ended, await there(world))
        assert [] == world.client.sent


async def test_job__each_tag_has_its_own_reason(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """The record, and so the audit log, says of each tag why that one went."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        async with transaction(pool) as held:
            await plan(held, policies(), await pushed(world))
        job = await add(pool, kind="cleanup")
        assert 1 == await run_all(running(world))
        assert {"deleted": 3} == (await find(pool, job)).result
        rows = await pool.fetch("SELECT tag, reason FROM tag_action")
        assert {tag: f"{tag} is old" for tag in TAGS} == {row["tag"]: row["reason"] for row in rows}


async def test_job__manifests_that_wait_keep_no_tag_waiting(
    pool: Pool,
    lookups: Lookups,
    start_registry: StartRegistry,
    registry_version: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tags come first, however many manifests are due before them; one that has to wait stays due."""
    monkeypatch.setattr(cleanup, "AT_ONCE", 1)
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digests = await pushed(world)
        async with transaction(pool) as held:
            await plan(held, policies(), {None: oci_image("untagged").digest, **digests})
            await held.execute("UPDATE cleanup_planned SET due_at = due_at - interval '1 day' WHERE tag = ''")
        job = await add(pool, kind="cleanup")
        assert 1 == await run_all(running(world))
        # Nothing is deleted by digest in a repository that was never compared in full.
        assert {"deleted": 3, "hold.incomplete": 1} == (await find(pool, job)).result
        assert {None} == await due(pool), "the manifest still waits"
        assert not any(oci_image("untagged").digest == reference for _, reference in world.client.sent)


async def test_job__of_some_repositories(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """A job of named repositories leaves the others alone, and does what is due in its own."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        async with transaction(pool) as held:
            await plan(held, policies(), await pushed(world))
        for repository, left in (("team/other", set(TAGS)), (APP, set())):
            await add(pool, kind="cleanup", params={"repositories": [repository]})
            assert 1 == await run_all(running(world))
            assert left == await there(world)


async def test_job__after_a_kill_what_was_deleted_is_done(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """A process that is killed after its request has not recorded that it was planned: whoever goes on does."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digests = await pushed(world)
        async with transaction(pool) as held:
            await plan(held, policies(), digests)
        job = await add(pool, kind="cleanup")
        way = await find_way(world.client, APP)
        killed = Actor(pool, world.client)
        await killed.delete_tags(
            APP, [Wanted(tag=TagName("pr-1"))], Why(source="policy", job=job.id), way=way, result=Deleting()
        )
        await world.until_gone("pr-1")
        await pool.execute("UPDATE tag_action SET lease_until = '-infinity' WHERE holder = $1", killed.holder)
        assert 1 == await run_all(running(world))
        assert {"deleted": 3} == (await find(pool, job)).result
        rows = await pool.fetch("SELECT tag, outcome FROM cleanup_planned")
        assert dict.fromkeys(TAGS, "done") == {row["tag"]: row["outcome"] for row in rows}

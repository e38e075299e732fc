"""Deleting, putting back and restoring one tag, on real registries of both versions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

import pytest

from indexer.oci.digest import digest_to_bytes, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import tag_actions as store
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.cleanup import act, observe
from reconciler.cleanup.act import Actor, Deleting, LeaseLost, SkipError, Wanted, Why
from reconciler.cleanup.observe import NotAllowed, find_way
from reconciler.cleanup.settle import Settler
from tests.fixtures.acting import Watched, watched
from tests.fixtures.registries import StartRegistry
from tools.sample_images import Image, docker_image, multi_platform, oci_image

APP = RepositoryName("team/app")
WHY = Why(source="operator", actor="alice", reason="a test")

pytestmark = pytest.mark.usefixtures("hurry")


class Killed(BaseException):
    """The process ends here."""


async def push(world: Watched, image: Image, *tags: str) -> str:
    for tag in tags:
        await asyncio.to_thread(world.pusher.push, APP, image, tag)
    return image.digest


async def delete(world: Watched, *tags: str, settle: bool = True) -> Deleting:
    result = Deleting()
    actor = Actor(world.pool, world.client)
    way = await find_way(world.client, APP)
    wanted = [Wanted(tag=TagName(tag)) for tag in tags]
    await actor.delete_tags(APP, wanted, WHY, way=way, result=result)
    if settle:
        await Settler(world.pool, world.client).until_settled(result.begun, seconds=30)
    return result


async def outcomes(world: Watched) -> dict[str, Any]:
    rows = await world.pool.fetch("SELECT tag, kind, state, outcome FROM tag_action ORDER BY asked_at, tag")
    return {f"{row['kind']} {row['tag']}": (row["state"], row["outcome"]) for row in rows}


async def in_registry(world: Watched, *tags: str) -> list[str | None]:
    return [await asyncio.to_thread(world.pusher.digest_of, APP, tag) for tag in tags]


async def settle_all(world: Watched, seconds: float = 30) -> None:
    """What the daemon's loop does, in another process, until nothing is left to follow."""
    await world.pool.execute(
        "UPDATE tag_action SET lease_until = '-infinity', due_at = least(due_at, now()) WHERE ended_at IS NULL"
    )
    settler = Settler(world.pool, world.client)
    async with asyncio.timeout(seconds):
        while await world.pool.fetchval(
            "SELECT count(*) FROM tag_action WHERE ended_at IS NULL OR state = 'uncertain' OR due_at <= now()"
        ):
            if not await settler.settle():
                await asyncio.sleep(0.05)


async def no_tag_on_a_dummy(world: Watched, tags: Sequence[str]) -> None:
    dummies = {row["digest"] for row in await world.pool.fetch("SELECT digest FROM dummy_manifest")}
    for tag, digest in zip(tags, await in_registry(world, *tags), strict=True):
        assert digest is None or digest_to_bytes(parse_digest(digest)) not in dummies, tag
    listed = (await world.client.list_tags(APP)).names
    there = {tag for tag, digest in zip(tags, await in_registry(world, *tags), strict=True) if digest}
    assert set(listed) == there, "a tag is listed that nobody can reach"


async def test_delete__one_tag_and_not_its_sibling(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """A tag goes, its sibling on the digest stays, and the log has one entry of it, with who and why."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digest = await push(world, oci_image("a"), "v1", "v2")
        await world.until_known("v1", "v2")
        result = await delete(world, "v1")
        assert result.skipped == []
        assert await outcomes(world) == {"delete v1": ("checked", "deleted")}
        assert await in_registry(world, "v1", "v2") == [None, digest]
        await no_tag_on_a_dummy(world, ["v1", "v2"])
        assert await world.actions("v1") == [
            ("tag.created", "notification"),
            ("cleanup.tag_deleted", "operator"),
        ]
        entry = await pool.fetchrow(
            "SELECT a.name AS actor, e.event_key, e.detail FROM audit_staged AS e JOIN actor AS a ON a.id = e.actor_id"
            " WHERE action = 'cleanup.tag_deleted'"
        )
        assert entry is not None
        assert entry["actor"] == "alice"
        assert entry["event_key"] is not None
        assert entry["detail"]["reason"] == "a test"
        assert [row["name"] for row in await pool.fetch("SELECT name FROM tag")] == ["v2"]


@pytest.mark.parametrize("same", [False, True], ids=["another-image", "the-same-image"])
async def test_delete__a_push_in_between_is_put_back(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int, *, same: bool
) -> None:
    """A push that lands between our last look and our request is put back, with its date and its pusher's."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, docker_image("a"), "v1", "v2")
        await world.until_known("v1", "v2")
        pushed: list[str] = []

        async def before(_method: str, _reference: str) -> None:
            if not pushed:
                pushed.append(await push(world, docker_image("a" if same else "b"), "v1"))

        world.client.before = before
        await delete(world, "v1")
        await settle_all(world)
        assert await in_registry(world, "v1", "v2") == [pushed[0], docker_image("a").digest]
        assert await outcomes(world) == {
            "delete v1": ("checked", "put_back"),
            "put_back v1": ("checked", "restored"),
        }
        assert (await world.actions("v1"))[-1] == ("cleanup.put_back", "operator")
        row = await pool.fetchrow(
            "SELECT t.published_at, e.occurred_at FROM tag AS t, tag_action_event AS e"
            " WHERE t.name = 'v1' AND NOT e.ours AND e.digest IS NOT NULL"
        )
        assert row is not None
        assert row["published_at"] == row["occurred_at"]


async def test_delete__a_push_after_it_stays(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """A push after our last request is left alone, and nothing is put back."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, oci_image("a"), "v1")
        await world.until_known("v1")

        async def after(method: str, _reference: str) -> None:
            if method == "DELETE":
                await push(world, oci_image("b"), "v1")

        world.client.after = after
        await delete(world, "v1")
        assert await in_registry(world, "v1") == [oci_image("b").digest]
        assert await outcomes(world) == {"delete v1": ("checked", "pushed_again")}


async def test_delete__an_earlier_deletion_puts_nothing_back_that_a_newer_one_undid(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """The tag was pushed right after a deletion, and deleted again; the first takes that absence for no lost push.

    It would put its own push back, and what was pushed right before the second deletion would be lost for good.
    """
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, oci_image("a"), "v1")
        await world.until_known("v1")

        async def after(method: str, _reference: str) -> None:
            if method == "DELETE":
                await push(world, oci_image("b"), "v1")

        world.client.after = after
        first = await delete(world, "v1")
        await world.until_known("v1")
        pushed = False

        async def before(method: str, _reference: str) -> None:
            nonlocal pushed
            if not pushed:
                pushed = True
                await push(world, oci_image("c"), "v1")
            if method == "DELETE":
                world.paused.clear()  # the event of this deletion is not known yet

        world.client.before, world.client.after = before, type(world.client).after
        second = await delete(world, "v1", settle=False)
        assert second.skipped == []
        await pool.execute("UPDATE tag_action SET due_at = now() WHERE id = ANY($1::uuid[])", first.begun)
        await Settler(pool, world.client).settle(ids=first.begun)
        assert await in_registry(world, "v1") == [None]
        world.paused.set()
        await settle_all(world)
        assert await in_registry(world, "v1") == [oci_image("c").digest]
        assert 1 == await pool.fetchval("SELECT count(*) FROM tag_action WHERE kind = 'put_back'")


async def test_delete__a_late_notification_of_a_push(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """Nothing counts as checked before the event of our own request came; what comes with it is put back."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, oci_image("a"), "v1")
        await world.until_known("v1")

        async def before(_method: str, _reference: str) -> None:
            world.paused.clear()
            world.client.before = type(world.client).before
            await push(world, oci_image("b"), "v1")

        world.client.before = before
        result = await delete(world, "v1", settle=False)
        settler = Settler(pool, world.client)
        await settler.until_settled(result.begun, seconds=1)
        assert await outcomes(world) == {"delete v1": ("done", None)}
        world.paused.set()
        await settle_all(world)
        assert await in_registry(world, "v1") == [oci_image("b").digest]


@pytest.mark.parametrize("at", range(8))
async def test_delete__killed_between_any_two_requests(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int, *, at: int
) -> None:
    """Wherever the process ends, another one finishes: no tag stays on a dummy, no sibling and no push is lost."""
    tags = ["v1", "v2", "v3"]
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, oci_image("a"), *tags, "sibling")
        await world.until_known(*tags)
        requests = 0

        async def count(_method: str, _reference: str) -> None:
            nonlocal requests
            if requests == at:
                raise Killed
            requests += 1

        world.client.before = world.client.after = count
        try:
            await delete(world, *tags, settle=False)
        except Killed:
            # what a killed process cannot do: it ends what it had planned
            await pool.execute(
                "UPDATE tag_action SET state = 'planned', ended_at = NULL, due_at = now() WHERE outcome = 'not_begun'"
            )
        world.client.before = world.client.after = type(world.client).before
        in_between = await push(world, oci_image("b"), "v3") if at % 2 else None
        await pool.execute("UPDATE tag_action SET requested_at = requested_at - interval '3 minutes'")
        await settle_all(world)
        await no_tag_on_a_dummy(world, [*tags, "sibling"])
        assert await in_registry(world, "sibling") == [oci_image("a").digest]
        if in_between is not None:
            assert await in_registry(world, "v3") == [in_between]
        assert set(await pool.fetchval("SELECT array_agg(state) FROM tag_action")) <= {"checked", "skipped"}


async def test_delete__killed_after_its_request_undid_a_push(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """The answer was never read; another process finds the push, and puts it back."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, oci_image("a"), "v1")
        await world.until_known("v1")
        pushed: list[str] = []

        async def before(_method: str, _reference: str) -> None:
            if not pushed:
                pushed.append(await push(world, oci_image("b"), "v1"))

        async def after(method: str, _reference: str) -> None:
            if method == "DELETE":
                raise Killed

        world.client.before, world.client.after = before, after
        with pytest.raises(Killed):
            await delete(world, "v1", settle=False)
        world.client.before = world.client.after = type(world.client).before
        assert await in_registry(world, "v1") == [None]
        await settle_all(world)
        assert await in_registry(world, "v1") == pushed


async def test_delete__a_process_that_slept_beyond_its_lease(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """Once another process has an action, the first sends nothing more."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digest = await push(world, oci_image("a"), "v1")
        await world.until_known("v1")
        slept = False

        async def check(*, finishing: bool = False) -> None:
            nonlocal slept
            if await pool.fetchval("SELECT count(*) FROM tag_action") and not slept:
                slept = True
                await settle_all(world)

        way = await find_way(world.client, APP)
        actor = Actor(pool, world.client, check=check)
        with pytest.raises(LeaseLost):
            await actor.delete_tags(APP, [Wanted(tag=TagName("v1"))], WHY, way=way, result=Deleting())
        assert world.client.sent == []
        assert await in_registry(world, "v1") == [digest]


async def test_delete__of_many_tags_at_a_low_rate(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look at a batch takes longer than a lease lasts: that is not another process that has taken over."""
    passed = 0.0
    read_family = observe.read_family

    async def slowly(*args: Any) -> list[store.KeptManifest]:
        nonlocal passed
        passed += 25
        await pool.execute("UPDATE tag_action SET lease_until = lease_until - interval '25 seconds'")
        return await read_family(*args)

    monkeypatch.setattr(observe, "read_family", slowly)
    monkeypatch.setattr(act, "monotonic", lambda: monotonic() + passed)
    tags = ["v1", "v2", "v3", "v4", "v5"]
    async with watched(pool, lookups, start_registry, 3) as world:
        await push(world, oci_image("a"), *tags)
        await world.until_known(*tags)
        result = await delete(world, *tags)
        assert result.skipped == []
        assert await in_registry(world, *tags) == [None] * 5


async def test_delete__not_allowed(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """A registry without storage.delete.enabled gets one clear line, and nothing is half done."""
    extra: dict[str, object] = {"storage": {"delete": {"enabled": False}}}
    async with watched(pool, lookups, start_registry, registry_version, extra=extra) as world:
        digest = await push(world, oci_image("a"), "v1")
        with pytest.raises(NotAllowed, match=r"storage\.delete\.enabled: true"):
            await find_way(world.client, APP)
        assert await in_registry(world, "v1") == [digest]


async def test_restore__with_children_dates_and_history(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """A deleted index comes back with what it needs, and has the dates that it had."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        image = multi_platform("many")
        await push(world, image, "v1")
        await world.until_known("v1")
        was = await pool.fetchrow("SELECT published_at, first_seen_at FROM tag WHERE name = 'v1'")
        await delete(world, "v1")
        deletion = await store.newest_deletion(pool, repository=APP, tag=TagName("v1"))  # type: ignore[arg-type]
        assert deletion is not None
        kept = await store.kept_of(pool, number=deletion.id)  # type: ignore[arg-type]
        assert [each.role for each in kept] == ["child", "child", "tagged"]
        for each in kept:  # as a later unlinking, or another tool, leaves it
            await world.client.delete_manifest(APP, each.digest)
        number = await Actor(pool, world.client).restore(deletion, WHY, force=False, kept=kept)
        assert number is not None
        await Settler(pool, world.client).until_settled([number], seconds=30)
        assert await in_registry(world, "v1") == [image.digest]
        for each in kept:
            assert (await world.client.head_manifest(APP, each.digest)).digest == each.digest  # type: ignore[union-attr]
        await world.until_known("v1")
        assert await pool.fetchrow("SELECT published_at, first_seen_at FROM tag WHERE name = 'v1'") == was
        assert (await world.actions("v1"))[-1] == ("cleanup.restored", "operator")
        assert (await outcomes(world))["restore v1"] == ("checked", "restored")


async def test_restore__refused(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """Not over a tag that was pushed since, without force; not when a layer is gone: that is said."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, oci_image("a"), "v1")
        await world.until_known("v1")
        await delete(world, "v1")
        deletion = await store.newest_deletion(pool, repository=APP, tag=TagName("v1"))  # type: ignore[arg-type]
        assert deletion is not None
        kept = await store.kept_of(pool, number=deletion.id)  # type: ignore[arg-type]
        await push(world, oci_image("b"), "v1")
        actor = Actor(pool, world.client)
        with pytest.raises(SkipError, match="--force"):
            await actor.restore(deletion, WHY, force=False, kept=kept)
        assert await in_registry(world, "v1") == [oci_image("b").digest]
        assert await actor.restore(deletion, WHY, force=True, kept=kept) is not None
        assert await in_registry(world, "v1") == [oci_image("a").digest]
        await push(world, oci_image("b"), "v1")
        layer = oci_image("a").blobs[-1].digest
        for path in world.server.storage_dir.rglob(f"blobs/sha256/{layer[7:9]}/{layer[7:]}/data"):
            path.unlink()
        with pytest.raises(SkipError, match="garbage was collected"):
            await actor.restore(deletion, WHY, force=True, kept=kept)
        gone = await pool.fetchval("SELECT gone FROM tag_action WHERE id = $1", deletion.id)
        assert layer in gone

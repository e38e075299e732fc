"""Manifests that nothing needs any more are deleted by digest, on real registries of both versions; others stay."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from indexer.jobs.job import JobState
from indexer.oci.digest import Digest, digest_to_bytes, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import holds, in_use, unlinking
from indexer.store import tag_actions as store
from indexer.store.lookups import Lookups
from indexer.store.operators import Operator
from indexer.store.pool import Pool, connection, transaction
from reconciler.cleanup.act import Actor, Deleting, Wanted, Why
from reconciler.cleanup.observe import find_way
from reconciler.cleanup.settle import Settler
from reconciler.cleanup.unlink import Unlinker, Unlinking, Unwanted
from reconciler.components import Components
from reconciler.jobs import cleanup
from reconciler.jobs.runner import Runner
from reconciler.registry import hidden_tags
from tests.fixtures.acting import Watched, watched
from tests.fixtures.cleanup_rows import NOW, Rows, d
from tests.fixtures.jobs import LASTING, add, find, run_all
from tests.fixtures.registries import StartRegistry
from tests.integration.test_cleanup_job import plan, policies
from tools.sample_images import Image, artifact, index, multi_platform, oci_image

APP = RepositoryName("team/app")
ANN = Operator(name="ann", host="here", command="a test")
WHY = Why(source="policy", actor="a", reason="a test")
PEOPLE = Why(source="operator", actor="alice", reason="a test")

pytestmark = [pytest.mark.usefixtures("hurry"), pytest.mark.slow]


class Killed(BaseException):
    """The process ends here."""


async def push(world: Watched, image: Image, tag: str | None = None) -> Digest:
    await asyncio.to_thread(world.pusher.push, APP, image, tag)
    return parse_digest(image.digest)


async def known(world: Watched, *digests: str) -> None:
    """Wait until manifests are on record and read; from then on the repository counts as compared in full."""
    packed = [digest_to_bytes(parse_digest(each)) for each in digests]
    async with asyncio.timeout(60):
        while await world.pool.fetchval(
            "SELECT count(*) FROM manifest WHERE content = 'read' AND digest = ANY($1)", packed
        ) < len(packed):
            await asyncio.sleep(0.02)
    await world.pool.execute("UPDATE repository SET last_reconciled_at = now()")


async def delete_tag(world: Watched, tag: str, why: Why = WHY) -> None:
    result = Deleting()
    actor = Actor(world.pool, world.client)
    way = await find_way(world.client, APP)
    await actor.delete_tags(APP, [Wanted(tag=TagName(tag))], why, way=way, result=result)
    await Settler(world.pool, world.client).until_settled(result.begun, seconds=60)
    await world.until_gone(tag)
    world.client.sent.clear()


async def unlinked(world: Watched, *digests: Digest, since: datetime | None = None) -> Unlinking:
    """Try to delete these manifests as the job does, and settle."""
    result = Unlinking()
    actor = Actor(world.pool, world.client)
    unlinker = Unlinker(world.pool, world.client, actor, repository=APP)
    at = since or datetime.now(UTC) + timedelta(
        minutes=2
    )  # what the test itself pushed just now does not count
    wanted = [Unwanted(digest=each, since=at) for each in digests]
    await unlinker.unlink(wanted, WHY, together=frozenset(digests), result=result)
    await settle(world)
    return result


async def settle(world: Watched) -> None:
    """What the daemon's loop does, until nothing is left to follow."""
    settler = Settler(world.pool, world.client)
    async with asyncio.timeout(120):
        while await world.pool.fetchval(
            "SELECT count(*) FROM tag_action WHERE ended_at IS NULL OR due_at <= now()"
        ):
            if not await settler.settle():
                await asyncio.sleep(0.05)


async def there(world: Watched, *references: str) -> list[bool]:
    return [
        await asyncio.to_thread(world.pusher.digest_of, APP, reference) is not None
        for reference in references
    ]


async def outcome(world: Watched, kind: str = "unlink") -> list[tuple[str, str]]:
    rows = await world.pool.fetch("SELECT state, outcome FROM tag_action WHERE kind = $1", kind)
    return [(row["state"], row["outcome"]) for row in rows]


async def entry_of(world: Watched, action: str) -> str:
    """Wait for an entry of the log, which comes with the registry's event; return its source."""
    async with asyncio.timeout(120):
        while True:
            source = await world.pool.fetchval(
                "SELECT source FROM audit_staged WHERE action::text = $1", action
            )
            if source is not None:
                return str(source)
            await asyncio.sleep(0.05)


def running(world: Watched) -> Runner:
    components = cast("Components", SimpleNamespace(pool=world.pool, registry=world.client))
    return Runner(
        components, program="test", lasting=LASTING, stop=asyncio.Event(), handlers={"cleanup": cleanup.run}
    )


async def due(world: Watched, *digests: str) -> None:
    """Put policies in force, and a plan under them that deletes these manifests, made after what was pushed."""
    async with transaction(world.pool) as held:
        await plan(held, policies(), {None: digests[0]})
        for digest in digests[1:]:
            await held.execute(
                "INSERT INTO cleanup_planned (first_at, due_at, named_at, repository_id, policy, digest, rule, reason)"
                " SELECT first_at, due_at, named_at, repository_id, policy, $1, rule, reason"
                " FROM cleanup_planned LIMIT 1",
                digest_to_bytes(parse_digest(digest)),
            )
            await held.execute(
                "INSERT INTO cleanup_verdict (plan_id, number, policy, repository_id, tag, digest, decision, shown)"
                " SELECT plan_id, (SELECT max(number) + 1 FROM cleanup_verdict), policy, repository_id, tag, $1,"
                " decision, shown FROM cleanup_verdict LIMIT 1",
                digest_to_bytes(parse_digest(digest)),
            )
        await held.execute("UPDATE cleanup_plan SET confirmed_at = now() + interval '2 minutes'")
        await held.execute("UPDATE cleanup_planned SET named_at = now() + interval '2 minutes'")


async def test_job__a_family_goes_in_order_and_comes_back(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """Index, then its signature, then the children that no other index needs; a restore brings all of it back."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        shared, own = oci_image("shared"), oci_image("own")
        goes = index([shared, own], annotations={"name": "goes"})
        stays = index([shared, oci_image("third")], annotations={"name": "stays"})
        signature = artifact("signature", subject=goes)
        for image, tag in ((goes, "v1"), (stays, "v2")):
            await push(world, image, tag)
        await push(world, signature)
        await world.until_known("v1", "v2")
        await known(world, goes.digest, stays.digest, signature.digest, shared.digest, own.digest)
        await delete_tag(world, "v1")
        await due(world, own.digest, goes.digest, signature.digest, shared.digest)
        job = await add(pool, kind="cleanup")
        assert 1 == await run_all(running(world))
        ended = await find(pool, job)
        assert (JobState.DONE, {"unlinked": 3, "skipped.needed": 1}) == (ended.state, ended.result), ended
        deleted = [reference for method, reference in world.client.sent if method == "DELETE"]
        assert [goes.digest, signature.digest, own.digest] == deleted
        assert [False, False, False] == await there(world, goes.digest, signature.digest, own.digest)
        assert [True, True, True, True] == await there(
            world, "v2", stays.digest, shared.digest, oci_image("third").digest
        )
        assert set(await outcome(world)) == {("checked", "unlinked")}
        entries = await pool.fetch(
            "SELECT source, detail FROM audit_staged WHERE action = 'manifest.deleted' AND source = 'policy'"
        )
        assert 3 == len(entries)
        assert {str(job.id)} == {entry["detail"]["job"] for entry in entries}
        rows = await pool.fetch("SELECT digest, outcome FROM cleanup_planned")
        assert {"done": 3, "cancelled": 1} == {
            word: sum(row["outcome"] == word for row in rows) for word in ("done", "cancelled")
        }
        deletion = await store.newest_deletion(pool, repository=APP, tag=TagName("v1"))  # type: ignore[arg-type]
        assert deletion is not None
        kept = await store.kept_of(pool, number=deletion.id)  # type: ignore[arg-type]
        number = await Actor(pool, world.client).restore(deletion, PEOPLE, force=False, kept=kept)
        assert number is not None
        await settle(world)
        assert [True] * 4 == await there(world, "v1", goes.digest, signature.digest, own.digest)
        assert (await outcome(world, "restore"))[0] == ("checked", "restored")


async def tagged(world: Watched, image: Image) -> None:
    await push(world, image, "again")
    await world.until_known("again")


async def indexed(world: Watched, image: Image) -> None:
    parent = index([image])
    await push(world, parent)
    await known(world, parent.digest)


async def signed(world: Watched, image: Image) -> None:
    signature = artifact("signature", subject=image)
    await push(world, signature)
    await known(world, signature.digest)


async def carried(world: Watched, image: Image) -> None:
    tag = image.digest.replace(":", "-") + ".sig"
    await push(world, oci_image("cosign"), tag)
    await world.until_known(tag)
    await known(world, oci_image("cosign").digest)


async def held(world: Watched, image: Image) -> None:
    async with transaction(world.pool) as connected:
        await holds.add_hold(
            connected,
            owner="ann",
            reason="evidence",
            repository=None,
            tag=None,
            digest=image.digest,
            until=None,
            at=datetime.now(UTC) + timedelta(minutes=2),
            operator=ANN,
        )


async def running_somewhere(world: Watched, image: Image) -> None:
    async with transaction(world.pool) as connected:
        await in_use.take_report(
            connected,
            source="cluster",
            images=[("", image.digest)],
            at=datetime.now(UTC),
            valid_until=datetime.now(UTC) + timedelta(days=1),
            confirm=False,
        )


async def pulled(world: Watched, image: Image) -> None:
    await world.pool.execute(
        "UPDATE repository_manifest SET last_pulled_at = now() + interval '3 minutes' WHERE manifest_id ="
        " (SELECT id FROM manifest WHERE digest = $1)",
        digest_to_bytes(parse_digest(image.digest)),
    )


async def promised(world: Watched, image: Image) -> None:
    await push(world, image, "by-hand")
    await world.until_known("by-hand")
    await delete_tag(world, "by-hand", PEOPLE)


async def uncertain(world: Watched, image: Image) -> None:
    del image
    await world.pool.execute(
        "UPDATE tag_action SET state = 'uncertain', outcome = 'uncertain', due_at = 'infinity' WHERE kind = 'delete'"
    )


async def lost_events(world: Watched, image: Image) -> None:
    del image
    await world.pool.execute("UPDATE tag_action SET state = 'checked', outcome = 'deleted'")
    await world.pool.execute("UPDATE repository SET last_reconciled_at = NULL")


async def not_announced(world: Watched, image: Image) -> None:
    """A tag of it is in the registry, and its event is still on its way."""
    await world.pool.execute("UPDATE repository SET last_reconciled_at = now()")
    world.paused.clear()
    await push(world, image, "unknown")


KEEPS: list[tuple[Callable[[Watched, Image], Awaitable[None]], str]] = [
    (tagged, "skipped.needed"),
    (indexed, "skipped.needed"),
    (signed, "skipped.needed"),
    (carried, "skipped.needed"),
    (held, "skipped.used"),
    (running_somewhere, "skipped.used"),
    (pulled, "skipped.used"),
    (promised, "hold.promised"),
    (uncertain, "hold.uncertain"),
    (lost_events, "hold.incomplete"),
    (not_announced, "skipped.unverified"),  # the last: nothing is announced from then on
]


async def test_unlink__what_keeps_a_manifest(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """Whatever came up since it was planned keeps it: no request is sent."""
    async with watched(pool, lookups, start_registry, 3) as world:
        images = [oci_image(what.__name__) for what, _ in KEEPS]
        tags = [f"v{number}" for number, _ in enumerate(KEEPS)]
        for image, tag in zip(images, tags, strict=True):
            await push(world, image, tag)
        await world.until_known(*tags)
        await known(world, *(image.digest for image in images))
        for tag in tags:
            await delete_tag(world, tag)
        for (what, code), image in zip(KEEPS, images, strict=True):
            await what(world, image)
            result = await only_tried(world, parse_digest(image.digest))
            assert [code] == [found for found, _ in result.skipped.values()], (what, result.skipped)
            assert [True] == await there(world, image.digest), what
        assert [] == [each for each in world.client.sent if each[1].startswith("sha256:")]


async def only_tried(world: Watched, digest: Digest) -> Unlinking:
    result = Unlinking()
    unlinker = Unlinker(world.pool, world.client, Actor(world.pool, world.client), repository=APP)
    at = datetime.now(UTC) + timedelta(minutes=2)
    await unlinker.unlink(
        [Unwanted(digest=digest, since=at)], WHY, together=frozenset([digest]), result=result
    )
    return result


@pytest.mark.full
async def test_unlink__a_child_that_is_in_use_keeps_its_index(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """A node reports the image of its platform, not the index: the index stays, and with it its children."""
    async with watched(pool, lookups, start_registry, 3) as world:
        image = multi_platform("many")
        digest = await push(world, image, "v1")
        await world.until_known("v1")
        await known(world, digest, *(each.digest for each in image.children))
        await delete_tag(world, "v1")
        await running_somewhere(world, image.children[0])
        result = await unlinked(world, digest)
        assert ["skipped.used"] == [code for code, _ in result.skipped.values()]
        assert [True, True, True] == await there(world, digest, *(each.digest for each in image.children))


@pytest.mark.parametrize(
    "how", [pytest.param(each, marks=pytest.mark.full) for each in ("tag", "digest", "referrer")] + ["index"]
)
async def test_unlink__a_push_in_between_is_put_back(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int, *, how: str
) -> None:
    """What lands between our last look and our request is found by its event, and has all that it needs again."""
    pushed: dict[str, tuple[Image, str | None]] = {
        "tag": (oci_image("a"), "again"),
        "digest": (oci_image("a"), None),
        "index": (index([oci_image("a")]), "index"),
        "referrer": (artifact("signature", subject=oci_image("a")), None),
    }
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digest = await push(world, oci_image("a"), "v1")
        await push(world, oci_image("other"), "other")
        await world.until_known("v1", "other")
        await known(world, digest)
        await delete_tag(world, "v1")
        image, tag = pushed[how]

        async def before(method: str, _reference: str) -> None:
            if method == "DELETE":
                world.client.before = type(world.client).before
                await push(world, image, tag)

        world.client.before = before
        result = await unlinked(world, digest)
        assert {} == result.skipped
        assert [True, True] == await there(world, digest, image.digest)
        assert [("checked", "put_back")] == await outcome(world)
        assert 1 == len(await outcome(world, "put_back"))
        if tag is not None:
            assert image.digest == await asyncio.to_thread(world.pusher.digest_of, APP, tag)
        assert await asyncio.to_thread(world.pusher.digest_of, APP, "other") == oci_image("other").digest
        assert "policy" == await entry_of(world, "cleanup.put_back")


async def test_unlink__what_was_pushed_again_since_the_plan_stays(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """The manifest was there and is pushed by its digest once more: applied before it is our turn, it keeps it."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digest = await push(world, oci_image("a"), "v1")
        await push(world, oci_image("other"), "other")
        await world.until_known("v1", "other")
        await known(world, digest, oci_image("other").digest)
        await delete_tag(world, "v1")
        since = datetime.now(UTC)
        await push(world, oci_image("a"))
        async with asyncio.timeout(60):
            while not await pool.fetchval(
                "SELECT count(*) FROM repository_manifest WHERE pushed_again_at > $1", since
            ):
                await asyncio.sleep(0.02)
        result = await unlinked(world, digest, since=since)
        assert {digest: "skipped.used"} == {each: code for each, (code, _) in result.skipped.items()}
        assert [True] == await there(world, digest)
        assert [] == world.client.sent


async def test_unlink__an_earlier_one_brings_nothing_back_that_went_since(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """Pushed right after it was deleted, then deleted by cleanup again, tag and manifest: that is no lost push."""
    async with watched(pool, lookups, start_registry, 3) as world:
        digest = await push(world, oci_image("a"), "v1")
        await push(world, oci_image("other"), "other")
        await world.until_known("v1", "other")
        await known(world, digest, oci_image("other").digest)
        await delete_tag(world, "v1")

        async def after(method: str, _reference: str) -> None:
            if method == "DELETE":
                world.client.after = type(world.client).after
                await push(world, oci_image("a"), "again")

        world.client.after = after
        await unlinked(world, digest)
        await world.until_known("again")
        await settle(world)
        await delete_tag(world, "again")
        await pool.execute("UPDATE tag_action SET due_at = now() WHERE kind = 'unlink'")
        await settle(world)
        assert [True, False] == await there(world, digest, "again"), "the tag was deleted since"
        await unlinked(world, digest)
        await pool.execute("UPDATE tag_action SET due_at = now() WHERE kind = 'unlink'")
        await settle(world)
        assert [False, False] == await there(world, digest, "again")
        assert 0 == await pool.fetchval("SELECT count(*) FROM tag_action WHERE kind = 'put_back'")


async def test_unlink__an_index_that_is_announced_after_it_was_checked(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """The registry asked for the child, we deleted it, the index was stored: child and signature are put back."""
    async with watched(pool, lookups, start_registry, 3) as world:
        child, signature = oci_image("a"), artifact("signature", subject=oci_image("a"))
        parent = replace(index([child]), children=())  # the child is there: it is not pushed again
        digest = await push(world, child, "v1")
        attached = await push(world, signature)
        await world.until_known("v1")
        await known(world, digest, attached)
        await delete_tag(world, "v1")
        await due(world, digest, attached)

        async def before(_method: str, _reference: str) -> None:
            world.client.before = type(world.client).before
            await push(world, parent)
            await known(world, parent.digest)
            await note_that_index("now()")

        async def note_that_index(gone_at: str) -> None:
            await pool.execute(
                f"UPDATE repository_manifest SET deleted_at = {gone_at} WHERE manifest_id ="
                " (SELECT id FROM manifest WHERE digest = $1)",
                digest_to_bytes(parse_digest(parent.digest)),
            )

        world.client.before = before
        result = Unlinking()
        unlinker = Unlinker(pool, world.client, Actor(pool, world.client), repository=APP)
        for each in (digest, attached):
            wanted = [Unwanted(digest=each, since=datetime.now(UTC) + timedelta(minutes=2))]
            await unlinker.unlink(wanted, WHY, together=frozenset([digest, attached]), result=result)
            await settle(world)
        assert {} == result.skipped
        assert {("checked", "unlinked")} == set(await outcome(world))
        assert [True, False, False] == await there(world, parent.digest, digest, attached)
        assert 2 == await pool.fetchval(
            "SELECT count(*) FROM tag_action WHERE kind = 'unlink' AND due_at < now() + interval '5 minutes'"
        )
        await note_that_index("NULL")
        await pool.execute("UPDATE tag_action SET due_at = now() WHERE digest = $1", digest_to_bytes(digest))
        await settle(world)
        assert [True, True, True] == await there(world, parent.digest, digest, attached)


async def test_job__a_plan_that_is_rejected_meanwhile(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """Whether a plan allows it is asked before each manifest; what it does not allow any more stays due."""
    async with watched(pool, lookups, start_registry, 3) as world:
        images = [oci_image("one"), oci_image("two")]
        for number, image in enumerate(images):
            await push(world, image, f"v{number}")
        await world.until_known("v0", "v1")
        await known(world, *(image.digest for image in images))
        for number in range(2):
            await delete_tag(world, f"v{number}")
        await due(world, *(image.digest for image in images))

        async def reject(_method: str, _reference: str) -> None:
            await pool.execute("UPDATE cleanup_plan SET rejected_at = now(), rejected_by = 'ann'")

        world.client.before = reject
        job = await add(pool, kind="cleanup")
        assert 1 == await run_all(running(world))
        ended = await find(pool, job)
        assert (JobState.DONE, {"unlinked": 1, "hold.not_due": 1}) == (ended.state, ended.result), ended
        assert 1 == sum(await there(world, *(image.digest for image in images)))
        assert 1 == await pool.fetchval("SELECT count(*) FROM cleanup_planned WHERE ended_at IS NULL")


@pytest.mark.parametrize("how", ["held", "running_somewhere", "tagged"])
async def test_unlink__what_keeps_a_signature_keeps_its_subject(pool: Pool, how: str) -> None:
    """The signature was to go with its subject, and is wanted by now: nothing that stays loses what it refers to."""
    async with connection(pool) as connected:
        rows = Rows(connected)
        await rows.begin()
        await rows.manifest("image", repository=APP)
        await rows.manifest("signature", repository=APP, subject_digest=digest_to_bytes(d("image")))
        await rows.manifest("of-signature", repository=APP, subject_digest=digest_to_bytes(d("signature")))
        if how == "tagged":
            await rows.tag("kept", "of-signature", NOW, repository=APP)
    world = cast("Watched", SimpleNamespace(pool=pool, client=None))
    about = cast("Image", SimpleNamespace(digest=d("of-signature")))
    if how != "tagged":
        await {"held": held, "running_somewhere": running_somewhere}[how](world, about)
    result = Unlinking()
    unlinker = Unlinker(pool, world.client, Actor(pool, world.client), repository=APP)
    together = frozenset(parse_digest(d(each)) for each in ("image", "signature", "of-signature"))
    image = parse_digest(d("image"))
    await unlinker.unlink([Unwanted(digest=image, since=NOW)], WHY, together=together, result=result)
    code, text = result.skipped[image]
    assert ("skipped.needed" if how == "tagged" else "skipped.used") == code
    assert f"{d('of-signature')} is attached to it and stays" in text


@pytest.mark.full
@pytest.mark.parametrize("at", [0, 1])
async def test_unlink__killed_around_its_request(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int, *, at: int
) -> None:
    """A process killed before its request has deleted nothing; one killed after it lost no push either."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        digest = await push(world, oci_image("a"), "v1")
        await world.until_known("v1")
        await known(world, digest)
        await delete_tag(world, "v1")

        async def kill(_method: str, _reference: str) -> None:
            raise Killed

        async def push_then(_method: str, _reference: str) -> None:
            await push(world, oci_image("a"), "again")

        if at == 0:
            world.client.before = kill
        else:
            world.client.before, world.client.after = push_then, kill
        with pytest.raises(Killed):
            await only_tried(world, digest)
        world.client.before = world.client.after = type(world.client).before
        await pool.execute(
            "UPDATE tag_action SET lease_until = '-infinity', due_at = now(),"
            " requested_at = requested_at - $1::interval WHERE kind = 'unlink'",
            timedelta(
                minutes=0 if at else 3
            ),  # later it is known that the request is not on its way any more
        )
        await settle(world)
        assert [True] == await there(world, digest)
        if at == 1:
            assert [True] == await there(world, "again")
            assert [("checked", "put_back")] == await outcome(world)
        else:
            assert [("skipped", "not_done")] == await outcome(world)


@pytest.mark.full
async def test_unlink__a_process_that_slept_beyond_its_lease(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """Once another process has the action, the first sends nothing more."""
    async with watched(pool, lookups, start_registry, 3) as world:
        digest = await push(world, oci_image("a"), "v1")
        await world.until_known("v1")
        await known(world, digest)
        await delete_tag(world, "v1")

        async def check(*, finishing: bool = False) -> None:
            del finishing
            if await pool.fetchval("SELECT count(*) FROM tag_action WHERE kind = 'unlink'"):
                await pool.execute("UPDATE tag_action SET lease_until = '-infinity', due_at = now()")
                await settle(world)

        result = Unlinking()
        unlinker = Unlinker(pool, world.client, Actor(pool, world.client, check=check), repository=APP)
        wanted = [Unwanted(digest=digest, since=datetime.now(UTC) + timedelta(minutes=2))]
        with pytest.raises(Exception, match="another process"):
            await unlinker.unlink(wanted, WHY, together=frozenset([digest]), result=result)
        assert [] == world.client.sent
        assert [True] == await there(world, digest)


@pytest.mark.full
async def test_unlink__a_registry_that_may_hide_tags(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where tags/list may leave tags out, nothing is deleted by digest; a listing that could not, is enough."""
    async with watched(pool, lookups, start_registry, 3) as world:
        digest = await push(world, oci_image("a"), "v1")
        await push(world, oci_image("b"), "build-1")
        await world.until_known("v1", "build-1")
        await known(world, digest, oci_image("b").digest)
        await delete_tag(world, "v1")
        list_tags = world.client.list_tags

        async def never_unknown(repository: RepositoryName) -> Any:
            if repository == hidden_tags.NEVER_THERE:
                return SimpleNamespace(unknown_repository=False)
            return await list_tags(repository)

        monkeypatch.setattr(world.client, "list_tags", never_unknown)
        result = await unlinked(world, digest)
        assert ["hold.hidden_tags"] == [code for code, _ in result.skipped.values()]
        assert [True] == await there(world, digest)
        await push(world, oci_image("c"), "build-10")
        await world.until_known("build-10")
        await known(world, oci_image("c").digest)
        result = await unlinked(world, digest)
        assert {} == result.skipped
        assert [False, True, True] == await there(world, digest, "build-1", "build-10")


async def test_needs__by_the_record(pool: Pool) -> None:
    """A manifest of a repository that is not known, or with nothing about it, needs nothing and is not complete."""
    async with connection(pool) as connected:
        digest = parse_digest(oci_image("a").digest)
        assert [] == await unlinking.needs(connected, repository=APP, digests=[digest])
        assert await unlinking.is_incomplete(connected, repository=APP)
        assert await unlinking.unsettled(connected, repository=APP, but=uuid.uuid4()) is None

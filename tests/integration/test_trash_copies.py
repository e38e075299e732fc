"""Copies below ``undo.trash``: what was deleted comes back after the registry's own collection, on both versions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from indexer.inventory.own_actions import ActionKind
from indexer.inventory.trash import copy_tag
from indexer.jobs.job import JobState
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import tag_actions as store
from indexer.store import trash_copies
from indexer.store.listing.trash import TrashFilter, deleted_of, listed_trash
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, transaction
from reconciler.cleanup import decide
from reconciler.cleanup.act import Actor, SkipError, planned
from reconciler.cleanup.trash import HELD, Trash, delete_expired
from reconciler.registry.answers import NotFound
from tests.fixtures.acting import Watched, watched
from tests.fixtures.jobs import add, find, run_all
from tests.fixtures.registries import StartRegistry
from tests.integration.test_cleanup_job import plan_all, policies
from tests.integration.test_unlinking import (
    APP,
    PEOPLE,
    WHY,
    delete_tag,
    known,
    push,
    running,
    settle,
    there,
)
from tools.sample_images import Image, artifact, docker_image, index, oci_image

BELOW = RepositoryName("trash/team/app")
WITH_TRASH = policies().replace(b"pending: 0s", b"pending: 0s, trash: trash")

pytestmark = [pytest.mark.usefixtures("hurry"), pytest.mark.slow]


def images() -> tuple[Image, list[Image]]:
    """An index over two images, one of which another image shares a layer with, and what is attached to it."""
    goes = index([oci_image("a"), docker_image("b")])
    signature = artifact("signature", subject=goes)
    return goes, [goes, signature, *goes.children]


async def always(*, finishing: bool = False) -> None:
    del finishing


async def unlink_all(world: Watched, wanted: Sequence[Image], content: bytes = WITH_TRASH) -> dict[str, int]:
    """Have the job delete these manifests; return what it says."""
    async with transaction(world.pool) as held:
        await plan_all(held, content, [(APP, None, each.digest) for each in wanted])
        await held.execute("UPDATE cleanup_plan SET confirmed_at = now() + interval '2 minutes'")
        await held.execute("UPDATE cleanup_planned SET named_at = now() + interval '2 minutes'")
    job = await add(world.pool, kind="cleanup")
    assert 1 == await run_all(running(world))
    ended = await find(world.pool, job)
    assert ended.state is JobState.DONE, ended
    await settle(world)
    return dict(ended.result or {})


async def collect(world: Watched, patch: pytest.MonkeyPatch, *options: str) -> None:
    """Run the registry's own collection. It is another process then: of the one before nothing is heard any more."""
    await asyncio.to_thread(world.server.stop)
    await asyncio.to_thread(world.server.garbage_collect, *options)
    await asyncio.to_thread(world.server.start)
    patch.setattr(decide, "SILENT_AFTER", timedelta(seconds=2))


def stored(world: Watched, image: Image) -> list[bool]:
    """Whether each blob of an image lies in the storage."""
    return [
        any(world.server.storage_dir.rglob(f"blobs/sha256/{blob.digest[7:9]}/{blob.digest[7:]}/data"))
        for blob in image.blobs
    ]


async def is_whole(world: Watched, image: Image) -> bool:
    """Whether every byte of it and of its children is in the repository."""
    answer = await world.client.get_manifest(APP, Digest(image.digest))
    if isinstance(answer, NotFound) or answer.content != image.manifest.data:
        return False
    for blob in image.blobs:
        if await world.client.get_blob(APP, Digest(blob.digest), limit=1_000_000) != blob.data:
            return False
    return all([await is_whole(world, child) for child in image.children])


async def restored(world: Watched, tag: str) -> None:
    deletion = await store.newest_deletion(world.pool, repository=APP, tag=TagName(tag))  # type: ignore[arg-type]
    assert deletion is not None
    kept = await store.kept_of(world.pool, number=deletion.id)  # type: ignore[arg-type]
    number = await Actor(world.pool, world.client).restore(deletion, PEOPLE, force=False, kept=kept)
    assert number is not None
    await settle(world)


async def shown_as_copied(pool: Pool) -> bool:
    listing = listed_trash(granted=None, wanted=TrashFilter())
    rows = await pool.fetch(
        f"SELECT {listing.outer} FROM (SELECT id FROM tag_action WHERE kind = 'delete') AS w {listing.joins}"
    )
    (row,) = rows
    return deleted_of(row).copied


@pytest.mark.parametrize("options", [(), pytest.param(("--delete-untagged",), marks=pytest.mark.full)])
async def test_copies__survive_the_registrys_own_collection(
    pool: Pool,
    lookups: Lookups,
    start_registry: StartRegistry,
    registry_version: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    options: tuple[str, ...],
) -> None:
    """Deleted with its family, collected, restored byte for byte; once it is kept no longer, the bytes are freed."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        goes, family = images()
        await push(world, goes, "v1")
        await push(world, family[1])
        await push(world, oci_image("stays"), "stays")
        await world.until_known("v1", "stays")
        await known(world, *(each.digest for each in family), oci_image("stays").digest)
        await delete_tag(world, "v1")
        assert {"unlinked": 4} == await unlink_all(world, family)
        assert [False] * 4 == await there(world, *(each.digest for each in family))
        for each in family:
            assert each.digest == await asyncio.to_thread(
                world.pusher.digest_of, BELOW, copy_tag(Digest(each.digest))
            )
        assert 4 == await pool.fetchval("SELECT count(*) FROM trash_copy WHERE put_at IS NOT NULL")
        await collect(world, monkeypatch, *options)
        assert [True] * 3 == stored(world, family[2])
        await restored(world, "v1")
        assert goes.digest == await asyncio.to_thread(world.pusher.digest_of, APP, "v1")
        assert [True, True] == [await is_whole(world, each) for each in (goes, family[1])]
        # once more without a restore: what is kept no longer is freed
        await world.until_known("v1")
        await known(world, *(each.digest for each in family))
        await delete_tag(world, "v1")
        await pool.execute("UPDATE tag_action SET kept_until = now() - interval '1 second'")
        await pool.execute("UPDATE trash_copy SET kept_until = now() - interval '1 second'")
        job = await add(pool, kind="cleanup", params={"repositories": ["team/app"]})
        assert 1 == await run_all(running(world))
        assert {"copies_deleted": 4} == (await find(pool, job)).result
        assert 0 == await pool.fetchval("SELECT count(*) FROM trash_copy")
        assert not (await world.client.list_tags(BELOW)).names
        assert [True] * 4 == await there(world, *(each.digest for each in family)), "the copies only"


@pytest.mark.full
async def test_copies__without_them_the_collection_takes_it(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trash is off by default; the restore says what is gone, and changes nothing."""
    async with watched(pool, lookups, start_registry, 3) as world:
        image = oci_image("a")
        await push(world, image, "v1")
        await push(world, oci_image("stays"), "stays")
        await world.until_known("v1", "stays")
        await known(world, image.digest, oci_image("stays").digest)
        await delete_tag(world, "v1")
        assert {"unlinked": 1} == await unlink_all(world, [image], policies())
        assert not await shown_as_copied(pool)
        await collect(world, monkeypatch)
        with pytest.raises(SkipError, match="garbage was collected"):
            await restored(world, "v1")
        assert [False, False] == await there(world, image.digest, "v1")


async def test_copies__what_cannot_be_copied_stays(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """Of an image without its layer no copy can be made: it is not deleted, says why, and stays due."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        image = oci_image("a")
        await push(world, image, "v1")
        await world.until_known("v1")
        await known(world, image.digest)
        await delete_tag(world, "v1")
        layer = image.blobs[-1].digest
        for path in world.server.storage_dir.rglob(f"blobs/sha256/{layer[7:9]}/{layer[7:]}/data"):
            path.unlink()
        assert {HELD: 1} == await unlink_all(world, [image])
        assert [True] == await there(world, image.digest)
        assert await pool.fetchval("SELECT ended_at IS NULL FROM cleanup_planned")
        note = await pool.fetchval("SELECT note FROM tag_action WHERE kind = 'unlink'")
        assert f"{layer} could not be mounted into {BELOW}" in note
        assert not await shown_as_copied(pool)


async def test_copies__one_that_is_being_deleted_is_waited_for(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """Nothing relies on a copy that is about to go; and one that somebody else tagged is left to them."""
    async with watched(pool, lookups, start_registry, 3) as world:
        image = oci_image("a")
        digest = await push(world, image, "v1")
        await known(world, digest)
        async with transaction(pool) as held:
            actor = Actor(pool, world.client)
            action = planned(ActionKind.UNLINK, APP, TagName(""), digest, WHY)
            assert await actor.put_on_record(held, action)
            await store.keep_manifests(held, number=action.id, manifests=[], now=datetime.now(UTC))
        family = [
            store.KeptManifest(
                role="tagged", digest=digest, media_type=image.media_type, content=image.manifest.data
            )
        ]
        trash = Trash(pool, world.client, actor, below="trash")
        await trash.copy(action, family)
        await pool.execute("UPDATE trash_copy SET kept_until = now() - interval '1 second'")
        async with transaction(pool) as held:
            (taken,) = await trash_copies.take_expired(
                held, before=datetime.now(UTC), limit=5, lease_seconds=60, repositories=None
            )
        assert (APP, BELOW, digest) == (taken.repository, taken.trash, taken.digest)
        with pytest.raises(SkipError, match="is being deleted just now"):
            await trash.copy(action, family)
        assert 0 == await delete_expired(pool, world.client, check=always, repositories=None), "it is taken"
        await pool.execute("UPDATE trash_copy SET lease_until = '-infinity'")
        await asyncio.to_thread(world.pusher.push, BELOW, image, "mine")
        await world.until_known("mine")
        assert 0 == await delete_expired(pool, world.client, check=always, repositories=[APP])
        assert digest == await asyncio.to_thread(world.pusher.digest_of, BELOW, "mine")
        assert 0 == await pool.fetchval("SELECT count(*) FROM trash_copy")


@pytest.mark.full
async def test_copies__are_made_of_whole_images_once(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry
) -> None:
    """A second copy of the same manifest sends nothing, and both are kept until the later instant."""
    async with watched(pool, lookups, start_registry, 3) as world:
        image = oci_image("a")
        digest = await push(world, image, "v1")
        actor = Actor(pool, world.client)
        action = planned(ActionKind.UNLINK, APP, TagName(""), digest, WHY)
        async with transaction(pool) as held:
            assert await actor.put_on_record(held, action)
        family = [
            store.KeptManifest(
                role="tagged", digest=digest, media_type=image.media_type, content=image.manifest.data
            )
        ]
        trash = Trash(pool, world.client, actor, below="trash")
        await trash.copy(action, family)
        sent = len(world.client.sent)
        await trash.copy(action, family)
        assert (1, 1) == (sent, len(world.client.sent))
        later = action.kept_until + timedelta(days=1)
        async with transaction(pool) as held:
            for until in (later, action.kept_until):
                assert await trash_copies.plan_copies(
                    held, repository=APP, trash=BELOW, digests=[digest], kept_until=until
                )
        assert later == await pool.fetchval("SELECT kept_until FROM trash_copy")

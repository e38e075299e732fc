"""Deleting beside pushers, with kills between any two requests: no push is lost, no sibling goes."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from indexer.oci.reference import RepositoryName, TagName
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.cleanup.act import Actor, Deleting, LeaseLost, Wanted, Why
from reconciler.cleanup.observe import find_way
from reconciler.cleanup.settle import Settler
from tests.chaos.cleanup import SEEDS, seeds
from tests.fixtures.acting import Interrupted, Watched, watched
from tests.fixtures.registries import StartRegistry
from tools.sample_images import Image, Pusher, PushError, docker_image, oci_image

APP = RepositoryName("team/app")
WHY = Why(source="policy", actor="chaos")
TAGS = 52
DELETIONS = 500
SHARE_PUSHED = 0.15
"""Of the requests: somebody pushes to one of the tags right before it."""
SHARE_KILLED = 0.01
TRIES = 5

pytestmark = [
    pytest.mark.usefixtures("hurry"),
    pytest.mark.full,
    pytest.mark.slow,
    pytest.mark.skipif(SEEDS not in os.environ, reason="run by hand: python3 dev.py chaos --cleanup"),
]


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Chaos:
    """What was pushed last to each tag, and what happened."""

    world: Watched
    chance: random.Random
    pushed: dict[str, str] = field(default_factory=dict)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    pushes: int = 0
    between: int = 0
    kills: int = 0
    failed: int = 0
    number: int = 0

    def image(self) -> Image:
        self.number += 1
        make: Callable[[str], Image] = self.chance.choice([oci_image, docker_image])
        return make(f"image {self.number}")

    async def push(self, tag: str, image: Image | None = None) -> None:
        """One pusher at a time for each tag, so that it is known which push was the last."""
        async with self.locks.setdefault(tag, asyncio.Lock()):
            image = image or self.image()
            await self._push(image, tag)
            self.pushed[tag] = image.digest
            self.pushes += 1

    async def _push(self, image: Image, tag: str) -> None:
        """Push as clients do: again, where the registry fails because the tag's directory goes at that moment.

        It has announced such a push by then, so it may be put back: only another answer says what the tag must be.
        """
        for _ in range(TRIES):
            try:
                return await asyncio.to_thread(push, self.world.server.url, image, tag)
            except PushError as error:
                if ": 500 " not in str(error) or "Path not found" not in str(error):
                    raise
                self.failed += 1
        raise AssertionError(f"{TRIES} pushes of {tag} failed one after the other")


def push(url: str, image: Image, tag: str) -> None:
    with Pusher(url) as pusher:
        pusher.push(APP, image, tag)


async def delete_all(chaos: Chaos, tags: list[str]) -> int:
    """Delete tags in a process that may be killed; others finish what it leaves. Return how many were begun."""
    world = chaos.world
    result = Deleting()
    dead = False

    async def before(_method: str, reference: str) -> None:
        nonlocal dead
        if dead or chaos.chance.random() < SHARE_KILLED:
            dead = True
            chaos.kills += 1
            raise Killed
        if chaos.chance.random() < SHARE_PUSHED:
            await chaos.push(reference if reference in tags else chaos.chance.choice(tags))
            chaos.between += 1

    async def after(_method: str, _reference: str) -> None:
        nonlocal dead
        if dead or chaos.chance.random() < SHARE_KILLED:
            dead = True
            chaos.kills += 1
            raise Killed

    async with Interrupted(world.settings) as client:
        client.sent, client.before, client.after = [], before, after
        way = await find_way(client, APP)
        try:
            wanted = [Wanted(tag=TagName(tag)) for tag in tags]
            await Actor(world.pool, client).delete_tags(APP, wanted, WHY, way=way, result=result)
        except (Killed, LeaseLost):
            pass
    return len(result.begun)


async def settle(world: Watched) -> None:
    """Two other processes finish everything, at once."""
    await world.pool.execute(
        "UPDATE tag_action SET lease_until = '-infinity', due_at = now(),"
        " requested_at = requested_at - interval '3 minutes' WHERE ended_at IS NULL"
    )
    settlers = [Settler(world.pool, world.client), Settler(world.pool, world.client)]
    async with asyncio.timeout(180):
        while await world.pool.fetchval(
            "SELECT count(*) FROM tag_action WHERE ended_at IS NULL OR state = 'uncertain' OR due_at <= now()"
        ):
            done = await asyncio.gather(*(settler.settle() for settler in settlers))
            if not any(done):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("seed", seeds())
async def test_chaos__no_push_is_lost(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int, *, seed: int
) -> None:
    """After each round every tag is what was pushed to it last, or was deleted at exactly that; siblings are whole."""
    begun = 0
    async with watched(pool, lookups, start_registry, registry_version) as world:
        chaos = Chaos(world, random.Random(seed))
        tags = [f"v{number}" for number in range(TAGS)]
        siblings: dict[str, Image] = {}
        round_number = 0
        while begun < DELETIONS:
            for tag in tags:
                if await asyncio.to_thread(world.pusher.digest_of, APP, tag) is None:
                    image = chaos.image()
                    await chaos.push(tag, image)
                    if round_number == 0:
                        siblings[f"sibling-{tag}"] = image
                        await asyncio.to_thread(push, world.server.url, image, f"sibling-{tag}")
            await world.until_known(*tags)
            pushing = asyncio.create_task(keep_pushing(chaos, tags))
            begun += await delete_all(chaos, tags)
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
            for lock in chaos.locks.values():  # the last push may be under way
                async with lock:
                    pass
            await settle(world)
            await check(chaos, tags)
            round_number += 1
        for tag, image in siblings.items():
            assert await asyncio.to_thread(world.pusher.digest_of, APP, tag) == image.digest
            for blob in image.blobs:
                content = await world.client.get_blob(APP, blob.digest, limit=10_000_000)  # type: ignore[arg-type]
                assert content is not None
                assert len(content) == blob.size
        put_back = await pool.fetchval(
            "SELECT count(*) FROM tag_action WHERE kind = 'put_back' AND done_at IS NOT NULL"
        )
    print(
        f"seed {seed} on {registry_version}: {begun} deletions begun, {chaos.pushes} pushes, {chaos.between} in "
        f"between, {put_back} put back, {chaos.kills} kills, {chaos.failed} pushes failed at first"
    )
    assert begun >= DELETIONS
    assert chaos.between >= 20
    assert put_back >= 10


async def keep_pushing(chaos: Chaos, tags: list[str]) -> None:
    while True:
        await asyncio.shield(chaos.push(chaos.chance.choice(tags)))
        await asyncio.sleep(chaos.chance.random() * 0.2)


async def check(chaos: Chaos, tags: list[str]) -> None:
    """Every tag is what was pushed to it last, or was deleted when it was exactly that."""
    world = chaos.world
    dummies = {
        f"sha256:{row['digest'][1:].hex()}"
        for row in await world.pool.fetch("SELECT digest FROM dummy_manifest")
    }
    rows = await world.pool.fetch(
        "SELECT DISTINCT ON (tag) tag, digest FROM tag_action"
        " WHERE kind = 'delete' AND outcome = 'deleted' ORDER BY tag, requested_at DESC"
    )
    deleted = {row["tag"]: f"sha256:{row['digest'][1:].hex()}" for row in rows}
    for tag in tags:
        digest = await asyncio.to_thread(world.pusher.digest_of, APP, tag)
        assert digest not in dummies, f"{tag} was left on a dummy"
        if digest is None:
            assert deleted.get(tag) == chaos.pushed[tag], f"the last push of {tag} is lost"
        else:
            assert digest == chaos.pushed[tag], f"the last push of {tag} is lost: it points to {digest}"
    there = {tag for tag in tags if await asyncio.to_thread(world.pusher.digest_of, APP, tag)}
    listed = set((await world.client.list_tags(APP)).names)
    assert {tag for tag in listed if not tag.startswith("sibling")} == there

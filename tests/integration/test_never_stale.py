"""Writers, late and reordered events, verifications, questions: no answer is older than its question."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from indexer.api import barrier as module
from indexer.api.barrier import Barrier
from indexer.ingest import worker as ingesting
from indexer.ingest.worker import IngestWorker
from indexer.oci.digest import digest_from_bytes, parse_digest
from indexer.oci.reference import RepositoryName
from indexer.store import inbox, write_notices
from indexer.store.write_notices import Scope
from reconciler.verify.requested import RequestedComparer, RequestedVerifier
from tests.fixtures.floods import delivery
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import RequestInfo, Source
from tests.simulators.state import RegistryState
from tools.sample_images import oci_image

if TYPE_CHECKING:
    from indexer.background.loop import Loop
    from indexer.store.lookups import Lookups
    from indexer.store.pool import Pool

APP = RepositoryName("team/app")
TAGS = ("a", "b", "c")
IMAGES = [oci_image(f"image {number}") for number in range(4)]
QUESTIONS = 60
FEW = 20
BEHIND = timedelta(seconds=3)
"""How far the registry's clock is behind: an observation is conclusive, and an event that comes later overrules it."""

Tags = dict[str, str]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is asked at once, and what was asked comes back between late events."""
    for name, seconds in {
        "UNNOTICED_SECONDS": 0.0,
        "EVENT_SECONDS": 0.0,
        "ASK_AGAIN_SECONDS": 0.02,
        "FAILED_SECONDS": 0.0,
        "POLL_SECONDS": 0.005,
        "HAND_OVER_SECONDS": 2.0,
        "PATIENT_SECONDS": 2.0,
    }.items():
        monkeypatch.setattr(module, name, seconds)
    for name in ("GATHER_SECONDS", "RUSH_GATHER_SECONDS"):
        monkeypatch.setattr(ingesting, name, 0.0)


class World:
    """A registry of two processes on one storage, whose events come late, and what is asked meanwhile."""

    def __init__(self, pool: Pool, lookups: Lookups, seed: int) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.state = RegistryState(clock=lambda: datetime.now(UTC) - BEHIND)
        self.state.listeners.append(self.queue_event)
        self.queues: tuple[deque[dict[str, Any]], ...] = (deque(), deque())
        self.sources = (Source(address="one:5000"), Source(address="two:5000"))
        self.registry = DirectRegistry(self.state)
        self.worker = IngestWorker(pool, lookups)
        self.verifier = RequestedVerifier(pool, lookups, self.registry, concurrency=8)
        self.comparer = RequestedComparer(pool, lookups, self.registry, concurrency=8)
        self.barriers = (Barrier(pool), Barrier(pool))
        self.truth: list[Tags] = [{}]
        self.writes = 0
        self.outcomes: Counter[str] = Counter()
        self.stale: list[str] = []

    def queue_event(self, event: dict[str, Any]) -> None:
        self.queues[self.sources.index(self.state.source)].append(event)

    async def pause(self, most: float) -> None:
        await asyncio.sleep(self.chance.random() * most)

    async def write(self) -> None:
        """Give notice, pass the write some time later, and see what the registry has then."""
        self.writes += 1
        number = f"write-{self.writes:08}"
        tag, image = self.chance.choice(TAGS), self.chance.choice(IMAGES)
        kind = self.chance.choice(["push", "push", "push", "delete tag", "delete digest", "refused"])
        reference = image.digest if kind == "delete digest" else tag
        method = "DELETE" if kind.startswith("delete") else "PUT"
        async with self.pool.acquire() as held:
            await write_notices.put_notice(
                held, number=number, repository=APP, reference=reference, method=method
            )
        await self.pause(0.02)
        request = RequestInfo(method=method, user_agent=f"client/1 indexer-write/{number}")
        self.state.source = self.chance.choice(self.sources)
        if kind == "push":
            self.state.push(APP, image.manifest.data, media_type=image.media_type, tag=tag, request=request)
        elif kind == "delete tag":
            self.state.delete_tag(APP, tag, request=request)
        elif kind == "delete digest":
            self.state.delete_manifest(APP, parse_digest(image.digest), request=request)
        stored = self.state.repositories.get(APP)
        self.truth.append(dict(stored.tags) if stored is not None else {})

    async def keep_writing(self) -> None:
        while True:
            await self.write()
            await self.pause(0.06)

    async def keep_delivering(self) -> None:
        """Deliver some events of one process, some time after the registry made them."""
        while True:
            await self.pause(0.12)
            queue = self.chance.choice(self.queues)
            some = [queue.popleft() for _ in range(min(len(queue), self.chance.randint(1, 4)))]
            if some:
                async with self.pool.acquire() as held:
                    await inbox.put_deliveries(
                        held,
                        deliveries=[
                            delivery(each, can_wait=False, received_at=datetime.now(UTC)) for each in some
                        ],
                    )
                while (await self.worker.run_once()).items:
                    pass

    async def keep_verifying(self) -> None:
        while True:
            await self.pause(0.03)
            loops: tuple[Loop, ...] = (self.verifier, self.verifier, self.comparer)
            await self.chance.choice(loops).run_once()

    async def read(self) -> Tags:
        await self.pause(0.01)
        rows = await self.pool.fetch(
            "SELECT t.name, m.digest FROM tag AS t JOIN manifest AS m ON m.id = t.manifest_id"
        )
        return {row["name"]: digest_from_bytes(row["digest"]) for row in rows}

    async def ask(self, names: bool) -> None:
        """Ask, and compare each tag with what the registry had from the question on."""
        began = len(self.truth) - 1
        barrier = self.chance.choice(self.barriers)
        scope = Scope(repository=APP, names=names)
        answer = await barrier.answer(scope, self.read, patient=not names)
        self.outcomes["handed over" if answer is None else "answered"] += 1
        if answer is None:
            return
        for tag in TAGS:
            had = {state.get(tag) for state in self.truth[began:]}
            found = answer.get(tag)
            if found not in had and not (names and (found is None) in {each is None for each in had}):
                self.stale.append(f"{tag} after write {self.writes}: {found}, the registry had {had}")

    async def run(self, questions: int) -> None:
        tasks = [
            asyncio.create_task(each)
            for each in (
                self.keep_writing(),
                self.keep_writing(),
                self.keep_delivering(),
                self.keep_verifying(),
                self.keep_verifying(),
            )
        ]
        try:
            for _ in range(questions):
                await asyncio.gather(self.ask(names=True), self.ask(names=False), self.pause(0.05))
                for task in tasks:
                    if task.done():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def hunt(pool: Pool, lookups: Lookups, *, seed: int, questions: int) -> None:
    world = World(pool, lookups, seed)
    await world.run(questions)
    print(world.outcomes, world.writes, "writes", world.stale)
    assert not world.stale, "; ".join(world.stale)
    assert world.outcomes["answered"] >= questions // 4, world.outcomes


@pytest.mark.full
@pytest.mark.slow
async def test_answers__are_never_older_than_their_question(pool: Pool, lookups: Lookups) -> None:
    """Two processes of a registry, two of the indexer, refused writes, and events that come after what they changed."""
    await hunt(pool, lookups, seed=1, questions=FEW)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 13))
async def test_answers__in_any_order_are_never_older(pool: Pool, lookups: Lookups, seed: int) -> None:
    """So it is in whatever order things happen."""
    await hunt(pool, lookups, seed=seed, questions=QUESTIONS)

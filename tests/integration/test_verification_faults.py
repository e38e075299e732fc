"""Verification goes on: past a tag that cannot be looked at or stored, and past a clock that was set back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from indexer.common.errors import StoreUnavailable
from indexer.ingest.worker import IngestWorker
from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import apply, inbox, work_items
from indexer.store.apply import ObservedRevision, Stored
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.registry.answers import TagAnswer
from reconciler.verify import decide
from reconciler.verify.loop import Verifier
from tests.fixtures.ingesting import check_counters, check_history, recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import oci_image

APP = RepositoryName("team/app")
TAGS = ("a", "b", "bad", "c")
FIRST, SECOND = oci_image("first"), oci_image("second")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timedelta(milliseconds=5)
    monkeypatch.setattr(work_items, "FIRST_OBSERVATION_DELAY", moment)
    monkeypatch.setattr(work_items, "OBSERVATION_SPACING", moment)
    monkeypatch.setattr(decide, "SPACING", moment)


async def take_in(pool: Pool, lookups: Lookups, events: list[Any], *, received_at: datetime) -> None:
    async with pool.acquire() as connection:
        body = orjson.dumps({"events": events})
        await inbox.put_deliveries(connection, deliveries=[Delivery(received_at=received_at, body=body)])
    worker = IngestWorker(pool, lookups, batch=100)
    while (await worker.run_once()).items:
        pass
    events.clear()


async def pushed(pool: Pool, lookups: Lookups, *tags: str) -> tuple[RegistryState, list[Any]]:
    """Return a registry that told a minute ago of tags, and what it tells from now on."""
    events: list[Any] = []
    minute = timedelta(minutes=1)
    state = RegistryState(clock=lambda: datetime.now(UTC) - minute)
    state.listeners.append(events.append)
    for tag in tags:
        state.push(APP, FIRST.manifest.data, media_type=FIRST.media_type, tag=tag)
    await take_in(pool, lookups, events, received_at=datetime.now(UTC))
    state.clock = lambda: datetime.now(UTC)
    return state, events


async def attempts(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("SELECT key, attempts FROM work_item WHERE kind = 'verify'")
    return {row["key"]: row["attempts"] for row in rows}


async def rounds(pool: Pool, verifier: Verifier, *, until: int) -> None:
    """Look until so many tags are left, as soon as they may be."""
    async with asyncio.timeout(60):
        while until < await pool.fetchval("SELECT count(*) FROM work_item WHERE kind = 'verify'"):
            await verifier.run_once()
            await asyncio.sleep(0.005)


async def test_tag__that_cannot_be_stored_holds_up_no_other(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with one look is that tag's failure: it is counted, and waits longer each time."""
    state, _ = await pushed(pool, lookups, *TAGS)
    apply_tag_observations = apply.apply_tag_observations

    async def refuse(
        held: Any, words: Lookups, observations: Sequence[ObservedRevision], **named: Any
    ) -> list[Stored]:
        if "bad" in {look.observation.tag for look in observations}:
            raise ValueError("refused")
        return await apply_tag_observations(held, words, observations, **named)

    verifier = Verifier(pool, lookups, DirectRegistry(state), concurrency=4)
    waits = []
    with monkeypatch.context() as patch:
        patch.setattr(apply, "apply_tag_observations", refuse)
        await rounds(pool, verifier, until=1)
        for count in range(1, 4):
            assert {"bad": count} == await attempts(pool)
            waits.append(await pool.fetchval("SELECT due_at - now() FROM work_item WHERE kind = 'verify'"))
            assert 0 == (await verifier.run_once()).items
            await pool.execute("UPDATE work_item SET due_at = now()")
            await verifier.run_once()
        async with pool.acquire() as connection:
            assert 1 == (await work_items.backlog(connection))[WorkKind.VERIFY].failing
    assert timedelta(0) < waits[0] < waits[1] < waits[2]
    assert 1 == await pool.fetchval("SELECT count(*) FROM tag WHERE verified_at IS NULL")
    await pool.execute("UPDATE work_item SET due_at = now()")
    await rounds(pool, verifier, until=0)
    assert 0 == await pool.fetchval("SELECT count(*) FROM tag WHERE verified_at IS NULL")


async def test_tag__that_cannot_be_looked_at_holds_up_no_other(pool: Pool, lookups: Lookups) -> None:
    """An error that nobody foresaw, of one tag, leaves its neighbours to be verified."""
    state, _ = await pushed(pool, lookups, *TAGS)

    class Odd(DirectRegistry):
        async def head_tag(self, repository: RepositoryName, tag: TagName, **more: Any) -> TagAnswer:
            if tag == "bad":
                raise ValueError("odd")
            return await super().head_tag(repository, tag, **more)

    await rounds(pool, Verifier(pool, lookups, Odd(state), concurrency=4), until=1)
    assert {"bad": 1} == await attempts(pool)
    assert 1 == await pool.fetchval("SELECT count(*) FROM tag WHERE verified_at IS NULL")


async def test_database__that_is_away_is_no_tags_fault(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round fails, for the harness to wait; nothing is counted against a tag."""
    state, _ = await pushed(pool, lookups, *TAGS)

    async def away(*_: object, **__: object) -> list[Stored]:
        raise StoreUnavailable("gone")

    await asyncio.sleep(0.01)
    with monkeypatch.context() as patch:
        patch.setattr(apply, "apply_tag_observations", away)
        with pytest.raises(StoreUnavailable):
            await Verifier(pool, lookups, DirectRegistry(state), concurrency=4).run_once()
    assert dict.fromkeys(TAGS, 0) == await attempts(pool)


async def test_observation__that_an_event_overtook_changes_nothing(pool: Pool, lookups: Lookups) -> None:
    """The tag moved after it was observed, and the event is applied before the observation is stored."""
    state, events = await pushed(pool, lookups, "v1")
    minute = timedelta(minutes=1)

    class Overtaken(DirectRegistry):
        async def head_tag(self, repository: RepositoryName, tag: TagName, **more: Any) -> TagAnswer:
            answer = await super().head_tag(repository, tag, **more)
            if len(self.asked) == 1:
                self.state.clock = lambda: datetime.now(UTC) - minute  # so that the race window is over
                self.state.push(APP, SECOND.manifest.data, media_type=SECOND.media_type, tag="v1")
                await take_in(pool, lookups, events, received_at=datetime.now(UTC))
            return answer

    registry = Overtaken(state)
    verifier = Verifier(pool, lookups, registry, concurrency=4)
    async with asyncio.timeout(20):
        while not registry.asked:
            await verifier.run_once()
    assert {(APP, "v1"): SECOND.digest} == await recorded_tags(pool)
    assert [(0, 0)] == [
        tuple(row)
        for row in await pool.fetch("SELECT observations, confirmations FROM work_item WHERE kind = 'verify'")
    ]
    await rounds(pool, verifier, until=0)
    assert {(APP, "v1"): SECOND.digest} == await recorded_tags(pool)
    assert 0 == await pool.fetchval("SELECT count(*) FROM drift_finding")


async def test_repository__that_vanished_is_left_to_the_reconcile(pool: Pool, lookups: Lookups) -> None:
    """It may be storage that is not mounted, and only a reconcile has a brake. A tag that is gone alone is deleted."""
    state, _ = await pushed(pool, lookups, *TAGS)
    kept = await recorded_tags(pool)
    repository = state.repositories.pop(APP)
    verifier = Verifier(pool, lookups, DirectRegistry(state), concurrency=4)
    await rounds(pool, verifier, until=0)
    assert kept == await recorded_tags(pool)
    state.repositories[APP] = repository
    state.remove_silently(APP, tag="bad")
    await pool.execute(
        "INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)"
        " SELECT 'verify', repository_id, name, now(), now() FROM tag"
    )
    await rounds(pool, verifier, until=0)
    assert {"a", "b", "c"} == {tag for _, tag in await recorded_tags(pool)}


async def test_broken_tag__is_read_each_time_until_it_is_verified(pool: Pool, lookups: Lookups) -> None:
    """Its manifest may come back between two observations, and a 304 would not show it."""
    state, _ = await pushed(pool, lookups, "v1")
    kept = dict(state.repositories[APP].manifests)
    state.repositories[APP].manifests.clear()
    verifier = Verifier(pool, lookups, DirectRegistry(state), concurrency=4)
    async with asyncio.timeout(20):
        while not await pool.fetchval("SELECT broken_reason FROM tag"):
            await verifier.run_once()
    state.repositories[APP].manifests.update(kept)
    await rounds(pool, verifier, until=0)
    assert await pool.fetchval("SELECT broken_reason FROM tag") is None
    assert await pool.fetchval("SELECT read_at FROM tag") is not None


@pytest.mark.parametrize("back", [timedelta(minutes=1), timedelta(hours=1)])
@pytest.mark.parametrize("registry_too", [False, True], ids=["ours", "both"])
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not-announced"])
async def test_clock__that_is_set_back_delays_nothing(
    pool: Pool, lookups: Lookups, *, back: timedelta, registry_too: bool, announced: bool
) -> None:
    """A tag that moves after our clock went back is right after a few looks, and not called verified until then."""
    state, events = await pushed(pool, lookups, "v1")
    await pool.execute("UPDATE tag SET last_event_at = now()")  # an event just before the clock went back
    registry = DirectRegistry(state)
    verifier = Verifier(pool, lookups, registry, concurrency=4)
    await rounds(pool, verifier, until=0)
    assert 0 == await pool.fetchval("SELECT count(*) FROM tag WHERE verified_at IS NULL")
    registry.clock = lambda: datetime.now(UTC) - back
    if registry_too:
        state.clock = registry.clock
    state.push(APP, SECOND.manifest.data, media_type=SECOND.media_type, tag="v1")
    if announced:
        await take_in(pool, lookups, events, received_at=registry.clock())
        assert 1 == await pool.fetchval("SELECT count(*) FROM tag WHERE verified_at IS NULL")
    else:
        await pool.execute(
            "INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)"
            " SELECT 'verify', repository_id, name, now(), now() FROM tag"
        )
    await rounds(pool, verifier, until=0)
    assert {(APP, "v1"): SECOND.digest} == await recorded_tags(pool)
    assert 0 == await pool.fetchval("SELECT count(*) FROM tag WHERE verified_at IS NULL")
    await check_history(pool)
    await check_counters(pool, settled=False)

"""What was wrongly called gone, or read too early, is put right by whatever shows that the registry serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from indexer.background.loop import Loop
from indexer.ingest.worker import IngestWorker
from indexer.inventory.changes import DriftKind, WorkKind
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.inventory.records import ManifestRecord
from indexer.oci.digest import Digest, digest_of, digest_to_bytes, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import inbox, manifests, work_items
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, transaction
from indexer.store.work_items import WorkKey
from reconciler.drift.plan import Difference, make_plan
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.registry.answers import ManifestRead, NotFound, NotFoundCode
from reconciler.resolve.loop import Resolver
from reconciler.verify import decide
from reconciler.verify.loop import Verifier
from tests.fixtures.ingesting import check_counters, check_history
from tests.fixtures.rows import TagRow, put_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import RequestInfo
from tests.simulators.state import RegistryState
from tools.sample_images import Image, index, oci_image

APP = RepositoryName("team/app")
V1 = TagName("v1")
FIRST, SECOND = oci_image("first"), oci_image("second")
FIRST_DIGEST = parse_digest(FIRST.digest)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timedelta(milliseconds=5)
    monkeypatch.setattr(work_items, "FIRST_OBSERVATION_DELAY", moment)
    monkeypatch.setattr(work_items, "OBSERVATION_SPACING", moment)
    monkeypatch.setattr(decide, "SPACING", moment)


def settings(reread_after: timedelta = timedelta(0)) -> RunSettings:
    return RunSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=reread_after)


def store(state: RegistryState, image: Image, tag: str | None) -> None:
    for blob in image.blobs:
        state.push_blob(APP, blob.data)
    state.push(APP, image.manifest.data, media_type=image.media_type, tag=tag)


async def walk(pool: Pool, lookups: Lookups, registry: DirectRegistry, **more: timedelta) -> dict[str, int]:
    report = await ReconcileRun(pool, lookups, registry, settings(**more)).run()
    assert RunOutcome.COMPLETE is report.outcome
    return dict(report.counts)


async def work_off(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    """Verify and read until nothing waits, without waiting for it."""
    loops: list[Loop] = [
        Verifier(pool, lookups, registry, concurrency=4),
        Resolver(pool, lookups, registry, concurrency=4),
    ]
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM work_item WHERE kind <> 'measure'"):
            await hurry_up(pool)
            for loop in loops:
                await loop.run_once()


async def hurry_up(pool: Pool) -> None:
    await pool.execute(
        "UPDATE work_item SET due_at = now() - interval '1 s', last_observed_at = now() - interval '1 h'"
    )


async def enqueue(pool: Pool, kind: WorkKind, key: str) -> None:
    number = await pool.fetchval("SELECT id FROM repository")
    async with pool.acquire() as connection:
        now = datetime.now(UTC)
        keys = [WorkKey(kind=kind, repository_id=number, key=key)]
        await work_items.enqueue(connection, keys=keys, now=now, due_at=now)


async def take_in(
    pool: Pool, lookups: Lookups, events: list[dict[str, Any]], *, received_at: datetime
) -> None:
    async with pool.acquire() as connection:
        body = orjson.dumps({"events": events})
        await inbox.put_deliveries(connection, deliveries=[Delivery(received_at=received_at, body=body)])
    worker = IngestWorker(pool, lookups, batch=100)
    while (await worker.run_once()).items:
        pass


async def hold_on(pool: Pool, digest: Digest) -> ManifestRecord:
    number = await pool.fetchval("SELECT id FROM repository")
    async with pool.acquire() as connection:
        found = await manifests.find_repository_manifests(
            connection, keys=[(APP, digest)], repository_ids={APP: number}
        )
    return found[APP, digest]


async def logged(pool: Pool, action: str) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM audit_staged WHERE action::text = $1", action)
    return count


async def call_gone(pool: Pool, digest: Digest, *, unread: bool = True) -> None:
    """Leave the record as a database has it that was restored, or edited, or believed a lagging replica."""
    row = digest_to_bytes(digest)
    await pool.execute(
        "UPDATE repository_manifest SET deleted_at = now() - interval '1 hour', as_of = now() - interval '1 hour'"
        " WHERE manifest_id = (SELECT id FROM manifest WHERE digest = $1)",
        row,
    )
    await pool.execute("UPDATE repository SET manifest_count = manifest_count - 1")
    if unread:
        await pool.execute(
            "UPDATE manifest SET content = 'unreadable', read_at = now() WHERE digest = $1", row
        )
        await pool.execute("DELETE FROM work_item WHERE key = $1", digest)


async def by_thorough_walk(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    assert 1 == (await walk(pool, lookups, registry))["changed"]


async def by_quick_walk(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    assert 1 == (await walk(pool, lookups, registry, reread_after=HOUR))["changed"]


async def by_verification(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    await enqueue(pool, WorkKind.VERIFY, V1)
    await Verifier(pool, lookups, registry, concurrency=4).run_once()


async def by_reading(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    await enqueue(pool, WorkKind.RESOLVE, FIRST_DIGEST)
    await Resolver(pool, lookups, registry, concurrency=4).run_once()


@pytest.mark.parametrize("heal", [by_thorough_walk, by_quick_walk, by_verification, by_reading])
async def test_called_gone__is_found_by_any_look(
    pool: Pool, lookups: Lookups, heal: Callable[[Pool, Lookups, DirectRegistry], Any]
) -> None:
    """A live tag whose manifest is on record as deleted: the plan says so, and whatever looks puts it right."""
    state = RegistryState()
    store(state, FIRST, "v1")
    registry = DirectRegistry(state)
    await walk(pool, lookups, registry)
    await call_gone(pool, FIRST_DIGEST)
    plan = await make_plan(pool, registry, concurrency=4, scope=None, on_progress=lambda _: None)
    missing = Difference(
        kind=DriftKind.MANIFEST_MISSING, repository=APP, tag=V1, expected=None, found=FIRST_DIGEST
    )
    assert [missing] == plan.differences
    await heal(pool, lookups, registry)
    assert (await hold_on(pool, FIRST_DIGEST)).present
    await work_off(pool, lookups, registry)
    await check_counters(pool, read=True)
    await check_history(pool)
    assert 1 == await logged(pool, "manifest.found")
    assert 1 == await pool.fetchval("SELECT count(*) FROM drift_finding WHERE kind = 'manifest_missing'")
    assert FIRST.size_bytes == await pool.fetchval("SELECT size_bytes FROM tag")
    plan = await make_plan(pool, registry, concurrency=4, scope=None, on_progress=lambda _: None)
    assert [] == plan.differences


async def test_unreadable__is_asked_for_again_by_a_walk(pool: Pool, lookups: Lookups) -> None:
    """Given up once, for whatever reason, a manifest of a live tag is read as soon as a walk confirms the tag."""
    state = RegistryState()
    store(state, FIRST, "v1")
    registry = DirectRegistry(state)
    await walk(pool, lookups, registry)
    await pool.execute("DELETE FROM work_item")
    await pool.execute("UPDATE manifest SET content = 'unreadable', read_at = now()")
    await walk(pool, lookups, registry, reread_after=HOUR)
    await work_off(pool, lookups, registry)
    await check_counters(pool, read=True)


class Lagging(DirectRegistry):
    """A replica behind the one that serves the tags: it does not know a manifest by its digest yet."""

    lags = True

    async def get_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestRead:
        """Answer 404 for as long as it lags."""
        if not self.lags:
            return await super().get_manifest(repository, digest)
        observed_at, registry_clock = self._begin("get_manifest", repository, digest)
        return NotFound(
            observed_at=observed_at, registry_clock=registry_clock, code=NotFoundCode.MANIFEST_UNKNOWN
        )


async def test_lagging_replica__makes_nothing_gone(pool: Pool, lookups: Lookups) -> None:
    """As long as the tag is served, 404s for its digest are failures that wait longer each time; then it is read."""
    state = RegistryState()
    store(state, FIRST, "v1")
    registry = Lagging(state)
    await walk(pool, lookups, registry)
    await pool.execute("UPDATE repository_manifest SET as_of = now() - interval '1 hour'")
    resolver = Resolver(pool, lookups, registry, concurrency=4)
    for attempts in range(1, 6):
        await hurry_up(pool)
        await resolver.run_once()
        assert attempts == await pool.fetchval("SELECT attempts FROM work_item WHERE kind = 'resolve'")
    assert (await hold_on(pool, FIRST_DIGEST)).present
    assert 0 == await logged(pool, "manifest.deleted")
    assert 1 == await pool.fetchval("SELECT count(*) FROM work_item WHERE kind = 'verify'")
    registry.lags = False
    await work_off(pool, lookups, registry)
    await check_counters(pool, read=True)


async def test_dangling_tag__is_broken_and_then_its_manifest_is_gone(pool: Pool, lookups: Lookups) -> None:
    """A manifest that is truly gone is called so after its tag was looked at."""
    state = RegistryState()
    store(state, FIRST, "v1")
    registry = DirectRegistry(state)
    await walk(pool, lookups, registry)
    await pool.execute("UPDATE repository_manifest SET as_of = now() - interval '1 hour'")
    state.repositories[APP].manifests.clear()
    await work_off(pool, lookups, registry)
    assert await pool.fetchval("SELECT broken_reason FROM tag") == "dangling_tag"
    assert not (await hold_on(pool, FIRST_DIGEST)).present
    assert 1 == await logged(pool, "manifest.deleted")
    await check_counters(pool)


async def test_child__of_a_served_index_is_found_again(pool: Pool, lookups: Lookups) -> None:
    """A thorough walk asks for what is on record as deleted and an index still names; untagged, it is in no listing."""
    both = index([FIRST, SECOND])
    state = RegistryState()
    for image in (FIRST, SECOND):
        store(state, image, None)
    store(state, both, "v1")
    registry = DirectRegistry(state)
    await walk(pool, lookups, registry)
    await work_off(pool, lookups, registry)
    await call_gone(pool, FIRST_DIGEST, unread=False)
    plan = await make_plan(pool, registry, concurrency=4, scope=None, on_progress=lambda _: None)
    assert [(DriftKind.MANIFEST_MISSING, None, FIRST_DIGEST)] == [
        (each.kind, each.tag, each.found) for each in plan.differences
    ]
    await walk(pool, lookups, registry)
    assert (await hold_on(pool, FIRST_DIGEST)).present
    await work_off(pool, lookups, registry)
    await check_counters(pool, read=True)
    state.repositories[APP].manifests.pop(FIRST_DIGEST)
    await walk(pool, lookups, registry)
    await pool.execute("UPDATE repository_manifest SET as_of = now() - interval '1 hour'")
    await walk(pool, lookups, registry)
    assert not (await hold_on(pool, FIRST_DIGEST)).present
    assert 0 == (await walk(pool, lookups, registry)).get("changed", 0)


async def pushed_by_digest(
    pool: Pool, lookups: Lookups, *, ago: timedelta
) -> tuple[RegistryState, list[Any]]:
    """Return a registry that told of an untagged manifest some time ago, and that does not serve it any more."""
    events: list[dict[str, Any]] = []
    state = RegistryState(clock=lambda: datetime.now(UTC) - ago)
    state.listeners.append(events.append)
    state.push(APP, FIRST.manifest.data, media_type=FIRST.media_type)
    await take_in(pool, lookups, events, received_at=datetime.now(UTC))
    events.clear()
    state.clock = lambda: datetime.now(UTC)
    state.repositories[APP].manifests.clear()
    await pool.execute("UPDATE work_item SET attempts = 1, due_at = now() WHERE kind = 'resolve'")
    return state, events


async def test_missing__beside_a_push_that_is_being_applied(pool: Pool, lookups: Lookups) -> None:
    """What the resolver decides is decided under the lock: the push that it waited for is not overwritten."""
    state, _ = await pushed_by_digest(pool, lookups, ago=HOUR)
    resolver = Resolver(pool, lookups, DirectRegistry(state), concurrency=1)
    async with transaction(pool) as held:
        await held.execute("SELECT FROM repository FOR NO KEY UPDATE")
        deciding = asyncio.create_task(resolver.run_once())
        async with asyncio.timeout(30):
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not await pool.fetchval(waiting):
                await asyncio.sleep(0.01)
        await held.execute("UPDATE repository_manifest SET as_of = now() + interval '1 second'")
    await deciding
    record = await hold_on(pool, FIRST_DIGEST)
    assert record.present
    assert record.as_of > datetime.now(UTC) - CLOCK_MARGIN
    assert 1 == await pool.fetchval("SELECT count(*) FROM work_item WHERE kind = 'resolve'")
    await check_counters(pool)


async def test_missing__beside_a_tag_that_comes_to_point_to_it(pool: Pool, lookups: Lookups) -> None:
    """Whether a tag points to it is asked under the lock: one that was written meanwhile decides."""
    state, _ = await pushed_by_digest(pool, lookups, ago=HOUR)
    resolver = Resolver(pool, lookups, DirectRegistry(state), concurrency=1)
    number = await pool.fetchval("SELECT id FROM repository")
    async with transaction(pool) as held:
        await held.execute("SELECT FROM repository FOR NO KEY UPDATE")
        deciding = asyncio.create_task(resolver.run_once())
        async with asyncio.timeout(30):
            while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        await put_tags(held, number, [TagRow(name="v1", exact_digest=FIRST_DIGEST)])
    await deciding
    assert (await hold_on(pool, FIRST_DIGEST)).present
    assert 0 == await logged(pool, "manifest.deleted")
    assert {("resolve", FIRST_DIGEST, 2), ("verify", V1, 0)} == {
        tuple(row)
        for row in await pool.fetch("SELECT kind, key, attempts FROM work_item WHERE kind <> 'measure'")
    }


@pytest.mark.parametrize("late", [False, True])
async def test_push__dates_its_manifest_in_either_order(pool: Pool, lookups: Lookups, *, late: bool) -> None:
    """Found by a reconcile first, or announced first: the manifest was pushed when its event says."""
    ago = datetime.now(UTC) - HOUR
    events: list[dict[str, Any]] = []
    state = RegistryState(clock=lambda: ago)
    state.listeners.append(events.append)
    store(state, FIRST, "v1")
    if not late:
        await take_in(pool, lookups, events, received_at=datetime.now(UTC))
    await walk(pool, lookups, DirectRegistry(state))
    if late:
        assert (await hold_on(pool, FIRST_DIGEST)).pushed_at > ago + HOUR / 2
        await take_in(pool, lookups, events, received_at=datetime.now(UTC))
    assert abs((await hold_on(pool, FIRST_DIGEST)).pushed_at - ago) < timedelta(seconds=1)
    await check_counters(pool)


async def test_push__older_than_a_deletion_on_record_dates_nothing(pool: Pool, lookups: Lookups) -> None:
    """That the repository once lacked the manifest is kept beside the record of the push after it."""
    now = datetime.now(UTC)
    events: list[dict[str, Any]] = []
    state = RegistryState(clock=lambda: now - 3 * HOUR)
    state.listeners.append(events.append)
    state.push(APP, FIRST.manifest.data, media_type=FIRST.media_type)
    late = list(events)
    events.clear()
    state.push(APP, FIRST.manifest.data, media_type=FIRST.media_type)
    state.clock = lambda: now - 2 * HOUR
    state.delete_manifest(APP, FIRST_DIGEST)
    state.clock = lambda: now - HOUR
    state.push(APP, FIRST.manifest.data, media_type=FIRST.media_type)
    await take_in(pool, lookups, events, received_at=now)
    pushed = await hold_on(pool, FIRST_DIGEST)
    assert (now - 2 * HOUR, now - HOUR) == (pushed.absent_at, pushed.pushed_at)
    await take_in(pool, lookups, late, received_at=now)
    assert pushed == await hold_on(pool, FIRST_DIGEST)


class PushedMeanwhile(DirectRegistry):
    """Answers 404, and between the question and the answer somebody pushes what was asked for."""

    def __init__(self, state: RegistryState, push: Callable[[], Any]) -> None:
        super().__init__(state)
        self.push = push

    async def get_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestRead:
        """Answer as of before the push."""
        answer = await super().get_manifest(repository, digest)
        await self.push()
        return answer


async def test_missing__is_dated_before_the_request(pool: Pool, lookups: Lookups) -> None:
    """A push between the question and the answer is younger than the answer."""
    state, events = await pushed_by_digest(pool, lookups, ago=HOUR)

    async def push() -> None:
        state.push(APP, FIRST.manifest.data, media_type=FIRST.media_type)
        await take_in(pool, lookups, events, received_at=datetime.now(UTC))

    await Resolver(pool, lookups, PushedMeanwhile(state, push), concurrency=1).run_once()
    assert (await hold_on(pool, FIRST_DIGEST)).present
    await check_counters(pool)


async def test_hold__is_never_written_over_younger_evidence(pool: Pool, lookups: Lookups) -> None:
    """Whoever decided on a record that is younger by now writes nothing, and counts nothing."""
    await pushed_by_digest(pool, lookups, ago=HOUR)
    record = await hold_on(pool, FIRST_DIGEST)
    older = ManifestRecord(
        repository=APP,
        digest=FIRST_DIGEST,
        pushed_at=record.pushed_at,
        as_of=record.as_of - HOUR,
        deleted_at=record.as_of - HOUR,
    )
    (ids,) = await pool.fetch("SELECT repository_id, manifest_id FROM repository_manifest")
    async with transaction(pool) as held:
        written = await manifests.put_repository_manifests(
            held,
            records=[older],
            repository_ids={APP: ids["repository_id"]},
            manifest_ids={FIRST_DIGEST: ids["manifest_id"]},
            actor_ids={},
        )
    assert set() == written
    assert record == await hold_on(pool, FIRST_DIGEST)


async def test_walk__what_it_saw_is_dated_by_the_look(pool: Pool, lookups: Lookups) -> None:
    """A deletion told while a page of looks waited to be stored is younger than the look, and is believed."""
    state, events = await pushed_by_digest(pool, lookups, ago=HOUR)
    store(state, FIRST, None)
    events.clear()

    class Deleted(DirectRegistry):
        async def head_manifest(self, repository: RepositoryName, digest: Digest) -> Any:
            answer = await super().head_manifest(repository, digest)
            self.state.delete_manifest(repository, digest)
            await take_in(pool, lookups, events, received_at=datetime.now(UTC))
            return answer

    await walk(pool, lookups, Deleted(state))
    assert not (await hold_on(pool, FIRST_DIGEST)).present
    await check_counters(pool)


async def test_move__of_which_no_event_came_is_dated_by_what_is_known(pool: Pool, lookups: Lookups) -> None:
    """A tag that was there before its move is no older than the move, whatever its image says of its age."""
    events: list[dict[str, Any]] = []
    state = RegistryState(clock=lambda: datetime.now(UTC) - HOUR)
    state.listeners.append(events.append)
    store(state, FIRST, "v1")
    store(state, SECOND, None)
    began = datetime.now(UTC)
    await take_in(pool, lookups, events, received_at=began)
    registry = DirectRegistry(state)
    await work_off(pool, lookups, registry)
    state.write_link(APP, "v1", digest_of(SECOND.manifest.data))
    state.clock = lambda: datetime.now(UTC)
    await walk(pool, lookups, registry)
    (row,) = await pool.fetch(
        "SELECT t.published_at, t.published_source, t.image_created, h.valid_from FROM tag AS t"
        " JOIN tag_history AS h USING (repository_id, name) WHERE h.valid_to = 'infinity'"
    )
    assert row["image_created"] < began - timedelta(days=1)
    assert ("first-seen", row["valid_from"]) == (row["published_source"], row["published_at"])
    assert row["published_at"] > began - HOUR


@pytest.mark.parametrize("pulled", [True, False], ids=["pulled", "looked-at"])
async def test_new_tag__after_a_walk_is_dated_by_what_is_known(
    pool: Pool, lookups: Lookups, *, pulled: bool
) -> None:
    """A tag of which a pull tells, or a look, and that an earlier walk did not find, is no older than that walk."""
    events: list[dict[str, Any]] = []
    state = RegistryState()
    store(state, SECOND, "old")
    registry = DirectRegistry(state)
    began = datetime.now(UTC)
    await walk(pool, lookups, registry)
    await work_off(pool, lookups, registry)
    store(state, FIRST, "v1")
    if pulled:
        state.listeners.append(events.append)
        state.tell_content(
            "pull",
            APP,
            digest=FIRST_DIGEST,
            size=len(FIRST.manifest.data),
            media_type=FIRST.media_type,
            tag="v1",
            request=RequestInfo(method="GET"),
        )
        await take_in(pool, lookups, events, received_at=datetime.now(UTC))
    else:
        await enqueue(pool, WorkKind.VERIFY, V1)
    await work_off(pool, lookups, registry)
    (row,) = await pool.fetch(
        "SELECT t.published_at, t.published_source, t.image_created, h.not_before FROM tag AS t"
        " JOIN tag_history AS h USING (repository_id, name) WHERE h.valid_to = 'infinity' AND t.name = 'v1'"
    )
    assert row["image_created"] < began - timedelta(days=1)
    assert row["not_before"] > began
    assert ("first-seen", True) == (row["published_source"], row["published_at"] > began)

"""GitLab's deletions by a dummy manifest, through inbox, looks and walk, on simulated and real registries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from indexer.background.loop import Loop
from indexer.ingest.worker import IngestWorker
from indexer.inventory.changes import WorkKind
from indexer.oci.digest import digest_of
from indexer.oci.media_types import DOCKER_MANIFEST
from indexer.oci.reference import RepositoryName
from indexer.store import inbox, work_items
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.drift.plan import make_plan
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.registry.client import RegistryClient
from reconciler.registry.protocol import Registry
from reconciler.registry.transport import TransportSettings
from reconciler.resolve.loop import Resolver
from reconciler.verify import decide
from reconciler.verify.loop import Verifier
from tests.fixtures.ingesting import check_counters, check_history, recorded_tags
from tests.fixtures.registries import StartRegistry
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import RequestInfo
from tests.simulators.state import RegistryState
from tests.unit.test_dummies import CONFIG, DUMMY, dummy_of
from tools.registry_server import Endpoint
from tools.sample_images import Pusher, docker_image

APP = RepositoryName("group/project")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks a moment apart."""
    moment = timedelta(milliseconds=5)
    monkeypatch.setattr(work_items, "FIRST_OBSERVATION_DELAY", moment)
    monkeypatch.setattr(work_items, "OBSERVATION_SPACING", moment)
    monkeypatch.setattr(decide, "SPACING", moment)


async def take_in(pool: Pool, lookups: Lookups, events: list[dict[str, Any]], *, batch: int = 200) -> None:
    """What the endpoint and the worker do with events."""
    now = datetime.now(UTC)
    deliveries = [
        Delivery(received_at=now, content_type="", body=orjson.dumps({"events": [e]})) for e in events
    ]
    async with pool.acquire() as connection:
        await inbox.put_deliveries(connection, deliveries=deliveries)
    worker = IngestWorker(pool, lookups, batch=batch)
    while (await worker.run_once()).items:
        pass


async def drain(pool: Pool, loop: Loop, kind: WorkKind) -> None:
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM work_item WHERE kind = $1", kind):
            if not (await loop.run_once()).items:
                await asyncio.sleep(0.005)


async def settle(pool: Pool, lookups: Lookups, registry: Registry) -> None:
    """Read, look and walk until nothing is left to do; a plan then finds nothing."""
    for _ in range(2):
        await drain(pool, Resolver(pool, lookups, registry, concurrency=4), WorkKind.RESOLVE)
        await drain(pool, Verifier(pool, lookups, registry, concurrency=4), WorkKind.VERIFY)
    settings = RunSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0))
    assert (await ReconcileRun(pool, lookups, registry, settings).run()).outcome is RunOutcome.COMPLETE
    plan = await make_plan(pool, registry, concurrency=4, scope=None, on_progress=lambda _: None)
    assert plan.differences == []


async def actions(pool: Pool, tag: str) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT action, source FROM audit_staged WHERE tag = $1 ORDER BY id", tag)
    return [(row["action"], row["source"]) for row in rows]


async def held(pool: Pool) -> set[str]:
    rows = await pool.fetch(
        "SELECT encode(substr(m.digest, 2), 'hex') AS hash FROM repository_manifest AS h"
        " JOIN manifest AS m ON m.id = h.manifest_id WHERE h.deleted_at IS NULL"
    )
    return {f"sha256:{row['hash']}" for row in rows}


@pytest.mark.parametrize("batch", [1, 200])
async def test_dummy_delete__on_a_real_registry(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int, batch: int
) -> None:
    """AppliedEvents, looked at and walked, GitLab's deletion is one entry, and nothing of the dummy is left."""
    events: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        events.extend((await request.json())["events"])
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        registry = await asyncio.to_thread(
            start_registry, registry_version, notifications=[Endpoint(url=str(server.make_url("/")))]
        )
        await asyncio.to_thread(push_and_delete_as_gitlab, registry.url)
        async with asyncio.timeout(60):
            while sum(event["action"] == "delete" for event in events) < 3:
                await asyncio.sleep(0.02)
        await take_in(pool, lookups, events, batch=batch)
        kept = {(APP, "v3")}
        assert set(await recorded_tags(pool)) == kept
        before = await pool.fetchval("SELECT last_published_at FROM repository")
        async with RegistryClient(TransportSettings(base_url=registry.url)) as client:
            await settle(pool, lookups, client)
    assert set(await recorded_tags(pool)) == kept
    for tag in ("v1", "v2"):
        assert await actions(pool, tag) == [("tag.created", "notification"), ("tag.deleted", "notification")]
    assert await pool.fetchval("SELECT last_published_at FROM repository") == before
    assert digest_of(DUMMY) not in await held(pool)
    await check_counters(pool)
    await check_history(pool)


def push_and_delete_as_gitlab(url: str) -> None:
    with Pusher(url) as pusher:
        for tag in ("v1", "v2", "v3"):
            pusher.push(APP, docker_image(tag), tag)
        answer = pusher.request("POST", f"/v2/{APP}/blobs/uploads/")
        location = answer.headers["location"]
        joined = f"{location}{'&' if '?' in location else '?'}digest={digest_of(CONFIG)}"
        pusher.request("PUT", joined, body=CONFIG, headers={"Content-Type": "application/octet-stream"})
        for tag in ("v1", "v2"):
            pusher.request(
                "PUT", f"/v2/{APP}/manifests/{tag}", body=DUMMY, headers={"Content-Type": DOCKER_MANIFEST}
            )
        pusher.delete(APP, digest_of(DUMMY))


async def test_dummy_delete__whose_events_were_lost(pool: Pool, lookups: Lookups) -> None:
    """A walk that meets a tag on a dummy takes it for deleted, again and again, and plans nothing."""
    state = RegistryState()
    events: list[dict[str, Any]] = []
    state.listeners.append(events.append)
    state.push(APP, b'{"schemaVersion": 2}', media_type=DOCKER_MANIFEST, tag="v1")
    await take_in(pool, lookups, events)
    state.push(APP, DUMMY, media_type=DOCKER_MANIFEST, tag="v1")
    await pool.execute("UPDATE tag SET last_event_at = last_event_at - interval '1 minute'")
    registry = DirectRegistry(state)
    await settle(pool, lookups, registry)
    assert await recorded_tags(pool) == {}
    assert [action for action, _ in await actions(pool, "v1")] == ["tag.created", "tag.deleted"]
    assert digest_of(DUMMY) not in await held(pool)


async def test_dummy__of_an_unknown_layout_is_learned(pool: Pool, lookups: Lookups) -> None:
    """A dummy that nobody knew is recognised by its content; from then on its digest tells."""
    config = b'{"config" :{}}'
    dummy = dummy_of(config, layout=4)
    state = RegistryState()
    events: list[dict[str, Any]] = []
    state.listeners.append(events.append)
    client = RequestInfo(user_agent="proxy/1")
    state.push_blob(APP, config, request=client)
    state.push(APP, dummy, media_type=DOCKER_MANIFEST, tag="v1", request=client)
    await take_in(pool, lookups, events)
    assert set(await recorded_tags(pool)) == {(APP, "v1")}
    await pool.execute("UPDATE tag SET last_event_at = last_event_at - interval '1 minute'")
    await settle(pool, lookups, DirectRegistry(state))
    assert await recorded_tags(pool) == {}
    assert await held(pool) == set()
    events.clear()
    state.push(APP, b'{"schemaVersion": 2}', media_type=DOCKER_MANIFEST, tag="v2")
    state.push(APP, dummy, media_type=DOCKER_MANIFEST, tag="v2", request=client)
    state.delete_manifest(APP, digest_of(dummy), request=client)
    await take_in(pool, lookups, events, batch=1)
    assert [action for action, _ in await actions(pool, "v2")] == ["tag.created", "tag.deleted"]
    await check_counters(pool)
    await check_history(pool)

"""A walk that is faster than the ingest: what the registry told first is applied first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from indexer.ingest.worker import IngestWorker
from indexer.oci.reference import RepositoryName
from indexer.store import inbox
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.drift import inbox_barrier
from reconciler.drift.inbox_barrier import InboxBarrier
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from tests.fixtures.ingesting import recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import RequestInfo, Source, content_target, make_event
from tests.simulators.state import RegistryState
from tools.sample_images import docker_image

APP = RepositoryName("team/app")
SETTINGS = RunSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0))
FIRST, SECOND = docker_image("first"), docker_image("second")


async def told_and_not_applied(pool: Pool, lookups: Lookups) -> DirectRegistry:
    """Return a registry that was walked, then pushed to; the notification of that lies in the inbox."""
    state = RegistryState()
    state.push(APP, FIRST.manifest.data, media_type=FIRST.media_type, tag="old")
    walk = await ReconcileRun(pool, lookups, DirectRegistry(state), SETTINGS).run()
    assert RunOutcome.COMPLETE is walk.outcome
    state.push(APP, SECOND.manifest.data, media_type=SECOND.media_type, tag="new")
    now = datetime.now(UTC)
    target = content_target(
        APP,
        digest=SECOND.digest,
        media_type=SECOND.media_type,
        size=len(SECOND.manifest.data),
        tag="new",
        host="registry",
        resource="manifests",
    )
    source = Source(address="registry:5000", instance_id="3f2b8c1e-5d1a-4e8e-9d55-0f0e4d1c2b3a")
    event = make_event("push", target, request=RequestInfo(), source=source, at=now)
    async with pool.acquire() as held:
        delivery = Delivery(received_at=now, body=orjson.dumps({"events": [event]}))
        await inbox.put_deliveries(held, deliveries=[delivery])
    return DirectRegistry(state)


async def entries_of(pool: Pool, tag: str) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT action, source FROM audit_staged WHERE tag = $1 ORDER BY id", tag)
    return [tuple(row) for row in rows]


async def test_news__applied_before_a_look_that_differs(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push whose notification waits in the inbox is entered once, as told, and is no finding of the walk."""
    registry = await told_and_not_applied(pool, lookups)
    waits = InboxBarrier._waits
    asked = []

    async def then_applied(self: InboxBarrier, received_before: datetime) -> bool:
        """Let the indexer apply what waits, only once the walk has asked for it."""
        waiting = await waits(self, received_before)
        asked.append(waiting)
        if waiting:
            await IngestWorker(pool, lookups).run_once()
        return waiting

    monkeypatch.setattr(InboxBarrier, "_waits", then_applied)
    report = await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    assert [True, False] == asked
    assert RunOutcome.COMPLETE is report.outcome
    assert [("tag.created", "notification")] == await entries_of(pool, "new")
    assert 0 == await pool.fetchval("SELECT count(*) FROM drift_finding WHERE tag = 'new'")


async def test_news__nobody_applies_it(pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no indexer runs the walk goes on, and repairs by itself."""
    registry = await told_and_not_applied(pool, lookups)
    monkeypatch.setattr(inbox_barrier, "PATIENCE_SECONDS", 0.2)
    report = await ReconcileRun(pool, lookups, registry, SETTINGS).run()
    assert RunOutcome.COMPLETE is report.outcome
    assert SECOND.digest == (await recorded_tags(pool))[APP, "new"]
    assert [("tag.created", "walk")] == await entries_of(pool, "new")

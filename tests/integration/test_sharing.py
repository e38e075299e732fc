"""Several workers on one database: no event twice, no look twice, no deadlock, and a dying one hands over."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from indexer.audit.seal import seal
from indexer.background.loop import Loop
from indexer.ingest.worker import IngestWorker
from indexer.inventory.changes import WorkKind
from indexer.store import inbox, work_items
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from indexer.store.work_items import Deferred, WorkKey
from reconciler.verify.loop import Verifier
from tests.fixtures import captures
from tests.fixtures.captures import Capture
from tests.fixtures.ingesting import check_counters, check_history, recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState

NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def deliver(pool: Pool, capture: Capture) -> None:
    async with pool.acquire() as connection:
        await inbox.put_deliveries(
            connection,
            deliveries=[
                Delivery(
                    received_at=datetime.fromtimestamp(delivery["received_at"], UTC),
                    body=json.dumps(delivery["body"]).encode(),
                )
                for delivery in capture.deliveries
                if delivery["body"] is not None
            ],
        )


async def until_idle(loop: Loop) -> None:
    while (await loop.run_once()).items:
        pass


@pytest.mark.parametrize(
    "name", ["concurrent-mix-a.3.1.1", "random-workload-a.2.8.2", "push-vs-delete-race.3.1.1"]
)
async def test_ingest__two_workers_apply_every_event_once(pool: Pool, lookups: Lookups, name: str) -> None:
    """Batches that interleave between two workers give the same tags, one entry per event, and no deadlock."""
    capture = captures.load(name)
    await deliver(pool, capture)
    await deliver(pool, capture)
    workers = [IngestWorker(pool, lookups, batch=size) for size in (3, 7)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(until_idle(worker) for worker in workers))
    await check_history(pool)
    await check_counters(pool, settled=False)
    while await seal(pool, limit=1000):
        pass
    rows = await pool.fetch("SELECT event_key, split_part(action::text, '.', 1) AS noun FROM audit_entry")
    assert len(rows) == len({tuple(row) for row in rows})
    assert await pool.fetchval("SELECT sum(events) FROM registry_instance") == len(capture.event_ids)
    recorded = await recorded_tags(pool)
    lies = {(d["repository"], d["tag"]) for d in capture.truth["naive_fold_differences"]["tags"]}
    assert {k: v for k, v in recorded.items() if k not in lies} == {
        k: v for k, v in capture.tags.items() if k not in lies
    }


async def test_reconcile__two_of_each_share_the_looks(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every due tag is looked at by one verifier at a time, and the two together settle all."""
    moment = timedelta(milliseconds=5)
    monkeypatch.setattr("indexer.store.work_items.OBSERVATION_SPACING", moment)
    monkeypatch.setattr("reconciler.verify.decide.SPACING", moment)
    capture = captures.load("random-workload-a.3.1.1")
    await deliver(pool, capture)
    await until_idle(IngestWorker(pool, lookups))
    registry = DirectRegistry(RegistryState.from_truth(capture.truth))
    loops: list[Loop] = [Verifier(pool, lookups, registry, concurrency=4) for _ in range(2)]

    async def drain(loop: Loop) -> None:
        while await pool.fetchval("SELECT count(*) FROM work_item WHERE kind = 'verify'"):
            if not (await loop.run_once()).items:
                await asyncio.sleep(0.005)

    async with asyncio.timeout(60):
        await asyncio.gather(*(drain(loop) for loop in loops))
    observations = [call[1:3] for call in registry.asked if call[0] == "head_tag"]
    spoken_of = {
        (event["target"]["repository"], event["target"]["tag"])
        for delivery in capture.deliveries
        for event in (delivery["body"] or {}).get("events", [])
        if event["target"].get("tag")
    }
    assert {tag: observations.count(tag) for tag in spoken_of} == dict.fromkeys(spoken_of, 2)
    assert await recorded_tags(pool) == capture.tags


async def test_resolve__a_dead_workers_lease_runs_out(pool: Pool, lookups: Lookups) -> None:
    """Work leased by a worker that died is taken by another once the lease is over, and not before."""
    await deliver(pool, captures.load("push-by-tag-oci.3.1.1"))
    await until_idle(IngestWorker(pool, lookups))
    now = datetime.now(UTC)
    async with pool.acquire() as connection:
        lease = timedelta(seconds=30)
        taken = await work_items.lease_work(
            connection, kind=WorkKind.RESOLVE, now=now, lease=lease, limit=100
        )
        assert taken
        again = await work_items.lease_work(
            connection, kind=WorkKind.RESOLVE, now=now, lease=lease, limit=100
        )
        assert again == []
        later = now + timedelta(seconds=31)
        after = await work_items.lease_work(
            connection, kind=WorkKind.RESOLVE, now=later, lease=lease, limit=100
        )
    assert {row.key for row in taken} == {row.key for row in after}


async def repository(pool: Pool) -> int:
    found: int = await pool.fetchval(
        "INSERT INTO repository (name, created_at) VALUES ('team/app', now()) RETURNING id"
    )
    return found


async def test_due__made_due_while_running_runs_once_more(pool: Pool) -> None:
    """News that arrives during a look is not lost, and makes exactly one more look."""
    key = WorkKey(kind=WorkKind.VERIFY, repository_id=await repository(pool), key="v1")
    lease = timedelta(seconds=30)
    async with pool.acquire() as connection:
        await work_items.enqueue(connection, keys=[key], now=NOW, due_at=NOW)
        (row,) = await work_items.lease_work(connection, kind=key.kind, now=NOW, lease=lease, limit=9)
        await work_items.enqueue(connection, keys=[key], now=NOW, due_at=NOW)
        await work_items.enqueue(connection, keys=[key], now=NOW, due_at=NOW)
        assert await work_items.lease_work(connection, kind=key.kind, now=NOW, lease=lease, limit=9) == []
        await work_items.complete(connection, rows=[row], now=NOW)
        soon = NOW + work_items.OBSERVATION_SPACING
        (again,) = await work_items.lease_work(connection, kind=key.kind, now=soon, lease=lease, limit=9)
        await work_items.complete(connection, rows=[again], now=soon)
        assert await work_items.next_due_at(connection, kind=key.kind) is None


async def test_due__a_tag_that_never_rests_is_looked_at_once_a_second(pool: Pool) -> None:
    """Fifty pushes a second make a row due fifty times; its looks stay apart."""
    key = WorkKey(kind=WorkKind.VERIFY, repository_id=await repository(pool), key="busy")
    lease = timedelta(seconds=30)
    observations = 0
    async with pool.acquire() as connection:
        for number in range(150):
            now = NOW + timedelta(milliseconds=20 * number)
            await work_items.enqueue(
                connection, keys=[key], now=now, due_at=now + timedelta(milliseconds=150)
            )
            rows = await work_items.lease_work(connection, kind=key.kind, now=now, lease=lease, limit=9)
            observations += len(rows)
            await work_items.reschedule(
                connection,
                deferred=[Deferred(row=row, due_at=now + lease, observations=1) for row in rows],
                now=now,
            )
    assert 2 <= observations <= 4

"""A rollout to thousands of nodes: pulls wait, are counted exactly once, and become few entries of the log."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.audit.seal import Sealer
from indexer.background.housekeeping import Housekeeper, Retention
from indexer.background.loop import WakeEvent
from indexer.common.errors import StoreUnavailable
from indexer.ingest import batch as batches
from indexer.ingest import worker as workers
from indexer.ingest import writer as writers
from indexer.ingest.spool import Spool
from indexer.ingest.worker import IngestWorker
from indexer.ingest.writer import InboxWriter
from indexer.store import apply, inbox
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from tests.fixtures import floods
from tests.fixtures.asking import Api
from tests.fixtures.floods import EPOCH, REPOSITORY, delivery, event

LONG = timedelta(days=3650)
PULLED = "manifest.pulled"


def retention(**changed: Any) -> Retention:
    kept: dict[str, Any] = dict.fromkeys(("inbox", "events", "tombstones", "due", "pull_detail"), LONG)
    return Retention(**kept | changed)


async def put(pool: Pool, deliveries: list[Delivery]) -> None:
    async with pool.acquire() as connection:
        for first in range(0, len(deliveries), 10_000):
            await inbox.put_deliveries(connection, deliveries=deliveries[first : first + 10_000])


async def drain(worker: IngestWorker) -> int:
    rounds = 0
    while (await worker.run_once()).items:
        rounds += 1
    return rounds


async def settle(pool: Pool, housekeeper: Housekeeper) -> None:
    """Let the log take in what is old enough, and seal it."""
    while (await housekeeper.run_once()).rest_seconds == 0:
        pass
    while (await Sealer(pool).run_once()).items:
        pass


async def counts(pool: Pool) -> tuple[int, int, int, int]:
    """Pulls by tag, by manifest, and by the log: as single entries and within coalesced ones."""
    row = await pool.fetchrow(
        "SELECT (SELECT coalesce(sum(pull_count), 0) FROM tag_pull)::bigint,"
        " (SELECT coalesce(sum(pull_count), 0) FROM repository_manifest)::bigint,"
        " (SELECT count(*) FROM pull_detail),"
        " (SELECT coalesce(sum(coalesce((detail->>'pulls')::bigint, 1)), 0) FROM"
        "   (SELECT action, detail FROM audit_entry UNION ALL SELECT action, detail FROM audit_staged) AS log"
        "  WHERE action = 'manifest.pulled')::bigint"
    )
    assert row is not None
    return tuple(row)


@pytest.mark.full
async def test_flood__a_push_overtakes_a_hundred_thousand_pulls(pool: Pool, lookups: Lookups) -> None:
    """With 100,000 pulls waiting, a push that arrives is applied by the next batch, before all other pulls."""
    await put(pool, floods.pulls(100_000))
    worker = IngestWorker(pool, lookups)
    await worker.run_once()
    await put(pool, [delivery(event("push", tag="urgent", at=EPOCH, number=0), can_wait=False)])
    await worker.run_once()
    assert await pool.fetchval("SELECT name FROM tag WHERE name = 'urgent'") == "urgent"
    before = await pool.fetchval(
        "SELECT count(*) FROM inbox WHERE can_wait AND done_at < (SELECT done_at FROM inbox WHERE NOT can_wait)"
    )
    assert before == workers.PULLS_BATCH


async def test_flood__every_pull_counts_once(pool: Pool, lookups: Lookups) -> None:
    """Redelivered pulls, in the same batch, in a later one and after a restart, count once in every count."""
    await put(pool, floods.pushes(5))
    flood = floods.pulls(3000, nodes=100, tags=5)
    await put(pool, flood + flood[:500])
    await drain(IngestWorker(pool, lookups, pulls_batch=700))
    await put(pool, flood[1000:1500])
    await drain(IngestWorker(pool, lookups))
    assert await counts(pool) == (3000, 3000, 3000, 0)
    per_tag = await pool.fetch("SELECT name, pull_count, last_pulled_at FROM tag_pull ORDER BY name")
    last = EPOCH + timedelta(hours=1)
    assert [tuple(row) for row in per_tag] == [
        (f"v{tag}", 600, last + timedelta(milliseconds=2995 + tag)) for tag in range(5)
    ]
    repository = await pool.fetchval("SELECT last_pulled_at FROM repository WHERE name = $1", REPOSITORY)
    assert repository == last + timedelta(milliseconds=2999)


async def test_pulls__are_single_entries_at_first(pool: Pool, lookups: Lookups, api: Api) -> None:
    """A pull is listed at once, with its event, actor and address; filters find it; the log has no position for it."""
    await put(pool, [*floods.pushes(1), *floods.pulls(3, nodes=3, tags=1)])
    await drain(IngestWorker(pool, lookups))
    shown = (await api.json("/api/v1/audit", action=PULLED))["items"]
    assert [row["request"]["address"] for row in shown] == ["10.0.2.1", "10.0.1.1", "10.0.0.1"]
    assert [(r["actor"]["name"], r["tag"], r["source"], r["position"]) for r in shown] == 3 * [
        ("node", "v0", "notification", None)
    ]
    assert len({row["event_id"] for row in shown}) == 3
    everything = (await api.json("/api/v1/audit", repository=REPOSITORY, limit=2))["items"]
    assert [row["id"] for row in everything] == [row["id"] for row in shown[:2]]
    assert (await api.json("/api/v1/audit", actor="ci", action=PULLED))["items"] == []
    one = (await api.json("/api/v1/audit", address="10.0.1.1"))["items"]
    assert [row["id"] for row in one] == [shown[1]["id"]]


async def test_pulls__of_an_age_become_one_entry_per_client_and_hour(
    pool: Pool, lookups: Lookups, api: Api
) -> None:
    """Four pulls of a client within an hour are one sealed entry that counts them; a lone pull keeps its event's id."""
    pulled = EPOCH + timedelta(hours=1)
    again = [
        delivery(
            event("pull", tag="v0", at=pulled + timedelta(minutes=m), number=m, address="10.0.0.9:4000"),
            can_wait=True,
        )
        for m in (0, 10, 20, 59, 60)
    ]
    await put(pool, [*floods.pushes(1), *again])
    await drain(IngestWorker(pool, lookups))
    await settle(pool, Housekeeper(pool, retention(pull_detail=timedelta(0))))
    lone, together = (await api.json("/api/v1/audit", action=PULLED))["items"]
    assert (lone["detail"], lone["request"]["port"]) == ({}, 4000)
    assert lone["event_id"] == event("pull", tag="v0", at=pulled, number=60)["id"]
    assert (together["detail"], together["event_id"]) == ({"pulls": 4}, None)
    assert together["occurred_between"] == ["2026-06-01T13:00:00.000000Z", "2026-06-01T13:59:00.000000Z"]
    assert (together["actor"], together["request"]["address"]) == ({"name": "node"}, "10.0.0.9")
    assert [together["position"], lone["position"]] == [3, 4]
    assert await counts(pool) == (5, 5, 0, 5)


async def test_pulls__counts_stay_exact_while_two_servers_coalesce(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batches and whoever moves them, the log counts as many pulls as the tags; late ones add up."""
    monkeypatch.setattr("indexer.background.housekeeping.PULLS_BATCH", 130)
    await put(pool, [*floods.pushes(5), *floods.pulls(2000, nodes=40, tags=5)])
    worker = IngestWorker(pool, lookups)
    await drain(worker)
    keepers = [Housekeeper(pool, retention(pull_detail=timedelta(0))) for _ in range(2)]
    await asyncio.gather(*(settle(pool, keeper) for keeper in keepers))
    assert await counts(pool) == (2000, 2000, 0, 2000)
    entries = await pool.fetchval("SELECT count(*) FROM audit_entry WHERE action = $1", PULLED)
    assert entries < 2000
    late = [
        delivery(event("pull", tag="v0", at=EPOCH + timedelta(hours=1), number=f"late {n}"), can_wait=True)
        for n in range(7)
    ]
    await put(pool, late)
    await drain(worker)
    await settle(pool, keepers[0])
    assert await counts(pool) == (2007, 2007, 0, 2007)


async def test_pulls__younger_than_their_age_stay(pool: Pool, lookups: Lookups) -> None:
    """An hour is coalesced once all of it is of the age, not before."""
    now = datetime.now(UTC)
    young = delivery(event("pull", tag="v0", at=now, number="young"), can_wait=True)
    await put(pool, [*floods.pushes(1), *floods.pulls(10, nodes=1, tags=1), young])
    await drain(IngestWorker(pool, lookups))
    await settle(pool, Housekeeper(pool, retention(pull_detail=timedelta(hours=2))))
    assert await counts(pool) == (11, 11, 1, 10)


async def test_pulls__each_an_entry_of_the_log_if_all_are_wanted(pool: Pool, lookups: Lookups) -> None:
    """INDEXER_PULL_DETAIL=all: pulls go into the log one by one, and what was kept apart before follows."""
    await put(pool, [*floods.pushes(1), *floods.pulls(10, nodes=1, tags=1)])
    await drain(IngestWorker(pool, lookups))
    await put(pool, floods.pulls(25, nodes=1, tags=1))
    await drain(IngestWorker(pool, lookups, pulls_apart=False))
    assert await counts(pool) == (25, 25, 10, 15)
    await settle(pool, Housekeeper(pool, retention(pull_detail=None)))
    assert await counts(pool) == (25, 25, 0, 25)


async def test_batches__are_bounded_in_bytes_and_events(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch ends with the delivery that reaches its bound of bytes or of events."""
    pushed = floods.pushes(6)
    monkeypatch.setattr(workers, "BATCH_BYTES", 2 * len(pushed[0].body) + 1)
    worker = IngestWorker(pool, lookups)
    await put(pool, pushed)
    assert (await worker.run_once()).items == 3
    monkeypatch.setattr(workers, "BATCH_BYTES", 10)
    assert (await worker.run_once()).items == 1
    monkeypatch.setattr(workers, "BATCH_BYTES", 1_000_000)
    monkeypatch.setattr(batches, "BATCH_EVENTS", 1)
    assert (await worker.run_once()).items == 1
    assert (await worker.run_once()).items == 1
    assert await pool.fetchval("SELECT count(*) FROM tag") == 6


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [
        (0, 1.0, []),
        (3, 1.0, [workers.GATHER_SECONDS]),
        (3, 0.001, [workers.RUSH_GATHER_SECONDS]),
        (workers.BATCH, 0.001, []),
    ],
)
async def test_worker__pauses_the_longer_the_more_comes_but_never_with_a_backlog(
    pool: Pool,
    lookups: Lookups,
    monkeypatch: pytest.MonkeyPatch,
    *,
    count: int,
    seconds: float,
    expected: list[float],
) -> None:
    """So that what a registry sends one by one is applied together; a backlog and an empty inbox wait for nothing."""
    paused: list[float] = []

    class Hurry(WakeEvent):
        async def wait(self, seconds: float) -> None:
            paused.append(seconds)

    clock = itertools.count(100.0, seconds)
    monkeypatch.setattr(workers, "monotonic", lambda: next(clock))
    worker = IngestWorker(pool, lookups, hurry=Hurry())
    await worker.run_once()
    told = [event("push", tag=f"v{n}", at=EPOCH + timedelta(seconds=n), number=n) for n in range(count)]
    await put(pool, [delivery(each, can_wait=False) for each in told])
    assert count == (await worker.run_once()).items
    assert expected == paused


async def test_worker__sets_aside_the_delivery_that_failed_and_no_other(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a pull that cannot be applied is taken alone, a push arrives: the pull is quarantined, not the push."""
    push = delivery(event("push", tag="good", at=EPOCH, number=1), can_wait=False)
    worker = IngestWorker(pool, lookups)
    real = apply.apply_events

    async def fail_on_pulls(held: Any, words: Any, batch: Any, **named: Any) -> Any:
        if any(each.action == "pull" for each in batch):
            if worker._one_by_one:
                await put(pool, [push])
            raise ValueError("cannot be applied")
        return await real(held, words, batch, **named)

    monkeypatch.setattr(apply, "apply_events", fail_on_pulls)
    await put(pool, floods.pulls(1))
    await worker.run_once()
    await worker.run_once()
    await worker.run_once()
    assert await pool.fetchval("SELECT name FROM tag") == "good"
    reasons = await pool.fetch("SELECT reason FROM quarantine")
    assert [row["reason"] for row in reasons] == ["could not be applied: ValueError: cannot be applied"]


async def test_worker__sets_aside_one_of_a_backlog(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While whole batches wait, a failing one is not tried again as a whole: its deliveries are, one at a time."""
    worker = IngestWorker(pool, lookups, batch=4)
    real, failed = apply.apply_events, []

    async def fail_on_one(held: Any, words: Any, batch: Any, **named: Any) -> Any:
        if any(each.tag == "v17" for each in batch):
            failed.append(len(batch))
            raise ValueError("cannot be applied")
        return await real(held, words, batch, **named)

    monkeypatch.setattr(apply, "apply_events", fail_on_one)
    told = [event("push", tag=f"v{n}", at=EPOCH + timedelta(seconds=n), number=n) for n in range(40)]
    await put(pool, [delivery(each, can_wait=False) for each in told])
    await drain(worker)
    assert [4, 1] == failed
    assert await pool.fetchval("SELECT count(*) FROM tag") == 39
    assert await pool.fetchval("SELECT count(*) FROM quarantine") == 1
    assert await pool.fetchval("SELECT count(*) FROM inbox WHERE done_at IS NULL") == 0


async def test_housekeeping__forgets_by_age_in_small_batches(pool: Pool, lookups: Lookups) -> None:
    """Inbox rows, event ids, tombstones and failing work go once they are old, a batch a round; the rest stays."""
    await put(pool, floods.pushes(6))
    gone = [
        delivery(event("delete", tag=f"v{n}", at=EPOCH + timedelta(hours=1), number=n), can_wait=False)
        for n in range(6)
    ]
    await put(pool, gone)
    await drain(IngestWorker(pool, lookups))
    await pool.execute(
        "UPDATE work_item SET attempts = 3, waiting_since = now() - interval '8 days' WHERE kind = 'verify'"
    )
    keeper = Housekeeper(pool, retention(inbox=timedelta(0), due=timedelta(days=7)), batch=4)
    assert (await keeper.run_once()).rest_seconds == 0
    kept = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM work_item WHERE kind = 'verify')"
    row = await pool.fetchrow(kept)
    assert row is not None
    assert tuple(row) == (8, 2)
    await settle(pool, keeper)
    row = await pool.fetchrow(kept)
    assert row is not None
    assert tuple(row) == (0, 0)
    assert await pool.fetchval("SELECT count(*) FROM tag_tombstone") == 6
    assert await pool.fetchval("SELECT count(*) FROM applied_event") == 12
    await settle(pool, Housekeeper(pool, retention(events=timedelta(0), tombstones=timedelta(0)), batch=4))
    assert await pool.fetchval("SELECT count(*) FROM tag_tombstone") == 0
    assert await pool.fetchval("SELECT count(*) FROM applied_event") == 0


@pytest.mark.parametrize(("bound", "limit"), [("MAX_WAITING", 3), ("MAX_WAITING_BYTES", 30)])
async def test_writer__holds_no_more_than_its_bound(
    database_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, bound: str, limit: int
) -> None:
    """What waits for a commit is bounded in number and in bytes; what is beyond is refused, the rest is stored."""
    monkeypatch.setattr(writers, bound, limit)
    writer = InboxWriter(
        database_url, stored=WakeEvent(), spool=Spool(tmp_path / "spool.sqlite3", max_bytes=10_000_000)
    )
    waiting = [
        asyncio.create_task(writer.store(Delivery(received_at=EPOCH, body=b"0123456789"))) for _ in range(5)
    ]
    await asyncio.sleep(0)  # every task has come as far as it can: the writer does not run yet
    writer.start()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    await writer.close()
    assert [type(answer) for answer in answers] == [*3 * [type(None)], *2 * [StoreUnavailable]]

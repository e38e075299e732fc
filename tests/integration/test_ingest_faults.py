"""What cannot be applied, and whose fault that is: only a delivery's own content sets it aside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from indexer.common.errors import Postponed, StoreError, StoreTimedOut
from indexer.ingest import batch as batches
from indexer.ingest import envelope
from indexer.ingest.decide import ALIKE_IN_A_ROW, SLOW_ATTEMPTS
from indexer.ingest.worker import IngestWorker
from indexer.store import apply, inbox
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from tests.fixtures import floods
from tests.fixtures.floods import EPOCH, delivery, event

EVENTS = 3 * ALIKE_IN_A_ROW


async def put(pool: Pool, count: int = EVENTS, *, first: int = 0) -> None:
    told = [
        event("push", tag=f"v{n}", at=EPOCH + timedelta(seconds=n), number=n)
        for n in range(first, first + count)
    ]
    async with pool.acquire() as connection:
        await inbox.put_deliveries(connection, deliveries=[delivery(each, can_wait=False) for each in told])


async def rounds(worker: IngestWorker, count: int) -> list[str]:
    """Do rounds until there is nothing to do, at most ``count``; return why some failed."""
    failed = []
    for _ in range(count):
        try:
            if not (await worker.run_once()).items:
                break
        except (StoreError, Postponed) as error:
            failed.append(str(error))
    return failed


async def come_again(pool: Pool) -> None:
    """Let what waits for its next attempt have waited long enough."""
    await pool.execute("UPDATE inbox SET retry_at = now() WHERE retry_at IS NOT NULL")


async def found(pool: Pool) -> dict[str, int]:
    row = await pool.fetchrow(
        "SELECT (SELECT count(*) FROM tag) AS tags, (SELECT count(*) FROM inbox WHERE done_at IS NULL) AS waiting,"
        " (SELECT count(*) FROM quarantine) AS quarantined"
    )
    assert row is not None
    return dict(row)


def failing_on(monkeypatch: pytest.MonkeyPatch, tags: set[str], error: Callable[[], Exception]) -> list[int]:
    """Let a batch fail that tells of one of the tags; return the sizes of those that did."""
    real = apply.apply_events
    failed: list[int] = []

    async def apply_events(held: Any, words: Any, events: Any, **named: Any) -> Any:
        if any(each.tag in tags for each in events):
            failed.append(len(events))
            raise error()
        return await real(held, words, events, **named)

    monkeypatch.setattr(apply, "apply_events", apply_events)
    return failed


async def test_a_schema_that_is_not_ours__keeps_everything_waiting(pool: Pool, lookups: Lookups) -> None:
    """A column that a statement names is gone: nothing is quarantined, it is said, and applied once it is back."""
    await put(pool)
    await pool.execute("ALTER TABLE tag RENAME COLUMN revision TO was_revision")
    worker = IngestWorker(pool, lookups)
    failed = await rounds(worker, 3 * EVENTS)
    assert failed
    assert "UndefinedColumnError" in failed[-1]
    assert await found(pool) == {"tags": 0, "waiting": EVENTS, "quarantined": 0}
    async with pool.acquire() as connection:
        assert (await inbox.inbox_backlog(connection)).failing == EVENTS
    await pool.execute("ALTER TABLE tag RENAME COLUMN was_revision TO revision")
    await come_again(pool)
    assert await rounds(worker, 10 * EVENTS) == []
    assert await found(pool) == {"tags": EVENTS, "waiting": 0, "quarantined": 0}


@pytest.mark.full
async def test_a_right_that_is_missing__keeps_everything_waiting(pool: Pool, lookups: Lookups) -> None:
    """A trigger of somebody else refuses every row by an error of its own: no delivery is blamed."""
    await put(pool)
    await pool.execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'denied' USING ERRCODE = 'insufficient_privilege'; END $$;"
        "CREATE TRIGGER no BEFORE INSERT ON tag EXECUTE FUNCTION no()"
    )
    worker = IngestWorker(pool, lookups)
    assert await rounds(worker, 3 * EVENTS)
    assert await found(pool) == {"tags": 0, "waiting": EVENTS, "quarantined": 0}


async def test_locks_not_had_in_time__are_no_delivery_s_fault(pool: Pool, lookups: Lookups) -> None:
    """Another session holds a repository longer than the database lets us wait."""
    await put(pool, 1)
    assert await rounds(IngestWorker(pool, lookups), 5) == []
    await put(pool, 5, first=1)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM repository FOR UPDATE")
        name = await pool.fetchval("SELECT current_database()")
        await pool.execute(f"ALTER DATABASE \"{name}\" SET lock_timeout = '20ms'")
        await pool.expire_connections()
        worker = IngestWorker(pool, lookups)
        failed = await rounds(worker, 3)
    assert len(failed) == 3
    assert "LockNotAvailable" in failed[0]
    assert await found(pool) == {"tags": 1, "waiting": 5, "quarantined": 0}
    assert await rounds(worker, 5) == []
    assert await found(pool) == {"tags": 6, "waiting": 0, "quarantined": 0}


async def test_a_defect_of_ours__puts_off_the_one_delivery_it_is_about(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are applied; that one waits however often it fails, and is applied by a program that can."""
    await put(pool)
    with monkeypatch.context() as defect:
        failing_on(defect, {"v7"}, lambda: KeyError("v7"))
        worker = IngestWorker(pool, lookups)
        for _ in range(2 * SLOW_ATTEMPTS):
            await rounds(worker, 3 * EVENTS)
            await come_again(pool)
        assert await found(pool) == {"tags": EVENTS - 1, "waiting": 1, "quarantined": 0}
        row = await pool.fetchrow("SELECT attempts, last_error FROM inbox WHERE done_at IS NULL")
        assert row is not None
        assert row["attempts"] >= SLOW_ATTEMPTS
        assert row["last_error"] == "could not be applied: KeyError: 'v7'"
        async with pool.acquire() as connection:
            assert not await inbox.has_waiting(connection, received_before=EPOCH + timedelta(days=1))
    await rounds(worker, 3 * EVENTS)
    assert await found(pool) == {"tags": EVENTS, "waiting": 0, "quarantined": 0}


async def test_a_defect_of_ours__waits_before_it_is_tried_again(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that was put off is not taken by the next rounds, and those are not kept busy by it."""
    await put(pool, 1)
    failed = failing_on(monkeypatch, {"v0"}, lambda: KeyError("v0"))
    worker = IngestWorker(pool, lookups)
    await worker.run_once()
    await worker.run_once()
    await pool.execute("UPDATE inbox SET retry_at = now() + interval '1 hour'")
    assert (await worker.run_once()).items == 0
    assert failed == [1, 1]


async def test_too_slow__is_set_aside_after_three_times(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that the database never gets done with holds up nobody, and is quarantined with the reason."""
    await put(pool)
    failing_on(monkeypatch, {"v7"}, lambda: StoreTimedOut("the database does not answer: TimeoutError"))
    worker = IngestWorker(pool, lookups)
    for number in range(SLOW_ATTEMPTS):
        await rounds(worker, 3 * EVENTS)
        assert (await found(pool))["quarantined"] == (number == SLOW_ATTEMPTS - 1)
        await put(pool, 1, first=100 + number)
        await come_again(pool)
    assert (await found(pool))["tags"] == EVENTS - 1 + SLOW_ATTEMPTS - 1
    assert "TimeoutError" in await pool.fetchval("SELECT reason FROM quarantine")


@pytest.mark.full
async def test_a_slow_database__blames_nobody(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing at all is applied in time everything waits, however often it was tried."""
    await put(pool, 2)
    failing_on(monkeypatch, {"v0", "v1"}, lambda: StoreTimedOut("the database does not answer: TimeoutError"))
    worker = IngestWorker(pool, lookups)
    for _ in range(4 * SLOW_ATTEMPTS):
        await rounds(worker, 6)
        await come_again(pool)
    assert await found(pool) == {"tags": 0, "waiting": 2, "quarantined": 0}


async def test_content_that_is_refused_alike__stops_being_blamed(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everything is refused alike it is not the content: after a few the rest waits, and what is good goes on."""
    await put(pool)
    bad = {f"v{n}" for n in range(EVENTS)}
    failing_on(monkeypatch, bad, lambda: ValueError("cannot be stored"))
    worker = IngestWorker(pool, lookups)
    (reason,) = await rounds(worker, ALIKE_IN_A_ROW + 1)
    assert "in a row failed alike" in reason
    assert await found(pool) == {
        "tags": 0,
        "waiting": EVENTS - ALIKE_IN_A_ROW + 1,
        "quarantined": ALIKE_IN_A_ROW - 1,
    }
    await pool.execute("UPDATE inbox SET retry_at = now() + interval '1 hour' WHERE retry_at IS NOT NULL")
    await put(pool, 1, first=200)
    assert await rounds(worker, 5) == []
    assert (await found(pool))["tags"] == 1


async def test_many_refused_events__are_one_row(pool: Pool, lookups: Lookups) -> None:
    """A delivery of hundreds of events that are none is kept once, whole; its good events are applied."""
    good = event("push", tag="good", at=EPOCH, number=1)
    bad = [{"action": "push", "number": number} for number in range(101)]
    async with pool.acquire() as connection:
        await inbox.put_deliveries(
            connection, deliveries=[delivery(good, *bad, can_wait=False, received_at=EPOCH)]
        )
    assert await rounds(IngestWorker(pool, lookups), 3) == []
    assert await found(pool) == {"tags": 1, "waiting": 0, "quarantined": 1}
    row = await pool.fetchrow("SELECT reason, body FROM quarantine")
    assert row is not None
    assert row["reason"] == "101 of its events were refused, the first: no repository"
    assert b'"good"' in row["body"]


async def test_a_large_delivery__is_decoded_in_a_thread(
    pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would hold up the event loop does not: beyond a megabyte decoding happens elsewhere."""
    real, threads = envelope.decode, []

    def decode(*given: Any, **named: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(*given, **named)

    monkeypatch.setattr(batches, "decode", decode)
    (small,) = floods.pushes(1)
    push = event("push", tag="large", at=EPOCH, number=9)
    large = delivery(push, {"x": "y" * 1024 * 1024}, can_wait=False, received_at=EPOCH)
    worker = IngestWorker(pool, lookups)
    for each in (small, large):
        async with pool.acquire() as connection:
            await inbox.put_deliveries(connection, deliveries=[each])
        await worker.run_once()
    assert threads == [True, False]

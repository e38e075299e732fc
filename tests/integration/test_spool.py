"""Deliveries while the database is away: durable all the same, in order, and applied once."""

from __future__ import annotations

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from indexer.background.loop import WakeEvent
from indexer.common.errors import StoreUnavailable
from indexer.ingest import writer as writers
from indexer.ingest.spool import Spool
from indexer.ingest.writer import InboxWriter
from indexer.store.inbox import Delivery
from tests.fixtures.fault_proxy import FaultProxy

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def delivery(number: int, *, size: int = 0) -> Delivery:
    return Delivery(received_at=NOW, body=b"%d" % number + b" " * size)


class CrashError(BaseException):
    """The process dies here."""


def crash(*_: object) -> None:
    raise CrashError


async def stored(database_url: str) -> list[int]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT body FROM inbox ORDER BY id")
    finally:
        await connection.close()
    return [int(row["body"]) for row in rows]


async def until_stored(database_url: str, count: int) -> list[int]:
    async with asyncio.timeout(60):
        while len(found := await stored(database_url)) < count:
            await asyncio.sleep(0.02)
    return found


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "COMMIT_DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(writers, "DRAIN_DEADLINE_SECONDS", 2.0)
    monkeypatch.setattr(writers, "RETRY_SECONDS", 0.05)


def start(database_url: str, directory: Path, *, max_bytes: int = 10_000_000) -> InboxWriter:
    writer = InboxWriter(
        database_url, stored=WakeEvent(), spool=Spool(directory / "spool.sqlite3", max_bytes=max_bytes)
    )
    writer.start()
    return writer


@pytest.mark.parametrize("fault", ["refuse", "stall"])
async def test_spool__an_outage_keeps_every_delivery_and_their_order(
    proxy: FaultProxy, proxied_url: str, database_url: str, tmp_path: Path, fault: str
) -> None:
    """Deliveries before, during and after an outage are all acknowledged, and reach the inbox in order.

    A commit that a stall held back may still happen after its delivery was spooled: then it is there twice, and
    its event's id makes it count once.
    """
    writer = start(proxied_url, tmp_path)
    for number in range(5):
        await writer.store(delivery(number))
    getattr(proxy, fault)()
    for number in range(5, 25):
        await writer.store(delivery(number))
    proxy.resume()
    for number in range(25, 30):
        await writer.store(delivery(number))
    found = await until_stored(database_url, 30)
    async with asyncio.timeout(60):
        while len(set(found)) < 30:
            found = await stored(database_url)
    assert list(dict.fromkeys(found)) == list(range(30))
    assert len(found) == 30 or fault == "stall"
    await writer.close()


async def test_spool__survives_a_crash_of_ours(
    proxy: FaultProxy, proxied_url: str, database_url: str, tmp_path: Path
) -> None:
    """What was acknowledged during an outage is there after our process was killed and started again."""
    proxy.refuse()
    dying = start(proxied_url, tmp_path)
    for number in range(10):
        await dying.store(delivery(number))
    assert dying._task is not None
    dying._task.cancel()
    proxy.resume()
    writer = start(proxied_url, tmp_path)
    assert await until_stored(database_url, 10) == list(range(10))
    await writer.close()


async def test_spool__a_crash_between_inbox_and_forgetting_stores_nothing_twice(
    proxy: FaultProxy, proxied_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same spooled deliveries written to the inbox again are recognised by their keys."""
    proxy.refuse()
    dying = start(proxied_url, tmp_path)
    for number in range(10):
        await dying.store(delivery(number))
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "forget", crash)
        proxy.resume()
        assert dying._task is not None
        with pytest.raises(CrashError):
            await dying._task
    assert await stored(database_url) == list(range(10))
    writer = start(proxied_url, tmp_path)
    await writer.store(delivery(10))
    assert await until_stored(database_url, 11) == list(range(11))
    await writer.close()


async def test_spool__is_bounded(proxy: FaultProxy, proxied_url: str, tmp_path: Path) -> None:
    """Beyond its size a delivery is refused, so that the registry keeps it; room is made by draining."""
    proxy.refuse()
    writer = start(proxied_url, tmp_path, max_bytes=1000)
    await writer.store(delivery(1, size=344))
    with pytest.raises(StoreUnavailable, match="full"):
        await writer.store(delivery(2, size=344))
    await writer.store(delivery(3, size=44))
    await writer.close()


async def test_spool__deleted_under_us_is_made_anew(tmp_path: Path) -> None:
    """Whoever deletes the data directory takes nothing that was acknowledged, and nothing that still comes."""
    place = tmp_path / "data"
    spool = Spool(place / "spool.sqlite3", max_bytes=10**9)
    spool.append([delivery(1), delivery(2)])
    spool.forget(spool.first(limit=1, limit_bytes=10**9))
    shutil.rmtree(place)
    spool.append([delivery(3)])
    assert [2, 3] == [int(each.delivery.body) for each in spool.first(limit=9, limit_bytes=10**9)]
    again = Spool(place / "spool.sqlite3", max_bytes=10**9)
    assert [2, 3] == [int(each.delivery.body) for each in again.first(limit=9, limit_bytes=10**9)]
    assert again.waiting == spool.waiting == 2
    again.close()
    spool.close()


async def test_spool__deleted_and_not_to_be_made_anew_refuses(tmp_path: Path) -> None:
    """What cannot be made durable is not acknowledged."""
    place = tmp_path / "data"
    spool = Spool(place / "spool.sqlite3", max_bytes=10**9)
    shutil.rmtree(place)
    place.write_text("a file is where the directory was")
    with pytest.raises(StoreUnavailable, match="was deleted"):
        spool.append([delivery(1)])
    spool.close()


async def test_writer__is_not_held_up_by_what_blocks_elsewhere(
    proxy: FaultProxy, proxied_url: str, tmp_path: Path
) -> None:
    """While every thread that the process shares waits for slow receivers, a delivery is made durable."""
    proxy.refuse()
    writer = start(proxied_url, tmp_path)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
    received = threading.Event()
    slow = asyncio.create_task(asyncio.to_thread(received.wait))
    async with asyncio.timeout(60):
        await writer.store(delivery(1))
    assert not slow.done()
    received.set()
    await slow
    await writer.close()


async def test_writer__begins_again_whatever_ended_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in the writer is no reason for a delivery to wait for ever."""
    real = InboxWriter._next_group
    failed: list[bool] = []

    def fail_once(self: InboxWriter) -> Any:
        if not failed:
            failed.append(True)
            raise RuntimeError("can't start new thread")
        return real(self)

    monkeypatch.setattr(InboxWriter, "_next_group", fail_once)
    writer = start(database_url, tmp_path)
    async with asyncio.timeout(60):
        await writer.store(delivery(1))
    assert failed
    assert [1] == await stored(database_url)
    await writer.close()


async def test_writer__spools_while_the_schema_is_not_ours(database_url: str, tmp_path: Path) -> None:
    """An older process beside a newer schema acknowledges what it can keep on its disk, and moves it later."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE inbox RENAME COLUMN partition TO was_partition")
    writer = start(database_url, tmp_path)
    await writer.store(delivery(1))
    assert writer.spooled == 1
    await connection.execute("ALTER TABLE inbox RENAME COLUMN was_partition TO partition")
    await connection.close()
    assert [1] == await until_stored(database_url, 1)
    await writer.close()

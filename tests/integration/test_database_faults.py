"""The database fails in the middle of a batch, or has no room: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from indexer.background.loop import WakeEvent
from indexer.common.errors import StoreUnavailable
from indexer.ingest import writer as writers
from indexer.ingest.spool import Spool
from indexer.ingest.worker import IngestWorker
from indexer.ingest.writer import InboxWriter
from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings
from indexer.store import apply, inbox
from indexer.store import pool as pools
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, open_pool
from tests.fixtures import floods
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.floods import EPOCH
from tests.fixtures.postgres import SCHEMA, programs

HANGS_AFTER_SECONDS = 60.0
EVENTS = 40


async def put(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await inbox.put_deliveries(connection, deliveries=floods.pushes(EVENTS))


async def until_applied(worker: IngestWorker) -> None:
    """Run rounds as the harness does: one that fails is tried again."""
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        while True:
            with suppress(StoreUnavailable):
                if not (await worker.run_once()).items:
                    return
            await asyncio.sleep(0.01)


async def found(pool: Pool) -> tuple[int, ...]:
    """Tags, entries of the log about them, deliveries that wait, and quarantined ones."""
    row = await pool.fetchrow(
        "SELECT (SELECT count(*) FROM tag), (SELECT count(*) FROM audit_staged WHERE action = 'tag.created'),"
        " (SELECT count(*) FROM inbox WHERE done_at IS NULL), (SELECT count(*) FROM quarantine)"
    )
    assert row is not None
    return tuple(row)


def once_written(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    """Let ``fault`` happen once: when a batch has been written and not yet committed."""
    real = apply.apply_events
    happened = False

    async def apply_events(*given: Any, **named: Any) -> Any:
        nonlocal happened
        told = await real(*given, **named)
        if not happened:
            happened = True
            await fault()
        return told

    monkeypatch.setattr(apply, "apply_events", apply_events)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "COMMAND_TIMEOUT_SECONDS", 1.5)
    monkeypatch.setattr(pools, "CONNECT_TIMEOUT_SECONDS", 1.5)
    monkeypatch.setattr(pools, "ABANDONED_AFTER_SECONDS", 2.0)
    monkeypatch.setattr(writers, "COMMIT_DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(writers, "DRAIN_DEADLINE_SECONDS", 2.0)
    monkeypatch.setattr(writers, "RETRY_SECONDS", 0.05)


@pytest.mark.usefixtures("hurry")
async def test_worker__a_half_open_connection_ends_the_round_and_frees_its_locks(
    pool: Pool, proxy: FaultProxy, proxied_url: str, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that goes silent in the middle of a batch holds up no worker for ever.

    Its other side hears nothing of the end: the server drops the abandoned transaction, and its locks, by itself.
    """
    await put(pool)
    there = await open_pool(proxied_url, size=1, application="half open")

    async def stall() -> None:
        proxy.stall()

    once_written(monkeypatch, stall)
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        with pytest.raises(StoreUnavailable):
            await IngestWorker(there, lookups).run_once()
    assert await found(pool) == (0, 0, EVENTS, 0)
    other = IngestWorker(pool, lookups)
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        while (await found(pool))[2]:
            await other.run_once()
            await asyncio.sleep(0.02)
    assert await found(pool) == (EVENTS, EVENTS, 0, 0)
    there.terminate()


@pytest.mark.usefixtures("hurry")
async def test_worker__goes_on_through_the_same_pool_when_the_wire_is_back(
    pool: Pool, proxy: FaultProxy, proxied_url: str, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stall the very same pool serves again, and every event is applied once."""
    await put(pool)
    there = await open_pool(proxied_url, size=2, application="half open")

    async def stall() -> None:
        proxy.stall()
        asyncio.get_running_loop().call_later(3, proxy.resume)

    once_written(monkeypatch, stall)
    worker = IngestWorker(there, lookups)
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        while (await found(pool))[2]:
            await until_applied(worker)
    assert await found(pool) == (EVENTS, EVENTS, 0, 0)
    there.terminate()


@pytest.fixture
async def own_server() -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL that the test may restart."""
    outer = Path(tempfile.mkdtemp(prefix="indexer-test-"))
    outer.chmod(0o711)
    server = EmbeddedPostgres(
        EmbeddedSettings(data_dir=outer / "data", bin_dir=programs("auto"), durable=False)
    )
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(outer, ignore_errors=True)


async def test_worker__a_restart_of_the_server_in_the_middle_of_a_batch(
    own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is restarted when a batch is written and not committed: the batch is undone whole, and done again."""
    connection = await asyncpg.connect(own_server.database_url)
    await connection.execute(SCHEMA.read_text(encoding="utf-8"))
    await connection.close()
    pool = await open_pool(own_server.database_url, size=2, application="tests")
    words = await open_pool(own_server.database_url, size=2, application="tests words")
    await put(pool)

    async def restart() -> None:
        await own_server.stop()
        await own_server.start()

    once_written(monkeypatch, restart)
    worker = IngestWorker(pool, Lookups(words))
    with pytest.raises(StoreUnavailable):
        await worker.run_once()
    await until_applied(worker)
    assert await found(pool) == (EVENTS, EVENTS, 0, 0)
    for each in (pool, words):
        await each.close()


async def test_worker__a_full_disk_of_the_server_is_no_delivery_s_fault(pool: Pool, lookups: Lookups) -> None:
    """While the server says that its disk is full the batch waits; nothing is quarantined, and it is applied later."""
    await put(pool)
    await pool.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON audit_staged EXECUTE FUNCTION full_disk()"
    )
    worker = IngestWorker(pool, lookups)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="DiskFull"):
            await worker.run_once()
    assert await found(pool) == (0, 0, EVENTS, 0)
    await pool.execute("DROP TRIGGER full_disk ON audit_staged")
    await until_applied(worker)
    assert await found(pool) == (EVENTS, EVENTS, 0, 0)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte, or a skip where none can be mounted."""
    place = Path(tempfile.mkdtemp(prefix="indexer-test-"))
    place.chmod(0o711)
    mounted = False
    try:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("needs root, to mount a small file system")
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if tried.returncode:
            pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
        mounted = True
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        shutil.rmtree(place, ignore_errors=True)


def body(number: int) -> Delivery:
    return Delivery(received_at=EPOCH, body=b"%d" % number + b" " * 20_000)


async def numbers(database_url: str) -> list[int]:
    connection = await asyncpg.connect(database_url)
    try:
        return [int(row["body"]) for row in await connection.fetch("SELECT body FROM inbox ORDER BY id")]
    finally:
        await connection.close()


async def fill(writer: InboxWriter) -> tuple[list[int], int]:
    """Store until a delivery is refused; return those that were acknowledged, and the one that was not."""
    acknowledged: list[int] = []
    for number in range(200):
        try:
            await writer.store(body(number))
        except StoreUnavailable:
            return acknowledged, number
        acknowledged.append(number)
    raise AssertionError("the disk did not fill up")


@pytest.mark.usefixtures("hurry")
async def test_spool__a_full_disk_refuses_and_keeps_what_was_acknowledged(
    database_url: str, proxy: FaultProxy, proxied_url: str, small_disk: Path
) -> None:
    """With the database away and the disk full a delivery is refused, and what was acknowledged is kept.

    It reaches the inbox in order once the database is back, though the disk is still full, and so does what comes
    afterwards.
    """
    proxy.refuse()
    spool = Spool(small_disk / "spool.sqlite3", max_bytes=10**9)
    writer = InboxWriter(proxied_url, stored=WakeEvent(), spool=spool)
    writer.start()
    acknowledged, refused = await fill(writer)
    assert acknowledged
    with suppress(OSError), (small_disk / "something else").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    with pytest.raises(StoreUnavailable):
        await writer.store(body(refused))
    proxy.resume()
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        while spool.waiting:
            await asyncio.sleep(0.01)
        while len(await numbers(database_url)) == len(acknowledged):
            with suppress(StoreUnavailable):  # until the last of the spool is noticed
                await writer.store(body(refused))
    await writer.close()
    assert list(dict.fromkeys(await numbers(database_url))) == [*acknowledged, refused]
    again = InboxWriter(
        database_url, stored=WakeEvent(), spool=Spool(small_disk / "spool.sqlite3", max_bytes=10**9)
    )
    again.start()
    await again.store(body(999))
    await again.close()
    assert sorted(set(await numbers(database_url))) == [*acknowledged, refused, 999]


@pytest.mark.usefixtures("hurry")
async def test_writer__a_full_disk_of_the_server_is_spooled(
    pool: Pool, database_url: str, tmp_path: Path, small_disk: Path
) -> None:
    """When PostgreSQL itself has no room for the inbox, deliveries go to the spool, and move on once it has."""
    directory = small_disk / "space"
    directory.mkdir()
    data = Path(await pool.fetchval("SHOW data_directory"))
    if not data.is_dir():
        pytest.skip("needs a PostgreSQL on this machine, to give it a small file system")
    os.chown(directory, data.stat().st_uid, data.stat().st_gid)
    await pool.execute(f"CREATE TABLESPACE small_disk LOCATION '{directory}'")
    await pool.execute("ALTER TABLE inbox SET TABLESPACE small_disk")
    spool = Spool(tmp_path / "spool.sqlite3", max_bytes=10**9)
    writer = InboxWriter(database_url, stored=WakeEvent(), spool=spool)
    writer.start()
    noise = iter(range(10_000))
    while not spool.waiting:
        number = next(noise)
        await writer.store(Delivery(received_at=EPOCH, body=b"%d " % number + os.urandom(20_000)))
    stored_there = await pool.fetchval("SELECT count(*) FROM inbox")
    assert stored_there < number + 1
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        while spool.waiting:
            await asyncio.sleep(0.01)
    await writer.close()
    rows = await pool.fetch("SELECT body FROM inbox ORDER BY id")
    assert [int(row["body"].split(b" ")[0]) for row in rows] == list(range(number + 1))
    await pool.execute("ALTER TABLE inbox SET TABLESPACE pg_default")
    await pool.execute("DROP TABLESPACE small_disk")

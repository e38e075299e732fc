"""The loop that keeps the accounts: real registries, a real database, every step made by the test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from aiohttp import web

from indexer.background.housekeeping import Housekeeper, Retention
from indexer.background.loop import WakeEvent
from indexer.ingest import writer as writers
from indexer.ingest.endpoint import add_endpoint
from indexer.ingest.receiver_heartbeat import ReceiverHeartbeat
from indexer.ingest.spool import Spool
from indexer.ingest.worker import IngestWorker
from indexer.ingest.writer import InboxWriter
from indexer.inventory.loss import Downtime, LossState, LossStatement, ReceiverSession
from indexer.store import loss, receiver_sessions
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from reconciler.loss import decide as deciding
from reconciler.loss.decide import Sample
from reconciler.loss.downtime import PATIENCE
from reconciler.loss.loop import Accountant
from reconciler.registry.endpoint_counters import EndpointCounters, ProcessMark
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.registries import StartRegistry
from tests.fixtures.requests import REQUESTS
from tools.registry_server import Endpoint, RegistryServer
from tools.sample_images import Pusher, oci_image

TOKEN = "secret-of-the-test"
APP = "team/app"


@asynccontextmanager
async def session(database_url: str, directory: Path) -> AsyncIterator[tuple[str, InboxWriter]]:
    """Our own door, its writer and its spool, on a port of its own."""
    spool = Spool(directory / "spool.sqlite3", max_bytes=10_000_000)
    writer = InboxWriter(database_url, stored=WakeEvent(), spool=spool)
    writer.start()
    app = web.Application()
    add_endpoint(app, writer=writer, token=TOKEN)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/notifications", writer
    finally:
        await runner.cleanup()
        await writer.close()


async def push(registry: RegistryServer, name: str) -> None:
    def work() -> None:
        with Pusher(registry.url) as pusher:
            pusher.push(APP, oci_image(name, layer_sizes=(64,)), name)

    await asyncio.to_thread(work)


async def until_applied(worker: IngestWorker) -> None:
    """Wait for a delivery, and apply it."""
    async with asyncio.timeout(60):
        while not (await worker.run_once()).items:
            await asyncio.sleep(0.02)


async def until_empty(worker: IngestWorker) -> None:
    while (await worker.run_once()).items:
        pass


async def claims(pool: Pool) -> list[LossStatement]:
    """What was claimed by counters, the latest first."""
    async with connection(pool) as held:
        found = await loss.list_processes(held, limit=10)
        by_process = await loss.list_statements(
            held, process_ids=[account.id for account, _ in found], limit=50
        )
    return [claim for of_process in by_process.values() for claim in of_process]


async def until_delivered(pool: Pool, accountant: Accountant, count: int) -> None:
    async with asyncio.timeout(60):
        while True:
            await accountant.run_once()
            async with connection(pool) as held:
                if any(each.delivered == count for each in (await loss.list_accounts(held)).values()):
                    return
            await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "COMMIT_DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(writers, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr("reconciler.loss.loop.INBOX_WAIT_SECONDS", 0.1)


async def test_spool__that_empties_slowly_is_no_loss(
    *,
    start_registry: StartRegistry,
    registry_version: int,
    pool: Pool,
    lookups: Lookups,
    proxy: FaultProxy,
    proxied_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits in a spool, or in the inbox, however long, is not counted as lost; once it is applied, nothing was."""
    monkeypatch.setattr(deciding, "PATIENCE", timedelta(0))
    async with session(proxied_url, tmp_path) as (url, writer):
        registry = start_registry(registry_version, notifications=[Endpoint(url, token=TOKEN)])
        accountant = Accountant(pool, debug_urls=[registry.debug_url], token=TOKEN)
        worker, presence = IngestWorker(pool, lookups), ReceiverHeartbeat(pool, writer)
        await presence.run_once()
        await push(registry, "first")
        await until_applied(worker)
        await until_delivered(pool, accountant, 1)
        await accountant.run_once()
        proxy.refuse()
        proxy.cut()
        await push(registry, "second")
        await push(registry, "third")
        async with asyncio.timeout(60):
            while writer.spooled < 2:
                await asyncio.sleep(0.02)
        await presence.run_once()
        await until_delivered(pool, accountant, 3)
        for _ in range(3):
            await accountant.run_once()
        async with connection(pool) as held:
            (account,) = (await loss.list_accounts(held)).values()
        assert (3, 2, None) == (account.delivered, account.missing, account.suspected_at)
        proxy.resume()
        async with asyncio.timeout(60):
            while writer.spooled:
                await asyncio.sleep(0.02)
        await presence.run_once()
        for _ in range(3):
            await accountant.run_once()  # now it waits in the inbox
        await until_empty(worker)
        for _ in range(3):
            await accountant.run_once()
    assert {"nothing_lost"} == {claim.state for claim in await claims(pool)}
    async with connection(pool) as held:
        (account,) = (await loss.list_accounts(held)).values()
        assert await loss.newest_suspicion(held) is None
    assert (account.read_at, 0) == (account.accounted_until, account.missing)


async def test_spool__of_a_process_that_is_gone_is_waited_for(
    start_registry: StartRegistry, pool: Pool, lookups: Lookups, tmp_path: Path, database_url: str
) -> None:
    """While no process of the server says a word, nothing is called lost: who knows what waits in its spool."""
    async with session(database_url, tmp_path) as (url, writer):
        registry = start_registry(3, notifications=[Endpoint(url, token=TOKEN)])
        accountant = Accountant(pool, debug_urls=[registry.debug_url], token=TOKEN)
        await push(registry, "v1")
        await until_applied(IngestWorker(pool, lookups))
        await until_delivered(pool, accountant, 1)
        for _ in range(3):
            await accountant.run_once()
        assert [] == await claims(pool)
        await ReceiverHeartbeat(pool, writer).run_once()
        for _ in range(2):
            await accountant.run_once()
        assert ["nothing_lost"] == [claim.state for claim in await claims(pool)]


@contextmanager
def prometheus_only(registry: RegistryServer) -> Iterator[str]:
    """A debug address of which a proxy lets through ``/metrics`` alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = REQUESTS.get(registry.debug_url + self.path) if self.path == "/metrics" else None
            body = b"" if answer is None else answer.content
            self.send_response(404 if answer is None else answer.status_code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_prometheus__alone_is_enough_on_3(
    start_registry: StartRegistry, pool: Pool, lookups: Lookups, tmp_path: Path, database_url: str
) -> None:
    """Where only Prometheus' text is there, 3.x is accounted for all the same, and a restart is seen."""
    async with session(database_url, tmp_path) as (url, writer):
        registry = start_registry(3, notifications=[Endpoint(url, token=TOKEN)])
        with prometheus_only(registry) as address:
            accountant = Accountant(pool, debug_urls=[address], token=TOKEN)
            await ReceiverHeartbeat(pool, writer).run_once()
            await push(registry, "v1")
            await until_applied(IngestWorker(pool, lookups))
            await until_delivered(pool, accountant, 1)
            for _ in range(2):
                await accountant.run_once()
            assert ["nothing_lost"] == [claim.state for claim in await claims(pool)]
            async with connection(pool) as held:
                (account,) = (await loss.list_accounts(held)).values()
            assert (1, 1, 0, True) == (
                account.events,
                account.accepted,
                account.missing,
                account.instance_id is not None,
            )
            assert account.process_start_seconds is not None
            await asyncio.to_thread(registry.restart)
            await accountant.run_once()
    found = await claims(pool)
    assert {"unknown", "nothing_lost"} == {claim.state for claim in found}
    (unknown,) = [claim for claim in found if claim.state == "unknown"]
    assert unknown.needs_reconcile
    assert "ended" in (unknown.because or "")


async def test_prometheus__alone_is_nothing_on_2(
    start_registry: StartRegistry, pool: Pool, tmp_path: Path, database_url: str
) -> None:
    """2.8 counts no notifications for Prometheus: it is never taken for a registry that made none."""
    async with session(database_url, tmp_path) as (url, writer):
        registry = start_registry(2, notifications=[Endpoint(url, token=TOKEN)])
        with prometheus_only(registry) as address:
            accountant = Accountant(pool, debug_urls=[address], token=TOKEN)
            await ReceiverHeartbeat(pool, writer).run_once()
            await push(registry, "v1")
            for _ in range(3):
                await accountant.run_once()
    assert "nothing_lost" not in {claim.state for claim in await claims(pool)}


async def announced(pool: Pool, instance: str, *, at: datetime, address: str = "registry:5000") -> None:
    await pool.execute(
        "INSERT INTO registry_instance (key, instance, address, first_seen_at, last_seen_at, first_event_at,"
        " last_event_at, events) VALUES ($1, $2, $3, $4, $4, $4, $4, 1)",
        instance.encode(),
        instance,
        address,
        at,
    )


async def open_doors(pool: Pool, *spans: tuple[datetime, datetime]) -> None:
    async with connection(pool) as held:
        for opened, last in spans:
            found = ReceiverSession(opened_at=opened, heartbeat_at=last)
            await receiver_sessions.record_receiver_session(
                held, process=uuid.uuid4(), session=found, spooled=0
            )


async def test_downtime__is_decided_once(pool: Pool) -> None:
    """A silent registry after a downtime is unknown for that interval, calls for a walk, and is said once."""
    now = datetime.now(UTC)
    began, ended = now - PATIENCE * 4, now - PATIENCE * 2
    await announced(pool, "one", at=began - timedelta(seconds=1))
    await open_doors(pool, (began - timedelta(hours=1), began), (ended, now))
    accountant = Accountant(pool, debug_urls=(), token=TOKEN)
    for _ in range(3):
        await accountant.run_once()
    async with connection(pool) as held:
        number = await held.fetchval("SELECT id FROM registry_instance")
        found = await loss.list_instance_statements(held, instance_ids=[number], limit=5)
        doubt = await loss.newest_suspicion(held)
    assert [(began, ended, True)] == [
        (each.from_at, each.to_at, each.needs_reconcile) for each in found[number]
    ]
    assert doubt is not None
    assert ended == doubt.at


@pytest.mark.parametrize(
    ("counted_for", "left"),
    [
        pytest.param(timedelta(seconds=60), [], id="all of it was counted"),
        pytest.param(timedelta(seconds=-5), [5], id="all but its beginning"),
        pytest.param(timedelta(seconds=-20), [10], id="nothing of it"),
    ],
)
async def test_downtime__is_taken_back_where_it_was_counted(
    pool: Pool, counted_for: timedelta, left: list[int]
) -> None:
    """Counters that turn out to be an instance's own speak for the time that they cover, and nothing else does."""
    now = datetime.now(UTC)
    gap = Downtime(from_at=now - timedelta(seconds=60), to_at=now - timedelta(seconds=50))
    await announced(pool, "one", at=gap.from_at - timedelta(seconds=1))
    statement = LossStatement(state=LossState.UNKNOWN, from_at=gap.from_at, to_at=gap.to_at, because="away")
    counters = EndpointCounters(events=3, successes=3, pending=0, statuses={202: 3})
    first = Sample(at=gap.from_at - counted_for, counters=counters, process=ProcessMark())
    account = deciding.open_account(first, address="http://registry:5001")
    async with connection(pool) as held:
        number = await held.fetchval("SELECT id FROM registry_instance")
        await loss.add_downtime(held, downtime=gap, statements={number: statement})
        process = await loss.save_account(held, account=account)
        await loss.drop_covered_statements(held)
        assert 1 == len((await loss.list_instance_statements(held, instance_ids=[number], limit=5))[number])
        linked = replace(account, id=process, instance_id=number, accounted_until=now)
        await loss.save_account(held, account=linked)
        await loss.drop_covered_statements(held)
        found = (await loss.list_instance_statements(held, instance_ids=[number], limit=5))[number]
    assert left == [(each.to_at - each.from_at).seconds for each in found]


async def test_downtime__is_found_however_long_it_was(pool: Pool) -> None:
    """Housekeeping forgets no door whose end is the beginning of a downtime that nobody has decided yet."""
    now = datetime.now(UTC)
    began, ended = now - timedelta(days=40), now - PATIENCE * 2
    await announced(pool, "one", at=began - timedelta(seconds=1))
    await open_doors(
        pool,
        (began - timedelta(days=2), began - timedelta(days=1)),
        (began - timedelta(days=1), began),
        (ended, now),
    )
    day = timedelta(days=1)
    keep = Retention(inbox=day, events=day, tombstones=day, due=day, pull_detail=day)
    await Housekeeper(pool, keep).run_once()
    async with connection(pool) as held:
        assert 2 == len(await receiver_sessions.list_receiver_sessions(held))
    await Accountant(pool, debug_urls=(), token=TOKEN).run_once()
    async with connection(pool) as held:
        assert ended == await loss.decided_until(held)
    await Housekeeper(pool, keep).run_once()
    async with connection(pool) as held:
        assert 1 == len(await receiver_sessions.list_receiver_sessions(held))
        assert ended == await loss.decided_until(held)


async def test_downtime__a_process_that_spooled_all_the_time_leaves_none(pool: Pool) -> None:
    """The word of a process that had no database for an hour covers that hour."""
    now = datetime.now(UTC)
    process = uuid.uuid4()
    async with connection(pool) as held:
        for last in (now - timedelta(hours=1), now):
            found = ReceiverSession(opened_at=now - timedelta(hours=2), heartbeat_at=last)
            await receiver_sessions.record_receiver_session(held, process=process, session=found, spooled=0)
    await announced(pool, "one", at=now - timedelta(hours=2))
    await Accountant(pool, debug_urls=(), token=TOKEN).run_once()
    async with connection(pool) as held:
        assert await loss.decided_until(held) is None

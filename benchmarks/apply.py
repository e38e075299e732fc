"""From inbox to inventory, history and audit: our worker beside two limits of the same database.

Sides, turn by turn, each on a fresh copy of one database (an inventory of --tags), each with the same pushes,
one a delivery, half to new tags and half to tags on record:

- ours, one and two workers, each a process of its own: `ingest` as `indexer serve` runs it, from a full inbox to an
  empty one;
- bare SQL, one and two processes: the same rows written by the same statements with every decision, decoding
  and conversion made beforehand, in batches of the same size; two never name the same repository;
- one table: nothing but the raw pushes into one table without keys, 100 a statement.

    python3 dev.py bench apply [--events N] [--tags N] [--burst N] [--profile]

The clock runs from when all connections are open. Beside other work on the machine, processor time tells more than
the clock: of the clients alone, and with that of PostgreSQL.

--burst N puts N events into the inbox at once and prints how far behind one and two workers are.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import asyncpg
import uvloop

from benchmarks._bare import BareWriter, one_table
from benchmarks._database import Server, server
from benchmarks._events import Push, pushes
from benchmarks._inventory import fill, shared_out
from benchmarks._processes import side_by_side
from benchmarks._report import Report, Target, announce, batched, command_line, say
from indexer.ingest.worker import BATCH, IngestWorker
from indexer.store import inbox
from indexer.store.lookups import Lookups
from indexer.store.pool import connect, open_pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from indexer.store.pool import Connection, Pool

WATCH_SECONDS = 5


async def put_inbox(url: str, events: Sequence[Push], *, received_at: datetime | None = None) -> None:
    """Deliver everything, as the endpoint stores it; each received when it was sent, or all at one instant."""
    connection = await connect(url, application="bench")
    for group in batched(events, 500):
        deliveries = [push.delivery for push in group]
        if received_at is not None:
            deliveries = [replace(delivery, received_at=received_at) for delivery in deliveries]
        await inbox.put_deliveries(connection, deliveries=deliveries)
    await connection.execute("ANALYZE inbox")
    await connection.close()


@dataclass(frozen=True, slots=True)
class Spent:
    """What one side took: seconds by the clock, and of processor time of its clients and of PostgreSQL meanwhile."""

    seconds: float
    clients: float = 0.0
    postgres: float = 0.0


async def measured(
    place: Server, work: Callable[..., Awaitable[None]], calls: Sequence[tuple[Any, ...]]
) -> Spent:
    """Run clients side by side."""
    before = place.processor_seconds()
    took = await side_by_side(work, calls)
    return Spent(took.seconds, took.processor_seconds, place.processor_seconds() - before)


async def ours(place: Server, url: str, events: Sequence[Push], *, workers: int) -> Spent:
    """Drain a full inbox, each worker in a process of its own."""
    await put_inbox(url, events)
    spent = await measured(place, work, [(url,)] * workers)
    connection = await connect(url, application="bench")
    await check(connection, events)
    await connection.close()
    return spent


async def work(begin: Callable[[], None], url: str) -> None:
    """Apply what waits, until nothing is left that no other worker has."""
    pool = await open_pool(url, size=8, application="bench work")
    words = await open_pool(url, size=2, application="bench words")
    worker = IngestWorker(pool, Lookups(words))
    await opened(pool, 4)
    await opened(words, 2)
    begin()
    while (await worker.run_once()).items:
        pass
    await pool.close()
    await words.close()


async def opened(pool: Pool, count: int) -> None:
    """Open connections of a pool before the clock runs."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(pool.acquire())


async def drain(url: str, *, workers: int) -> None:
    """Let workers of this process empty the inbox."""
    await asyncio.gather(*(work(_at_once, url) for _ in range(workers)))


def _at_once() -> None:
    """Wait for nobody."""


async def check(connection: Connection, events: Sequence[Push]) -> None:
    """Both sides must have written the same: every push has its tag, its interval and its entry."""
    digests = [b"\x01" + bytes.fromhex(push.digest[7:]) for push in events]
    tags = await connection.fetchval(
        "SELECT count(*) FROM tag JOIN manifest AS m ON m.id = manifest_id WHERE m.digest = ANY ($1::bytea[])",
        digests,
    )
    intervals = await connection.fetchval("SELECT count(*) FROM tag_history WHERE event_key IS NOT NULL")
    entries = await connection.fetchval(
        "SELECT count(*) FROM audit_staged WHERE action IN ('tag.created', 'tag.moved')"
    )
    assert (tags, intervals, entries) == (len(events),) * 3, (tags, intervals, entries, len(events))


async def bare(place: Server, url: str, events: Sequence[Push], *, connections: int) -> Spent:
    """Write the same with every decision made beforehand, each repository in one process."""
    await put_inbox(url, events)
    writer = await BareWriter.prepare(url, events)
    calls = [
        (
            url,
            writer,
            [n for n, push in enumerate(events) if crc32(push.repository.encode()) % connections == part],
        )
        for part in range(connections)
    ]
    spent = await measured(place, write, calls)
    connection = await connect(url, application="bench")
    await check(connection, events)
    await connection.close()
    return spent


async def table(_place: Server, url: str, events: Sequence[Push]) -> Spent:
    """Write nothing but the raw pushes into one table."""
    return Spent(len(events) / await one_table(url, events))


async def write(begin: Callable[[], None], url: str, writer: BareWriter, numbers: Sequence[int]) -> None:
    """Write events by their numbers, a batch a transaction."""
    connection = await connect(url, application="bench bare")
    begin()
    for batch in batched(numbers, BATCH):
        await writer.write(connection, batch)
    await connection.close()


async def burst(place: Server, count: int, repositories: list[tuple[str, int]]) -> None:
    """Print how far behind the workers are, after so many events came at once."""
    events = pushes(count, repositories, seed=99)
    for workers in (1, 2):
        async with place.copy("bench_burst") as url:
            await put_inbox(url, events, received_at=datetime.now(UTC))
            watching = asyncio.create_task(watch(url))
            try:
                took = await side_by_side(work, [(url,)] * workers)
            finally:
                watching.cancel()
        rate = count / took.seconds
        print(f"burst of {count:,}, {workers} worker(s): {rate:,.0f} events/s until all were applied")


async def watch(url: str) -> None:
    """Print every few seconds how many deliveries wait and for how long the oldest has."""
    connection = await connect(url, application="bench watch")
    before = await inbox.inbox_backlog(connection)
    began = time.perf_counter()
    print("   seconds    waiting   oldest, s")
    while before.waiting:
        await asyncio.sleep(0.1)
        now = await inbox.inbox_backlog(connection)
        if now.waiting == before.waiting == 0:
            break
        age = (datetime.now(UTC) - now.since).total_seconds() if now.since else 0.0
        print(f"{time.perf_counter() - began:10.1f} {now.waiting:>10,} {age:11.1f}", flush=True)
        await asyncio.sleep(WATCH_SECONDS)
        before = now


async def run(arguments: argparse.Namespace) -> None:
    report = Report("apply")
    quick = arguments.quick
    tags = arguments.tags or (2_000 if quick else 100_000)
    count = arguments.events or (400 if quick else 6_000)
    sized = shared_out(tags, 10 if quick else 300)
    repositories = [(repository.name, repository.tags) for repository in sized]
    async with server() as place:
        url = await place.template()
        connection = await connect(url, application="bench")
        version = await connection.fetchval("SHOW server_version")
        await fill(connection, sized)
        await connection.close()
        announce(report, postgresql=version, tags=tags, repositories=len(sized), events=count, batch=BATCH)
        if arguments.profile:
            await profile(place, pushes(count, repositories))
            return
        sides: dict[str, Callable[[Server, str, Sequence[Push]], Awaitable[Spent]]] = {
            "one table": table,
            "bare SQL, 1": partial(bare, connections=1),
            "ours, 1": partial(ours, workers=1),
            "bare SQL, 2": partial(bare, connections=2),
            "ours, 2": partial(ours, workers=2),
        }
        for turn in range(arguments.rounds or (1 if quick else 5)):
            events = pushes(count, repositories, seed=turn)
            for name, side in sides.items():
                async with place.copy("bench_turn") as url:
                    spent = await side(place, url, events)
                report.add(name, count / spent.seconds, "events/s")
                if spent.postgres:
                    report.add(
                        f"{name}: clients", spent.clients * 1000 / count, "ms an event of processor time"
                    )
                    both = (spent.clients + spent.postgres) * 1000 / count
                    report.add(f"{name}: processor", both, "ms an event, PostgreSQL included")
            say(f"round {turn + 1}: " + ", ".join(f"{n} {report.figures[n][-1]:,.0f}" for n in sides))
        report.show()
        if quick:
            print(
                "a trial: most of so few events is the beginning, when statements are prepared and batches small"
            )
        # A trial is judged by nobody.
        report.ratio("ours, 1", "bare SQL, 1", target=None if quick else Target(at_least=0.7))
        report.ratio("ours, 2", "bare SQL, 2", target=None if quick else Target(at_least=0.7))
        report.ratio("ours, 2", "ours, 1", target=None if quick else Target(at_least=1.4))
        report.ratio("bare SQL, 2", "bare SQL, 1")
        report.ratio("ours, 1", "one table")
        if "ours, 1: processor" in report.figures:
            report.ratio("ours, 1: processor", "bare SQL, 1: processor")
        if arguments.burst:
            await burst(place, arguments.burst, repositories)
    report.keep(arguments)


async def profile(place: Server, events: Sequence[Push]) -> None:
    """Print where one worker's time goes: by statement (undisturbed), then by function (profiled, so slower)."""
    async with place.copy("bench_turn") as url:
        await put_inbox(url, events)
        spent: dict[str, list[float]] = {}
        began = time.perf_counter()
        with statements_timed(spent):
            await drain(url, workers=1)
        rate = len(events) / (time.perf_counter() - began)
        print(f"{rate:,.0f} events/s; waiting for statements, ms a batch of {BATCH}, by their first words:")
        batches = len(events) / BATCH
        for statement, times in sorted(spent.items(), key=lambda item: -sum(item[1]))[:30]:
            print(f"  {sum(times) * 1000 / batches:8.2f}  {len(times) / batches:5.1f} ×  {statement}")
        print(f"  {sum(map(sum, spent.values())) * 1000 / batches:8.2f}  all, of {BATCH / rate * 1000:.2f}")
    async with place.copy("bench_turn") as url:
        await put_inbox(url, events)
        profiler = cProfile.Profile()
        profiler.enable()
        await drain(url, workers=1)
        profiler.disable()
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


@contextmanager
def statements_timed(spent: dict[str, list[float]]) -> Iterator[None]:
    """Note how long each statement is waited for."""
    connection: Any = asyncpg.connection.Connection
    original = connection._do_execute

    async def timed(self: Any, query: str, *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return await original(self, query, *arguments, **named)
        finally:
            words = " ".join(line for line in query.splitlines() if not line.startswith("--"))
            spent.setdefault(words[:90], []).append(time.perf_counter() - began)

    connection._do_execute = timed
    try:
        yield
    finally:
        connection._do_execute = original


def main() -> None:
    parser = command_line("Inbox to inventory: our worker beside bare SQL.")
    parser.add_argument("--events", type=int, help="events a turn (6,000)")
    parser.add_argument("--tags", type=int, help="tags in the inventory (100,000)")
    parser.add_argument("--burst", type=int, default=0, help="then drain a burst of so many events (0)")
    parser.add_argument(
        "--profile", action="store_true", help="print a profile of one worker, and nothing else"
    )
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

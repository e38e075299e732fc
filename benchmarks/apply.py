"""From inbox to inventory, history and audit: our worker beside two limits of the same database.

Sides, turn by turn, each on a fresh copy of one database (an inventory of --tags), each with the same pushes,
one a delivery, half to new tags and half to tags on record:

- ours, one and two workers: `ingest` as `indexer serve` runs it, from a full inbox to an empty one;
- bare SQL, one and two connections: the same rows written by the same statements with every decision, decoding
  and conversion made beforehand, in batches of the same size;
- one table: nothing but the raw pushes into one table without keys, 100 a statement.

    python3 dev.py bench apply [--events N] [--tags N] [--burst N] [--profile]

--burst N puts N events into the inbox at once and prints how the backlog shrinks.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import uvloop

from benchmarks._bare import BareWriter, one_table
from benchmarks._database import Server, server
from benchmarks._events import Push, pushes
from benchmarks._inventory import fill, shared_out
from benchmarks._report import Report, Target, announce, batched, command_line, say
from indexer.ingest.worker import BATCH, IngestWorker
from indexer.store import inbox
from indexer.store.lookups import Lookups
from indexer.store.pool import connect, open_pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from indexer.store.pool import Connection


async def put_inbox(url: str, events: Sequence[Push]) -> None:
    """Deliver everything, as the endpoint stores it."""
    connection = await connect(url, application="bench")
    for group in batched(events, 500):
        await inbox.put_deliveries(connection, deliveries=[push.delivery for push in group])
    await connection.execute("ANALYZE inbox")
    await connection.close()


async def ours(url: str, events: Sequence[Push], *, workers: int) -> float:
    """Drain a full inbox; return events a second."""
    await put_inbox(url, events)
    began = time.perf_counter()
    await drain(url, workers=workers)
    took = time.perf_counter() - began
    connection = await connect(url, application="bench")
    await check(connection, events)
    await connection.close()
    return len(events) / took


async def drain(url: str, *, workers: int) -> list[tuple[float, int]]:
    """Let workers empty the inbox; return after how many seconds how many deliveries were done."""
    pool = await open_pool(url, size=workers * 2, application="bench work")
    words = await open_pool(url, size=2, application="bench words")
    began = time.perf_counter()
    watch: list[tuple[float, int]] = []
    total = 0

    async def work() -> None:
        nonlocal total
        worker = IngestWorker(pool, Lookups(words))
        while done := (await worker.run_once()).items:
            total += done
            watch.append((time.perf_counter() - began, total))

    await asyncio.gather(*(work() for _ in range(workers)))
    await pool.close()
    await words.close()
    return watch


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


async def bare(url: str, events: Sequence[Push], *, connections: int) -> float:
    """Write the same with every decision made beforehand; return events a second."""
    await put_inbox(url, events)
    writer = await BareWriter.prepare(url, events)
    pool = await open_pool(url, size=connections, application="bench bare")
    waiting = iter(list(batched(range(len(events)), BATCH)))

    async def work() -> None:
        async with pool.acquire() as connection:
            for numbers in waiting:
                await writer.write(connection, numbers)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    took = time.perf_counter() - began
    async with pool.acquire() as connection:
        await check(connection, events)
    await pool.close()
    return len(events) / took


async def burst(place: Server, count: int, repositories: list[tuple[str, int]]) -> None:
    """Print how the backlog of a burst shrinks."""
    events = pushes(count, repositories, seed=99)
    for workers in (1, 2):
        async with place.copy("bench_burst") as url:
            await put_inbox(url, events)
            watch = await drain(url, workers=workers)
        print(
            f"burst of {count:,}, {workers} worker(s): {count / watch[-1][0]:,.0f} events/s; seconds → events left"
        )
        for share in range(1, 11):
            seconds, done = watch[share * (len(watch) - 1) // 10]
            print(f"  {seconds:8.1f}  {count - done:>9,}")


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
        sides: dict[str, Callable[[str, Sequence[Push]], Awaitable[float]]] = {
            "one table": one_table,
            "bare SQL, 1": lambda url, events: bare(url, events, connections=1),
            "ours, 1": lambda url, events: ours(url, events, workers=1),
            "bare SQL, 2": lambda url, events: bare(url, events, connections=2),
            "ours, 2": lambda url, events: ours(url, events, workers=2),
        }
        for turn in range(arguments.rounds or (1 if quick else 5)):
            events = pushes(count, repositories, seed=turn)
            for name, side in sides.items():
                async with place.copy("bench_turn") as url:
                    report.add(name, await side(url, events), "events/s")
            say(f"round {turn + 1}: " + ", ".join(f"{n} {report.figures[n][-1]:,.0f}" for n in sides))
        report.show()
        report.ratio("ours, 1", "bare SQL, 1", target=Target(at_least=0.7))
        report.ratio("ours, 2", "bare SQL, 2", target=Target(at_least=0.7))
        report.ratio("ours, 2", "ours, 1")
        report.ratio("ours, 1", "one table")
        if arguments.burst:
            await burst(place, arguments.burst, repositories)
    report.keep(arguments)


async def profile(place: Server, events: Sequence[Push]) -> None:
    """Print where one worker's time goes: by statement (undisturbed), then by function (profiled, so slower)."""
    async with place.copy("bench_turn") as url:
        spent: dict[str, list[float]] = {}
        with statements_timed(spent):
            rate = await ours(url, events, workers=1)
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

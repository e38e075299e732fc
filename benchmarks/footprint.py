"""What it takes: bytes a tag and an audit entry, seconds to start a command, memory of the server at rest and at work.

Bytes are the whole database (heap, indexes, TOAST) after a vacuum, divided by tags; an entry is its share of the log
and the log's indexes. A start is measured beside a bare interpreter of the same environment, turn by turn.

    python3 dev.py bench footprint [--tags N] [--events N] [--rounds N]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks._database import Server, server
from benchmarks._events import pushes
from benchmarks._inventory import fill, shared_out
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks._serving import indexer, memory_mib, until_up
from benchmarks.apply import drain, put_inbox
from indexer.audit.seal import Sealer
from indexer.store.pool import connect, open_pool

if TYPE_CHECKING:
    import argparse

PROGRAMS = Path(sys.executable).parent
COMMANDS = (
    ("indexer", "--version"),
    ("indexer", "serve", "--help"),
    ("reconciler", "--version"),
    ("indexer", "openapi"),
)
LOG_TABLES = ("audit_entry", "audit_staged", "audit_tile", "audit_salt")


def started(command: tuple[str, ...]) -> float:
    """Return the seconds from start to end of a command that does next to nothing."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def starts(report: Report, rounds: int) -> None:
    for _ in range(rounds):
        report.add("start, python -c pass", started((sys.executable, "-c", "pass")) * 1000, "ms")
        for program, *arguments in COMMANDS:
            name = " ".join(("start,", program, *arguments))
            report.add(name, started((str(PROGRAMS / program), *arguments)) * 1000, "ms")


async def bytes_of(place: Server, report: Report, *, tags: int, events: int) -> None:
    """Fill an inventory, apply pushes to it, seal their entries, and weigh the database."""
    sized = shared_out(tags, max(tags // 300, 1))
    async with place.copy("bench_bytes") as url:
        connection = await connect(url, application="bench")
        empty = await connection.fetchval("SELECT pg_database_size(current_database())")
        await fill(connection, sized)
        await connection.execute("VACUUM FULL", timeout=3600)
        full = await connection.fetchval("SELECT pg_database_size(current_database())")
        report.add("database, with one version of history", (full - empty) / tags, "bytes/tag")
        await put_inbox(url, pushes(events, [(s.name, s.tags) for s in sized]))
        await drain(url, workers=1)
        pool = await open_pool(url, size=2, application="bench")
        while (await Sealer(pool).run_once()).items:
            pass
        await pool.close()
        for table in LOG_TABLES:
            await connection.execute(f"VACUUM FULL {table}", timeout=3600)
        entries = await connection.fetchval("SELECT count(*) FROM audit_entry")
        size = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('audit_entry')"
        )
        report.add("audit log", size / entries, "bytes/entry")
        proof = await connection.fetchval(
            "SELECT pg_total_relation_size('audit_tile') + pg_total_relation_size('audit_salt')"
        )
        report.add("audit log, its tree and salts", proof / entries, "bytes/entry")
        await connection.close()


async def memory(place: Server, report: Report, *, events: int) -> None:
    """Weigh the server before and after it applied events."""
    async with place.copy("bench_memory") as url:
        with indexer(url, place.directory) as (address, process):
            await until_up(f"{address}/healthz")
            await asyncio.sleep(2)
            report.add("memory of indexer serve, at rest", memory_mib(process.pid), "MiB")
            await put_inbox(url, pushes(events, [("bench/app", 0)]))
            connection = await connect(url, application="bench")
            while await connection.fetchval("SELECT count(*) FROM inbox WHERE done_at IS NULL"):
                await asyncio.sleep(0.2)
            await connection.close()
            report.add("memory of indexer serve, after a burst", memory_mib(process.pid), "MiB")


async def run(arguments: argparse.Namespace) -> None:
    report = Report("footprint")
    quick = arguments.quick
    tags = arguments.tags or (2_000 if quick else 100_000)
    events = arguments.events or (1_000 if quick else 20_000)
    async with server() as place:
        await place.template()
        announce(report, tags=tags, events=events)
        starts(report, arguments.rounds or (1 if quick else 7))
        say("starts measured")
        await bytes_of(place, report, tags=tags, events=events)
        say("bytes measured")
        await memory(place, report, events=events)
    report.show()
    for name, at_most in (
        ("database, with one version of history", 1200),
        ("audit log", 260),
        ("start, indexer --version", 300),
        ("start, reconciler --version", 300),
    ):
        print(f"{name}: {Target(at_most=at_most).judge(report.median(name))}")
    report.keep(arguments)


def main() -> None:
    parser = command_line("Bytes, starts and memory.")
    parser.add_argument("--tags", type=int, help="tags in the inventory (100,000)")
    parser.add_argument("--events", type=int, help="pushes applied (20,000)")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

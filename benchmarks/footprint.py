"""What it takes: bytes a tag and an audit entry, the start of every command, memory of the server at rest and at work.

Bytes are the whole database (heap, indexes, TOAST) after a vacuum, divided by tags; an entry is its share of the log
and the log's indexes. A start is measured beside a bare interpreter of the same environment, turn by turn.

``--pushes N`` measures only the database after N real pushes to a registry, some minutes after the last.

    python3 dev.py bench footprint [--tags N] [--events N] [--rounds N] [--pushes N [--settle-minutes N]]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cyclopts
import uvloop

from benchmarks._database import Server, server
from benchmarks._events import pushes
from benchmarks._inventory import fill, shared_out
from benchmarks._pushed import pushed_bytes
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks._serving import indexer, memory_mib, memory_together_mib, until_up
from benchmarks.apply import drain, put_inbox
from benchmarks.verify import reconciler, registry_of
from indexer.audit.seal import Sealer
from indexer.commands.main import app as indexer_app
from indexer.store.pool import connect, open_pool
from reconciler.commands.main import app as reconciler_app
from tools import registry_binary
from tools.ports import free_port

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

PROGRAMS = Path(sys.executable).parent
COMMANDS = (("indexer", "--version"), ("reconciler", "--version"), ("indexer", "openapi"))
ASKING = (
    ("indexer", "migrate"),
    ("indexer", "inbox", "list"),
    ("indexer", "feeds", "list"),
    ("indexer", "audit", "export"),
    ("indexer", "audit", "key"),
    ("reconciler", "status"),
)
"""Verbs that ask a database, an empty one here: settings, logs, driver and event loop are loaded."""
LONGEST_START_MS = 300
AT_REST_SECONDS = 8
AT_REST_MIB = 124  # 130 MB
LOG_TABLES = ("audit_entry", "audit_staged", "audit_tile", "audit_salt")


def verbs(program: str, app: cyclopts.App, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield every verb of a program, and every group of them, as it is typed."""
    yield (program, *before)
    for name in app:
        if not name.startswith("-"):
            yield from verbs(program, app[name], *before, name)


def started(command: tuple[str, ...], environment: dict[str, str] | None = None) -> float:
    """Return the seconds from start to end of a command that does next to nothing."""
    began = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | (environment or {}),
    )
    return time.perf_counter() - began


async def starts(place: Server, report: Report, rounds: int) -> None:
    """Start every verb for its help, and some for what they do, beside an empty interpreter."""
    helped = [
        (*verb, "--help") for verb in (*verbs("indexer", indexer_app), *verbs("reconciler", reconciler_app))
    ]
    async with place.copy("bench_starts") as url:
        environment = {"INDEXER_DATABASE_URL": url, "INDEXER_DATA_DIR": str(place.directory)}
        await asyncio.to_thread(
            started, (str(PROGRAMS / "indexer"), "audit", "key", "--replace"), environment
        )
        for _ in range(rounds):
            report.add("start, python -c pass", started((sys.executable, "-c", "pass")) * 1000, "ms")
            for program, *arguments in (*COMMANDS, *helped, *ASKING):
                took = started((str(PROGRAMS / program), *arguments), environment)
                report.add(" ".join(("start,", program, *arguments)), took * 1000, "ms")


def slowest(report: Report, names: list[str]) -> str:
    """Return which help takes longest."""
    return max((name for name in names if name.endswith("--help")), key=report.median)


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
    """Weigh server and reconciler at rest, and the server after it applied events."""
    async with place.copy("bench_memory") as url:
        directory = place.directory / "memory"
        with (
            indexer(url, place.directory) as (address, process),
            registry_of(registry_binary.find(), directory, free_port()) as registry,
            reconciler(url, registry) as beside,
        ):
            await until_up(f"{address}/healthz")
            await asyncio.sleep(AT_REST_SECONDS)
            report.add("memory of indexer serve, at rest", memory_mib(process.pid), "MiB")
            report.add("memory of reconciler run, at rest", memory_mib(beside.pid), "MiB")
            together = memory_together_mib((process.pid, beside.pid))
            report.add("memory of both, at rest, shared pages once", together, "MiB")
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
        if arguments.pushes:
            announce(report, pushes=arguments.pushes)
            await pushed_bytes(place, report, tags=arguments.pushes, settle_minutes=arguments.settle_minutes)
            report.show()
            for name, at_most in (
                ("database after pushes, all in", 2500),
                ("database after pushes, the inbox", 300),
            ):
                print(f"{name}: {Target(at_most=at_most).judge(report.median(name))}")
            report.keep(arguments)
            return
        announce(report, tags=tags, events=events)
        if arguments.memory:
            await memory(place, report, events=events)
            report.show()
            return
        await starts(place, report, arguments.rounds or (1 if quick else 7))
        say("starts measured")
        await bytes_of(place, report, tags=tags, events=events)
        say("bytes measured")
        await memory(place, report, events=events)
    report.show()
    for name, at_most in (
        ("database, with one version of history", 1200),
        ("audit log", 260),
        ("memory of both, at rest, shared pages once", AT_REST_MIB),
    ):
        print(f"{name}: {Target(at_most=at_most).judge(report.median(name))}")
    started = [name for name in report.figures if name.startswith("start, ")]
    for name in (*(n for n in started if not n.endswith("--help")), slowest(report, started)):
        print(f"{name}: {Target(at_most=LONGEST_START_MS).judge(report.median(name))}")
    report.keep(arguments)


def main() -> None:
    parser = command_line("Bytes, starts and memory.")
    parser.add_argument("--tags", type=int, help="tags in the inventory (100,000)")
    parser.add_argument("--events", type=int, help="pushes applied (20,000)")
    parser.add_argument("--pushes", type=int, help="measure the database after so many real pushes only")
    parser.add_argument("--memory", action="store_true", help="measure memory only")
    parser.add_argument("--settle-minutes", type=float, default=10, help="how long after the last push (10)")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

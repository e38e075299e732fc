"""A whole walk: its pace beside a bare loop of the same requests, and its memory as one repository grows.

The registry is simulated by a process of its own that computes its answers, so that what is measured is the walk and
not a storage; a real registry answers more slowly, and the walk is nearer to it.

    python3 dev.py bench reconcile [--tags N] [--repositories N] [--sizes N N …] [--rounds N]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import uvloop

from benchmarks._database import Server, server
from benchmarks._many_tags import name_of, tag_of
from benchmarks._report import Report, Target, announce, command_line, say
from indexer.oci.media_types import MANIFEST_ACCEPT
from indexer.store.pool import connect
from tools.registry_server import free_port

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

RECONCILER = Path(sys.executable).parent / "reconciler"
CONCURRENCY = 32
MEMORY_MIB = 150


@contextmanager
def registry(repositories: int, tags_each: int) -> Iterator[str]:
    """Run the registry and give its URL."""
    port = free_port()
    command = (sys.executable, "-m", "benchmarks._many_tags", str(port), str(repositories), str(tags_each))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def walk(place: Server, database: str, url: str, *, quick: bool = False) -> tuple[float, float]:
    """Walk once with the real command; return the seconds of the walk and the process's greatest memory in MiB."""
    process = await asyncio.to_thread(_once, place, database, url, quick=quick)
    connection = await connect(database, application="bench")
    seconds = await connection.fetchval(
        "SELECT extract(epoch FROM finished_at - started_at)::float8 FROM drift_run WHERE outcome = 'complete'"
        " ORDER BY id DESC LIMIT 1"
    )
    await connection.close()
    return float(seconds), process


def _once(place: Server, database: str, url: str, *, quick: bool) -> float:
    settings = {
        "INDEXER_DATABASE_URL": database,
        "INDEXER_DATA_DIR": str(place.directory / "none"),
        "RECONCILER_REGISTRY_URL": url,
        "RECONCILER_CONCURRENCY": str(CONCURRENCY),
    }
    with subprocess.Popen(
        [str(RECONCILER), "once", "--json", *(["--quick"] if quick else [])],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_maxrss / 1024


async def bare(url: str, repositories: int, tags_each: int) -> float:
    """Send what a first walk sends, and do nothing with the answers; return the seconds."""
    paths = iter(
        [("GET", f"/v2/{name_of(number)}/tags/list") for number in range(repositories)]
        + [
            ("HEAD", f"/v2/{name_of(number)}/manifests/{tag_of(tag)}")
            for number in range(repositories)
            for tag in range(tags_each)
        ]
    )

    async def ask(session: aiohttp.ClientSession) -> None:
        for method, path in paths:
            async with session.request(method, url + path, headers={"Accept": MANIFEST_ACCEPT}) as answer:
                await answer.read()

    began = time.perf_counter()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(ask(session))
    return time.perf_counter() - began


async def pace(place: Server, report: Report, *, repositories: int, tags: int, rounds: int) -> None:
    """Walk what is new, walk what is on record, and ask the same without us, turn by turn."""
    each = tags // repositories
    with registry(repositories, each) as url:
        for number in range(rounds):
            report.add("bare loop", tags / await bare(url, repositories, each), "tags/s")
            async with place.copy(f"bench_pace_{number}") as database:
                seconds, _ = await walk(place, database, url)
                report.add("first walk", tags / seconds, "tags/s")
                seconds, _ = await walk(place, database, url, quick=True)
                report.add("walk of what is on record", tags / seconds, "tags/s")
            say(f"pace, round {number + 1} of {rounds}")


async def memory(place: Server, report: Report, *, sizes: list[int]) -> None:
    """Walk one repository of each size, new and on record."""
    for size in sizes:
        with registry(1, size) as url:
            async with place.copy("bench_memory") as database:
                for name, quick in (("first walk", False), ("walk on record", True)):
                    seconds, peak = await walk(place, database, url, quick=quick)
                    report.add(f"memory, one repository of {size:,} tags, {name}", peak, "MiB")
                    say(f"{size:,} tags, {name}: {peak:.0f} MiB, {seconds:.0f} s")


async def run(arguments: argparse.Namespace) -> None:
    report = Report("reconcile")
    quick = arguments.quick
    repositories = arguments.repositories or (20 if quick else 2_000)
    tags = arguments.tags or (1_000 if quick else 100_000)
    sizes = arguments.sizes or ([1_000, 5_000] if quick else [10_000, 100_000, 1_000_000])
    async with server() as place:
        await place.template()
        announce(report, repositories=repositories, tags=tags, sizes=sizes)
        if not arguments.only_memory:
            await pace(
                place,
                report,
                repositories=repositories,
                tags=tags,
                rounds=arguments.rounds or (1 if quick else 3),
            )
        await memory(place, report, sizes=sizes)
    report.show()
    if not arguments.only_memory:
        for name in ("first walk", "walk of what is on record"):
            report.ratio(name, "bare loop")
    largest = f"memory, one repository of {sizes[-1]:,} tags, walk on record"
    print(f"{largest}: {Target(at_most=MEMORY_MIB).judge(report.median(largest))}")
    report.keep(arguments)


def main() -> None:
    parser = command_line("A whole walk beside a bare loop of the same requests, and its memory.")
    parser.add_argument("--repositories", type=int, help="repositories that are walked (2,000)")
    parser.add_argument("--tags", type=int, help="tags that are walked (100,000)")
    parser.add_argument("--sizes", type=int, nargs="+", help="tags of one repository, for memory")
    parser.add_argument("--only-memory", action="store_true", help="leave out the pace")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

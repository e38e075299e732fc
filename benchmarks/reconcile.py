"""A full reconcile: its pace beside a bare loop of the same requests, and its memory as one repository grows.

The pace is that of a real registry (Distribution 3.1.1, or 2.8 by --registry 2), and with --registry 0 of a simulated
one that computes its answers: then what is measured is the reconcile and not a storage. The memory is measured on the
simulated one, since the size of one repository is what matters there.

    python3 dev.py bench reconcile [--tags N] [--repositories N] [--registry 3] [--sizes N N …] [--rounds N]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import uvloop

from benchmarks._database import Server, server
from benchmarks._many_tags import name_of, tag_of
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks._storage import bench_image, fill
from indexer.oci.media_types import MANIFEST_ACCEPT
from indexer.store.pool import connect
from tools import registry_binary
from tools.ports import free_port
from tools.registry_server import RegistryServer, RegistrySettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

RECONCILER = Path(sys.executable).parent / "reconciler"
CONCURRENCY = 32
MEMORY_MIB = 150
PACE = 0.8
BACKFILL_PACE = 0.75


@contextmanager
def real(major: int, repositories: int, tags_each: int) -> Iterator[str]:
    """Run a Distribution that holds so much, and give its URL."""
    found = registry_binary.find(major, say=say)
    with tempfile.TemporaryDirectory(prefix="indexer-bench-") as directory:
        running = RegistryServer(found, RegistrySettings(directory=Path(directory)))
        fill(running.storage_dir, repositories=repositories, tags_each=tags_each)
        say(f"the storage of Distribution {found.version} is filled")
        running.start()
        try:
            yield running.url
        finally:
            running.stop()


@contextmanager
def simulated(repositories: int, tags_each: int) -> Iterator[str]:
    """Run the simulated registry and give its URL."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What one ``reconciler once`` took: the reconcile; all of it until everything it found was read; its memory."""

    reconcile_seconds: float
    command_seconds: float
    peak_mib: float


async def reconcile(place: Server, database: str, url: str, *, quick: bool = False) -> Reconciled:
    """Walk once with the real command."""
    began = time.perf_counter()
    peak = await asyncio.to_thread(_once, place, database, url, quick=quick)
    ended = time.perf_counter()
    connection = await connect(database, application="bench")
    seconds = await connection.fetchval(
        "SELECT extract(epoch FROM finished_at - started_at)::float8 FROM reconcile_run WHERE outcome = 'complete'"
        " ORDER BY id DESC LIMIT 1"
    )
    await connection.close()
    return Reconciled(reconcile_seconds=float(seconds), command_seconds=ended - began, peak_mib=peak)


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


async def bare(url: str, repositories: int, tags_each: int, *, contents: bool = False) -> float:
    """Send what a first reconcile sends, and do nothing with the answers; return the seconds.

    ``contents``: then what reads every manifest and config, too.
    """
    paths = [("GET", f"/v2/{name_of(number)}/tags/list") for number in range(repositories)]
    paths += [
        ("HEAD", f"/v2/{name_of(number)}/manifests/{tag_of(tag)}")
        for number in range(repositories)
        for tag in range(tags_each)
    ]
    began = time.perf_counter()
    await _ask_all(url, paths)
    taken = time.perf_counter() - began
    if contents:
        images = [
            (name_of(number), bench_image(number, tag))
            for number in range(repositories)
            for tag in range(tags_each)
        ]
        paths = [("GET", f"/v2/{name}/manifests/{image.digest}") for name, image in images]
        paths += [("GET", f"/v2/{name}/blobs/{image.blobs[0].digest}") for name, image in images]
        began = time.perf_counter()
        await _ask_all(url, paths)
        taken += time.perf_counter() - began
    return taken


async def _ask_all(url: str, paths: Iterable[tuple[str, str]]) -> None:
    paths = iter(paths)

    async def ask(session: aiohttp.ClientSession) -> None:
        for method, path in paths:
            async with session.request(method, url + path, headers={"Accept": MANIFEST_ACCEPT}) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(ask(session))


async def pace(
    place: Server, report: Report, *, registry: int, repositories: int, tags: int, rounds: int
) -> None:
    """Reconcile what is new, then what is on record, and ask the same without us, turn by turn."""
    each = tags // repositories
    with real(registry, repositories, each) if registry else simulated(repositories, each) as url:
        await bare(url, repositories, each)  # the first reading of a storage is slower than any other
        for number in range(rounds):
            report.add("bare loop", tags / await bare(url, repositories, each), "tags/s")
            if registry:
                seconds = await bare(url, repositories, each, contents=True)
                report.add("bare loops with manifests and configs", tags / seconds, "manifests/s")
            async with place.copy(f"bench_pace_{number}") as database:
                first = await reconcile(place, database, url)
                report.add("first reconcile", tags / first.reconcile_seconds, "tags/s")
                if registry:
                    report.add("first reconcile and backfill", tags / first.command_seconds, "manifests/s")
                known = await reconcile(place, database, url, quick=True)
                report.add("reconcile of what is on record", tags / known.reconcile_seconds, "tags/s")
            say(f"pace, round {number + 1} of {rounds}")


async def memory(place: Server, report: Report, *, sizes: list[int]) -> None:
    """Walk one repository of each size, new and on record."""
    for size in sizes:
        with simulated(1, size) as url:
            async with place.copy("bench_memory") as database:
                for name, quick in (("first reconcile", False), ("reconcile on record", True)):
                    took = await reconcile(place, database, url, quick=quick)
                    report.add(f"memory, one repository of {size:,} tags, {name}", took.peak_mib, "MiB")
                    say(f"{size:,} tags, {name}: {took.peak_mib:.0f} MiB, {took.reconcile_seconds:.0f} s")


async def run(arguments: argparse.Namespace) -> None:
    report = Report("reconcile")
    quick = arguments.quick
    repositories = arguments.repositories or (20 if quick else 2_000)
    tags = arguments.tags or (1_000 if quick else 100_000)
    sizes = arguments.sizes or ([1_000, 5_000] if quick else [10_000, 100_000, 1_000_000])
    async with server() as place:
        await place.template()
        announce(report, registry=arguments.registry, repositories=repositories, tags=tags, memory_of=sizes)
        if not arguments.only_memory:
            await pace(
                place,
                report,
                registry=arguments.registry,
                repositories=repositories,
                tags=tags,
                rounds=arguments.rounds or (1 if quick else 3),
            )
        if not arguments.only_pace:
            await memory(place, report, sizes=sizes)
    report.show()
    if not arguments.only_memory:
        for name in ("first reconcile", "reconcile of what is on record"):
            report.ratio(name, "bare loop", target=Target(at_least=PACE))
        if arguments.registry:
            report.ratio(
                "first reconcile and backfill",
                "bare loops with manifests and configs",
                target=Target(at_least=BACKFILL_PACE),
            )
    if not arguments.only_pace:
        largest = f"memory, one repository of {sizes[-1]:,} tags, reconcile on record"
        print(f"{largest}: {Target(at_most=MEMORY_MIB).judge(report.median(largest))}")
    report.keep(arguments)


def main() -> None:
    parser = command_line("A full reconcile beside a bare loop of the same requests, and its memory.")
    parser.add_argument("--repositories", type=int, help="repositories that are reconciled (2,000)")
    parser.add_argument("--tags", type=int, help="tags that are reconciled (100,000)")
    parser.add_argument("--sizes", type=int, nargs="+", help="tags of one repository, for memory")
    parser.add_argument(
        "--registry", type=int, choices=(0, 2, 3), default=3, help="major version; 0: simulated"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--only-memory", action="store_true", help="leave out the pace")
    only.add_argument("--only-pace", action="store_true", help="leave out the memory")
    try:
        uvloop.run(run(parser.parse_args()))
    except registry_binary.NoRegistryError as error:
        sys.exit(f"bench reconcile: {error}")


if __name__ == "__main__":
    main()

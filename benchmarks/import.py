"""A registry's past from its storage: `reconciler storage import`, beside the backfill over the registry's API.

The storage is written straight to disk (see _storage), a manifest with a config of its own for every four tags. A real
registry serves it: the canary goes through it, and the backfill (`reconciler once` until everything it found was read)
asks it. The backfill is measured on a smaller storage of the same shape, in turns with an import of the same.

    python3 dev.py bench import [--tags N] [--repositories N] [--backfill N] [--registry 3] [--rounds N]
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

import uvloop

from benchmarks._database import Server, server
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks._storage import fill
from indexer.store.pool import connect
from tools import registry_binary
from tools.registry_server import RegistryServer, RegistrySettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

RECONCILER = Path(sys.executable).parent / "reconciler"
SHARED_BY = 4
SECONDS_OF_A_MILLION = 600
MEMORY_MIB = 200
TIMES_THE_BACKFILL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A storage, and the registry that serves it."""

    directory: Path
    url: str
    tags: int


@contextmanager
def stored(arguments: argparse.Namespace, repositories: int, tags: int) -> Iterator[Stored]:
    """Write a storage, and run a Distribution on it."""
    found = registry_binary.find(arguments.registry, say=say)
    with tempfile.TemporaryDirectory(prefix="indexer-bench-", dir=arguments.directory) as directory:
        running = RegistryServer(found, RegistrySettings(directory=Path(directory)))
        began = time.perf_counter()
        each = tags // repositories
        fill(running.storage_dir, repositories=repositories, tags_each=each, shared_by=SHARED_BY)
        say(f"{repositories * each:,} tags are written, in {time.perf_counter() - began:.0f} s")
        running.start()
        try:
            yield Stored(directory=running.storage_dir, url=running.url, tags=repositories * each)
        finally:
            running.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command took."""

    seconds: float
    peak_mib: float


def run_command(place: Server, database: str, of: Stored, *verb: str) -> Ran:
    """Run the real command to its end."""
    settings = {
        "INDEXER_DATABASE_URL": database,
        "INDEXER_DATA_DIR": str(place.directory / "none"),
        "RECONCILER_REGISTRY_URL": of.url,
        "RECONCILER_STORAGE_URL": f"file://{of.directory}",
    }
    began = time.perf_counter()
    with subprocess.Popen(
        [str(RECONCILER), *verb, "--json"],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{' '.join(verb)}: exit {process.returncode}"
    return Ran(seconds=time.perf_counter() - began, peak_mib=used.ru_maxrss / 1024)


async def check(database: str, tags: int) -> None:
    """See that everything is on record, dated and read: a fast import of half of it is none."""
    connection = await connect(database, application="bench")
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE t.published_source = 'storage') AS dated,"
        " count(*) FILTER (WHERE m.content = 'read') AS read FROM tag AS t JOIN manifest AS m ON m.id = t.manifest_id"
        " JOIN repository AS r ON r.id = t.repository_id WHERE r.name LIKE 'bench/%'"
    )
    await connection.close()
    assert row is not None
    assert (row["dated"], row["read"]) == (tags, tags), dict(row)


async def run(arguments: argparse.Namespace) -> None:
    report = Report("import")
    tags = arguments.tags or (4_000 if arguments.quick else 250_000)
    repositories = arguments.repositories or max(1, tags // 500)
    backfill = arguments.backfill or (2_000 if arguments.quick else 20_000)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    async with server() as place:
        await place.template()
        announce(
            report, registry=arguments.registry, repositories=repositories, tags=tags, backfill_of=backfill
        )
        with stored(arguments, max(1, backfill // 500), backfill) as small:
            for number in range(rounds):
                async with place.copy("bench_import") as database:
                    took = await asyncio.to_thread(run_command, place, database, small, "storage", "import")
                    await check(database, small.tags)
                    report.add("import, of the small storage", small.tags / took.seconds, "tags/s")
                async with place.copy("bench_import") as database:
                    took = await asyncio.to_thread(run_command, place, database, small, "once")
                    report.add("backfill over the API", small.tags / took.seconds, "tags/s")
                say(f"round {number + 1} of {rounds}")
        if not arguments.only_ratio:
            with stored(arguments, repositories, tags) as large:
                async with place.copy("bench_import") as database:
                    took = await asyncio.to_thread(run_command, place, database, large, "storage", "import")
                    await check(database, large.tags)
                    report.add("import, of the large storage", large.tags / took.seconds, "tags/s")
                    report.add("seconds of it", took.seconds, "s")
                    report.add("memory of it", took.peak_mib, "MiB")
                    again = await asyncio.to_thread(run_command, place, database, large, "storage", "import")
                    report.add("the same again", large.tags / again.seconds, "tags/s")
    report.show()
    # Of the small import two seconds are the start of the process and the canary; the large one shows what a tag costs.
    report.ratio(
        "import, of the small storage", "backfill over the API", target=Target(at_least=TIMES_THE_BACKFILL)
    )
    if not arguments.only_ratio:
        report.ratio(
            "import, of the large storage",
            "backfill over the API",
            target=Target(at_least=TIMES_THE_BACKFILL),
        )
        limit = SECONDS_OF_A_MILLION * large.tags / 1_000_000
        print(f"seconds: {Target(at_most=limit).judge(report.median('seconds of it'))}")
        print(f"memory: {Target(at_most=MEMORY_MIB).judge(report.median('memory of it'))}")
    report.keep(arguments)


def main() -> None:
    parser = command_line("`reconciler storage import` beside the backfill over the registry's API.")
    parser.add_argument(
        "--repositories", type=int, help="repositories of the large storage (one for 500 tags)"
    )
    parser.add_argument("--tags", type=int, help="tags of the large storage (250,000)")
    parser.add_argument("--backfill", type=int, help="tags of the small storage (20,000)")
    parser.add_argument("--registry", type=int, choices=(2, 3), default=3, help="major version")
    parser.add_argument("--directory", type=Path, help="where the storages are written: 9 files for each tag")
    parser.add_argument("--only-ratio", action="store_true", help="leave out the large storage")
    try:
        uvloop.run(run(parser.parse_args()))
    except registry_binary.NoRegistryError as error:
        sys.exit(f"bench import: {error}")


if __name__ == "__main__":
    main()

"""From a push to *verified*: how long after the registry's 201 the first observation agrees, idle and under load.

A real Distribution (--registry 3 or 2), `indexer serve` and `reconciler run`, each a process of its own, on one
machine. A probe pushes a new tag, and the record is watched until an observation has agreed with it;
the time of that observation is the product's own.
Under load, writers push and move other tags meanwhile, at a given rate: beyond what the machine
can verify, the backlog grows, and with it the time, without end.

    python3 dev.py bench verify [--registry 3|2] [--probes N] [--rate N] [--rounds N] [--quick] [--json FILE]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import uvloop

from benchmarks._database import server
from benchmarks._report import Report, Target, announce, command_line, percentile, say
from benchmarks._serving import NOTIFICATIONS_TOKEN, indexer, until_up
from tools import registry_binary
from tools.ports import free_port
from tools.registry_server import QUIET, Endpoint, RegistryServer, RegistrySettings
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

PATIENCE_SECONDS = 60
POLL_SECONDS = 0.01
WRITERS = 4
VERIFIED = (
    "SELECT t.verified_at FROM tag AS t JOIN repository AS r ON r.id = t.repository_id "
    "WHERE r.name = $1 AND t.name = $2"
)


@contextmanager
def registry_of(
    found: registry_binary.FoundRegistry,
    directory: Path,
    port: int,
    *,
    ignore: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[RegistryServer]:
    """Run a registry that posts to a port of this machine; ``ignore`` None: neither blobs nor pulls."""
    directory.mkdir()
    endpoint = Endpoint(
        url=f"http://127.0.0.1:{port}/notifications", token=NOTIFICATIONS_TOKEN, ignore=ignore or QUIET
    )
    registry = RegistryServer(found, RegistrySettings(directory=directory, notifications=(endpoint,)))
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


@contextmanager
def reconciler(database: str, registry: RegistryServer) -> Iterator[subprocess.Popen[bytes]]:
    """Run `reconciler run`."""
    environment = os.environ | {
        "INDEXER_DATABASE_URL": database,
        "RECONCILER_REGISTRY_URL": registry.url,
        "INDEXER_LOG_LEVEL": "error",
    }
    process = subprocess.Popen([Path(sys.executable).parent / "reconciler", "run"], env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def load(url: str, rate: float) -> Iterator[list[int]]:
    """Push and move tags from some threads, ``rate`` a second together; yield how many each pushed."""
    stop = threading.Event()
    pushed = [0] * WRITERS
    began = time.monotonic()
    images = [oci_image(f"load {number}", layer_sizes=(64,)) for number in range(20)]

    def write(number: int) -> None:
        with Pusher(url) as pusher:
            while not stop.wait(max(0.0, began + pushed[number] * WRITERS / rate - time.monotonic())):
                turn = pushed[number]
                pusher.push(f"load/app{number}", images[turn % len(images)], f"t{turn % 500}")
                pushed[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield pushed
    finally:
        stop.set()
        for thread in threads:
            thread.join()


async def probe(connection: asyncpg.Connection[asyncpg.Record], pusher: Pusher, name: str) -> float:
    """Push one tag; return the milliseconds until an observation agreed."""
    image = oci_image(name, layer_sizes=(64,))
    await asyncio.to_thread(pusher.push, "probe/app", image, name)
    pushed_at = datetime.now(UTC)
    for _ in range(int(PATIENCE_SECONDS / POLL_SECONDS)):
        verified_at = await connection.fetchval(VERIFIED, "probe/app", name)
        if verified_at is not None:
            return float((verified_at - pushed_at).total_seconds() * 1000)
        await asyncio.sleep(POLL_SECONDS)
    sys.exit(f"{name} is not verified after {PATIENCE_SECONDS} s")


async def probes(database: str, url: str, *, name: str, count: int) -> list[float]:
    """Probe one after the other."""
    connection = await asyncpg.connect(database)
    try:
        with Pusher(url) as pusher:
            return [await probe(connection, pusher, f"{name}-{number}") for number in range(count)]
    finally:
        await connection.close()


async def run(arguments: argparse.Namespace) -> None:
    """Take turns: idle, loaded."""
    report = Report("verify")
    quick = arguments.quick
    count = arguments.probes or (5 if quick else 40)
    found = registry_binary.find(version=arguments.registry)
    every: dict[str, list[float]] = {"idle": [], "loaded": []}
    async with server() as place:
        await place.template()
        announce(report, registry=found.version, probes=count, pushes_a_second=arguments.rate)
        port = free_port()
        async with place.copy("bench_turn") as database:
            with (
                indexer(database, place.directory, port=port) as (address, _),
                registry_of(found, place.directory / "registry", port) as registry,
                reconciler(database, registry),
            ):
                await until_up(f"{address}/readyz")
                await probes(database, registry.url, name="warm", count=2)
                for turn in range(arguments.rounds or (1 if quick else 5)):
                    lengths = await probes(database, registry.url, name=f"idle-{turn}", count=count)
                    every["idle"] += lengths
                    report.add("idle, median", percentile(lengths, 0.5), "ms")
                    began = asyncio.get_running_loop().time()
                    with load(registry.url, arguments.rate) as pushed:
                        lengths = await probes(database, registry.url, name=f"loaded-{turn}", count=count)
                        took = asyncio.get_running_loop().time() - began
                        report.add("load", sum(pushed) / took, "pushes/s")
                    every["loaded"] += lengths
                    report.add("loaded, median", percentile(lengths, 0.5), "ms")
                    say(
                        f"round {turn + 1}: "
                        + ", ".join(f"{n} {v[-1]:,.0f}" for n, v in report.figures.items())
                    )
    for name, lengths in every.items():
        report.add(f"{name}, 99 % of all", percentile(lengths, 0.99), "ms")
    report.show()
    print(f"idle, median: {Target(at_most=2000).judge(report.median('idle, median'))}")
    report.ratio("loaded, median", "idle, median")
    report.keep(arguments)


def main() -> None:
    """Read the command line and run."""
    parser = command_line(
        "From a push to a real registry to the first observation that agrees with its record."
    )
    parser.add_argument("--registry", type=int, default=3, choices=(2, 3), help="major version (3)")
    parser.add_argument("--probes", type=int, help="pushes that are watched, a turn (40)")
    parser.add_argument("--rate", type=float, default=20, help="pushes a second under load (20)")
    arguments = parser.parse_args()
    try:
        uvloop.run(run(arguments))
    except registry_binary.NoRegistryError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

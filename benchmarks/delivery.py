"""How fast notifications get rid of themselves: a real registry delivering to us, and to a sink that does nothing.

A registry sends one event a request, one request at a time; so its rate is that of the receiver's answers, and what
waits is lost when it stops. Sides, turn by turn:

- a real Distribution (--registry 3 or 2) has queued the same pulls and pushes while nobody listened, and delivers
  them to a sink that answers at once, to one that commits each to a bare table first (the limit of any receiver that
  keeps in PostgreSQL what it acknowledges), and to `indexer serve`, which answers once they are durable and applies
  them meanwhile; the rate is that from the first to the last arrival;
- eight senders, each request on a new connection, against aiohttp with an empty handler, against a sink that commits
  each by itself, and against us.

    python3 dev.py bench delivery [--registry 3|2] [--events N]
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import uvloop

from benchmarks._database import server
from benchmarks._events import CONTENT_TYPE, pushes
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks._serving import NOTIFICATIONS_TOKEN, indexer, until_up
from tools import registry_binary
from tools.ports import free_port
from tools.registry_server import Endpoint, RegistryServer, RegistrySettings
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

HERE = Path(__file__).parent
SENDERS = 8
PATIENCE_SECONDS = 120
WARM_UP = 200
"""Deliveries of the eight senders that come before the clock runs: connections, prepared statements, look-ups."""
PULLS_A_PUSH = 4


@contextmanager
def sink(kind: str, port: int, *more: str) -> Iterator[str]:
    """Run a sink in a process of its own; yield its URL."""
    process = subprocess.Popen([sys.executable, HERE / "_sink.py", kind, str(port), *more])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def work_the_registry(url: str, events: int) -> None:
    """Make a registry announce pushes and, four times as often, pulls."""
    image = oci_image("bench")
    with Pusher(url) as pusher:
        pusher.push("bench/app", image, "v0")
        for number in range(events // (PULLS_A_PUSH + 1)):
            pusher.push("bench/app", image, f"v{number}")
            for _ in range(PULLS_A_PUSH):
                pusher.request("GET", f"/v2/bench/app/manifests/v{number}")


@contextmanager
def loaded_registry(
    found: registry_binary.FoundRegistry, directory: Path, port: int, events: int
) -> Iterator[None]:
    """Run a registry that has ``events`` to deliver to a port on which nobody listens yet."""
    directory.mkdir()
    endpoint = Endpoint(
        url=f"http://127.0.0.1:{port}/notifications",
        token=NOTIFICATIONS_TOKEN,
        ignore={"mediatypes": ["application/octet-stream"], "actions": []},
    )
    registry = RegistryServer(found, RegistrySettings(directory=directory, notifications=(endpoint,)))
    registry.start()
    try:
        work_the_registry(registry.url, events)
        yield
    finally:
        registry.stop()


async def drained(url: str) -> float:
    """Wait until no more deliveries come; return their rate."""
    count, rate = -1, 0.0
    for _ in range(PATIENCE_SECONDS * 2):
        await asyncio.sleep(0.5)
        now, rate = await arrived(url)
        if now == count and now:
            return rate
        count = now
    sys.exit("deliveries do not end")


async def arrived(url: str) -> tuple[int, float]:
    """Return how many deliveries came and their rate: of a sink from itself, of ours from the inbox."""
    if not url.startswith("http:"):
        connection = await asyncpg.connect(url)
        count = await connection.fetchval("SELECT count(*) FROM inbox")
        took = await connection.fetchval(
            "SELECT extract(epoch FROM max(received_at) - min(received_at))::float8 FROM inbox"
        )
        await connection.close()
        return count, count / took if took else 0.0
    await until_up(url)
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        found = await response.json(content_type=None)
    took = found["last"] - found["first"]
    return found["count"], found["count"] / took if took else 0.0


async def fan_in(url: str, count: int) -> float:
    """Deliver from eight senders, each request on a new connection, after a warm-up; return requests a second."""
    await _send_all(url, [push.body for push in pushes(WARM_UP, [("bench/warm-up", 0)], seed=2)])
    await asyncio.sleep(1)  # what the warm-up left to do is done
    return await _send_all(url, [push.body for push in pushes(count, [("bench/app", 0)])])


async def _send_all(url: str, bodies: list[bytes]) -> float:
    waiting = iter(bodies)
    headers = {"Authorization": f"Bearer {NOTIFICATIONS_TOKEN}", "Content-Type": CONTENT_TYPE}

    async def send() -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            for body in waiting:
                async with session.post(f"{url}/notifications", data=body) as response:
                    assert response.status == 202, response.status

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(SENDERS)))
    return len(bodies) / (time.perf_counter() - began)


async def run(arguments: argparse.Namespace) -> None:
    report = Report("delivery")
    quick = arguments.quick
    events = arguments.events or (200 if quick else 5_000)
    found = registry_binary.find(version=arguments.registry)
    async with server() as place:
        await place.template()
        announce(report, registry=found.version, events=events, senders=SENDERS)
        for turn in range(arguments.rounds or (1 if quick else 5)):
            port = free_port()
            with (
                loaded_registry(found, place.directory / f"null-{turn}", port, events),
                sink("null", port) as url,
            ):
                report.add("registry to null sink", await drained(url), "deliveries/s")
            async with place.copy("bench_turn") as database:
                with (
                    loaded_registry(found, place.directory / f"durable-{turn}", port, events),
                    sink("durable", port, database) as url,
                ):
                    report.add("registry to durable sink", await drained(url), "deliveries/s")
            async with place.copy("bench_turn") as database:
                with (
                    loaded_registry(found, place.directory / f"us-{turn}", port, events),
                    indexer(database, place.directory, port=port) as (url, _),
                ):
                    report.add("registry to us", await drained(database), "deliveries/s")
            with sink("aiohttp", port) as url:
                await until_up(url)
                report.add("fan-in, aiohttp empty", await fan_in(url, events), "requests/s")
            async with place.copy("bench_turn") as database:
                with sink("durable", port, database) as url:
                    await until_up(url)
                    report.add("fan-in, durable sink", await fan_in(url, events), "requests/s")
            async with place.copy("bench_turn") as database:
                with indexer(database, place.directory) as (url, _):
                    await until_up(f"{url}/healthz")
                    report.add("fan-in, us", await fan_in(url, events), "requests/s")
            say(f"round {turn + 1}: " + ", ".join(f"{n} {v[-1]:,.0f}" for n, v in report.figures.items()))
    report.show()
    report.ratio("registry to us", "registry to null sink", target=Target(at_least=0.8))
    report.ratio("registry to durable sink", "registry to null sink")
    report.ratio("registry to us", "registry to durable sink")
    report.ratio("fan-in, us", "fan-in, aiohttp empty", target=Target(at_least=0.5))
    report.ratio("fan-in, durable sink", "fan-in, aiohttp empty")
    report.ratio("fan-in, us", "fan-in, durable sink")
    report.keep(arguments)


def main() -> None:
    parser = command_line("Deliveries of a real registry to us and to a sink that answers at once.")
    parser.add_argument("--registry", type=int, default=3, choices=(2, 3), help="major version (3)")
    parser.add_argument("--events", type=int, help="events a turn (5,000)")
    arguments = parser.parse_args()
    try:
        uvloop.run(run(arguments))
    except registry_binary.NoRegistryError as error:
        sys.exit(str(error))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()

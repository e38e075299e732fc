"""How far a stranger reaches, and how far a guest: memory, deliveries and the length of answers under attack.

Replays, one after the other and each on connections of its own, against a real `indexer serve`:

- without a token: what is no request at all, or comes before one; tunnels (CONNECT) and other protocols (Upgrade) with
  megabytes behind them; bodies that nobody allowed; many long fields in unfinished heads; unfinished tokens; whole long
  heads on connections that then stay open; trailers without end; 2,000 connections that do nothing beside 200 that
  send a byte a second, and deliveries meanwhile; more connections than the process may open files;
- with a token that opens little: artifacts whose annotations are 4 MB each; an index of thousands of platforms behind
  a thousand tags; megabytes of entity tags;
- with the registry's token: 40 bodies of 16 MiB at once; 900 MB in one compressed delivery.

Prints the peak of the server's resident memory, how long a delivery and /healthz took meanwhile at worst, the longest
answer, how many connections sent more than 64 KiB without a token and were open for more than ten seconds all the
same (and a second for the refusal to be read), and how busy the machine was.

    python3 dev.py bench reach [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import http.client
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg

from benchmarks._database import server
from benchmarks._events import CONTENT_TYPE
from benchmarks._serving import NOTIFICATIONS_TOKEN, TOKEN, indexer, memory_mib, until_up
from indexer.oci.digest import digest_to_bytes
from indexer.store.pool import open_pool
from tests.fixtures.rows import TagRow, digest, put_repository

MIB = 1024 * 1024
DESCRIPTORS = 8192
FEW_DESCRIPTORS = 256
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DELIVERING = {"Authorization": f"Bearer {NOTIFICATIONS_TOKEN}"}
START = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"

MEMORY_TARGET_MIB = 250
DELIVERY_TARGET_MS = 50
ANSWER_TARGET_MIB = 32
HELD_BYTES = 64 * 1024
HELD_SECONDS = 12.0
"""Ten for the head, one in which the client can read why it was refused, one for a machine that is busy."""
MANY = 3000
"""Connections, as many as one address may have."""


@dataclass
class Worst:
    """What was measured beside an attack."""

    peak_mib: float = 0
    slowest_health: float = 0
    deliveries: list[float] = field(default_factory=list)


def watch(pipe: Connection, address: tuple[str, int], pid: int) -> None:
    """Measure in a process of its own, which no attack holds up, until something comes through the pipe but "again"."""
    worst = Worst()
    threading.Thread(target=_watch_memory, args=(worst, pid), daemon=True).start()
    while True:
        if pipe.poll():
            if pipe.recv() != "again":
                pipe.send(worst)
                return
            worst.deliveries.clear()
        began = time.perf_counter()
        _ask(address, "GET", "/healthz", b"")
        asked = time.perf_counter()
        worst.slowest_health = max(worst.slowest_health, asked - began)
        if _ask(address, "POST", "/notifications", b'{"events":[]}') == 202:  # durable; a 503 is a refusal
            worst.deliveries.append(time.perf_counter() - asked)
        time.sleep(0.01)


def _watch_memory(worst: Worst, pid: int) -> None:
    while True:
        worst.peak_mib = max(worst.peak_mib, memory_mib(pid))
        time.sleep(0.02)


def _ask(address: tuple[str, int], method: str, path: str, body: bytes) -> int:
    """Ask on a connection of its own, as Distribution delivers; 0 where there is no answer."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request(
            method, path, body, (DELIVERING if method == "POST" else BEARER) | {"Content-Type": CONTENT_TYPE}
        )
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return response.status


@dataclass
class Watched:
    """The server under attack."""

    url: str
    seconds: float
    pipe: Connection
    worst: Worst = field(default_factory=Worst)
    longest_answer: int = 0
    strangers: int = 0
    """Connections without a token."""
    held: int = 0
    """Of these, such as sent more than ``HELD_BYTES`` and were open for more than ``HELD_SECONDS``."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return address_of(self.url)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> int:
        """Ask for something with the token; return its length."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}{path}", headers=BEARER | (headers or {})) as response,
        ):
            length = 0
            async for chunk in response.content.iter_any():
                length += len(chunk)
        self.longest_answer = max(self.longest_answer, length)
        return length


Attack = Callable[[Watched], Awaitable[object]]


async def send(watched: Watched, *pieces: bytes) -> None:
    """Send something on a connection of its own, as long as the other side takes it, and keep it open.

    Until the other side closes it, or has kept it for too long.
    """
    try:
        reader, writer = await asyncio.open_connection(*watched.address)
    except OSError:
        return
    watched.strangers += 1
    sent = 0

    async def write() -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)

    async def read() -> None:
        with contextlib.suppress(OSError):
            while await reader.read(MIB):
                pass

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(HELD_SECONDS):
            await read()
    except TimeoutError:
        watched.held += sent > HELD_BYTES
    finally:
        writing.cancel()
        writer.close()


async def nothing(watched: Watched) -> None:
    """What the others are held against."""
    await asyncio.sleep(watched.seconds)


async def rubbish(watched: Watched) -> None:
    """What no request line stands before: blank lines, another protocol's beginning, bytes, a line without end."""
    begins = (
        b"\r\n" * (MIB // 2),
        b"\n" * MIB,
        b"\r\n" * 100 + START + b"X: ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * MIB,
        b"GET /",
        b"{",
    )
    more = [b"a" * MIB] * 16
    await asyncio.gather(*(send(watched, begin, *more) for begin in begins for _ in range(25)))
    await asyncio.gather(*(send(watched, *[b"\r\n" * (MIB // 2)] * 16) for _ in range(50)))


async def tunnels(watched: Watched) -> None:
    """CONNECT, and then whatever goes through a tunnel; alone, and behind a request that takes its time."""
    connect = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n"
    begins = (connect, START + b"\r\n" + connect, connect * 100, connect + START * 20)
    more = [b"\x17" * MIB] * 16
    await asyncio.gather(*(send(watched, begin, *more) for begin in begins for _ in range(50)))


async def upgrades(watched: Watched) -> None:
    """A request for another protocol, and megabytes of it at once."""
    paths = (b"/healthz", b"/readyz", b"/api/v1/feed", b"/notifications")
    asked = [
        b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade" + settings + b"\r\n\r\n"
        for path in paths
        for settings in (
            b"\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            b", HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            b"\r\nUpgrade: tls/1.0\r\nContent-Length: 100000000",
        )
    ]
    more = [b"\x82" * MIB] * 16
    await asyncio.gather(*(send(watched, begin, *more) for begin in asked for _ in range(16)))


async def unwanted_bodies(watched: Watched) -> None:
    """Bodies that are sent without a token, to whoever takes some and to whoever takes none."""
    begins = [
        b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + length + b"\r\n\r\n"
        for path in (b"/notifications", b"/access-log", b"/healthz", b"/api/v1/tags")
        for length in (b"Content-Length: 16777216", b"Transfer-Encoding: chunked\r\n\r\nffffff")
    ]
    more = [b"a" * MIB] * 2
    await asyncio.gather(
        *(send(watched, begin, *more) for begin in begins for _ in range(MANY // len(begins)))
    )


async def many_fields(watched: Watched) -> None:
    fields = [f"X-{number}: ".encode() + b"a" * 4_194_000 + b"\r\n" for number in range(50)]
    await asyncio.gather(*(send(watched, START, *fields) for _ in range(10)))


async def unfinished_tokens(watched: Watched) -> None:
    token = b"Authorization: Bearer " + b"a" * MIB
    await asyncio.gather(*(send(watched, START, token) for _ in range(100)))


async def kept_heads(watched: Watched) -> None:
    head = START + b"".join(b"X-%d: " % number + b"a" * 6000 + b"\r\n" for number in range(10)) + b"\r\n"
    await asyncio.gather(*(send(watched, head) for _ in range(MANY)))


async def trailers(watched: Watched) -> None:
    post = b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    fields = [f"X-{number}: ".encode() + b"a" * 900_000 + b"\r\n" for number in range(40)]
    await asyncio.gather(*(send(watched, post, *fields) for _ in range(20)))


async def idle_and_slow(watched: Watched) -> None:
    async def slow() -> None:
        _, writer = await asyncio.open_connection(*watched.address)
        with contextlib.suppress(OSError):
            for byte in (START * 100)[: int(watched.seconds)]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        writer.close()

    idle = []
    for _ in range(20):
        idle += await asyncio.gather(*(asyncio.open_connection(*watched.address) for _ in range(100)))
    watched.pipe.send("again")
    await asyncio.gather(*(slow() for _ in range(200)))
    for _, writer in idle:
        writer.close()


async def too_many(watched: Watched) -> None:
    idle = [await asyncio.open_connection(*watched.address) for _ in range(FEW_DESCRIPTORS + 50)]
    watched.pipe.send("again")
    await asyncio.sleep(watched.seconds)
    for _, writer in idle:
        writer.close()


async def large_annotations(watched: Watched) -> None:
    path = f"/api/v1/repositories/team/attached/manifests/{digest('image')}"
    await watched.get(path)
    await asyncio.gather(*(watched.get(path) for _ in range(4)))


async def platforms(watched: Watched) -> None:
    paths = ("/api/v1/repositories/team/wide/tags?limit=1000", "/api/v1/tags?limit=1000")
    await asyncio.gather(*(watched.get(path) for path in paths))


async def entity_tags(watched: Watched) -> None:
    many = ",".join(['"a"'] * 990_000)
    with contextlib.suppress(aiohttp.ClientError):
        await watched.get("/api/v1/tags", {"If-None-Match": many})


async def large_bodies(watched: Watched) -> None:
    body = b"x" * (16 * MIB)

    async def post(session: aiohttp.ClientSession) -> int:
        try:
            async with session.post(
                f"{watched.url}/notifications", data=body, headers=DELIVERING
            ) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async with aiohttp.ClientSession() as session:
        statuses = await asyncio.gather(*(post(session) for _ in range(40)))
    sys.stdout.write(f"    {statuses.count(202)} taken, {statuses.count(503)} to come again\n")
    await asyncio.sleep(watched.seconds)


async def bomb(watched: Watched) -> None:
    body = await asyncio.to_thread(gzip.compress, b"[" * (900 * MIB), 1)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{watched.url}/notifications", data=body, headers=DELIVERING | {"Content-Encoding": "gzip"}
        ) as response,
    ):
        await response.read()
    await asyncio.sleep(watched.seconds)


ATTACKS: tuple[Attack, ...] = (
    nothing,
    idle_and_slow,
    rubbish,
    tunnels,
    upgrades,
    unwanted_bodies,
    many_fields,
    unfinished_tokens,
    kept_heads,
    trailers,
    large_annotations,
    platforms,
    entity_tags,
    large_bodies,
    bomb,
)


async def fill(url: str) -> None:
    """Write what the guest's attacks rest on: everybody who may push to one repository could have pushed it."""
    async with await open_pool(url, size=2, application="reach") as pool:
        rows = [TagRow(name="latest", seed="image")]
        rows += [TagRow(name=f"sig-{number}", seed=f"referrer {number}") for number in range(150)]
        await put_repository(pool, "team/attached", rows)
        newest = rows[0].published_at + timedelta(days=1)
        names = tuple(f"linux/{number:08}" for number in range(20_000))
        wide = [
            TagRow(
                name=f"v{number}",
                seed="wide",
                platforms=names,
                published_at=newest,
            )
            for number in range(1000)
        ]
        await put_repository(pool, "team/wide", wide)
    connection = await asyncpg.connect(url)
    await connection.execute(
        "UPDATE manifest SET subject_digest = $1, annotations = (SELECT jsonb_object_agg(n, repeat(md5(n::text), "
        "3000)) FROM generate_series(1, 40) AS n) WHERE digest = ANY ($2)",
        digest_to_bytes(digest("image")),
        [digest_to_bytes(row.digest) for row in rows[1:]],
    )
    await connection.close()


@contextlib.contextmanager
def watching(url: str, pid: int, seconds: float) -> Iterator[Watched]:
    """Measure while the block runs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=watch, args=(theirs, address_of(url), pid), daemon=True)
    process.start()
    watched = Watched(url=url, seconds=seconds, pipe=ours)
    try:
        yield watched
        ours.send("stop")
        watched.worst = ours.recv()
    finally:
        process.join(30)
        process.kill()


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


async def attack(url: str, pid: int, which: Attack, seconds: float) -> Watched:
    """Carry out one attack and say what it did."""
    with watching(url, pid, seconds) as watched:
        await asyncio.sleep(2)
        watched.pipe.send("again")
        await which(watched)
    worst = watched.worst
    times = sorted(worst.deliveries) or [float("nan")]
    sys.stdout.write(
        f"{which.__name__:18} memory {worst.peak_mib:6.0f} MiB   deliveries {len(worst.deliveries):5}, "
        f"p50 {times[len(times) // 2] * 1000:6.1f} ms, p99 {times[len(times) * 99 // 100] * 1000:6.1f} ms   "
        f"healthz at worst {worst.slowest_health * 1000:6.0f} ms   "
        f"longest answer {watched.longest_answer / MIB:5.2f} MiB   "
        f"held {watched.held} of {watched.strangers}   load {os.getloadavg()[0]:.1f}\n"
    )
    sys.stdout.flush()
    return watched


async def run(options: argparse.Namespace) -> None:
    """Run all attacks and judge what came out."""
    chosen = [each for each in ATTACKS if options.only in (None, each.__name__)]
    done: list[Watched] = []
    async with server() as database:
        await database.template()
        async with database.copy("reach") as url:
            await fill(url)
            with tempfile.TemporaryDirectory() as scratch, indexer(url, Path(scratch)) as (address, process):
                await until_up(f"{address}/readyz")
                sys.stdout.write(f"{'before':18} memory {memory_mib(process.pid):6.0f} MiB\n")
                for each in chosen:
                    done.append(await attack(address, process.pid, each, options.seconds))  # noqa: PERF401 - in turn
            with (
                tempfile.TemporaryDirectory() as scratch,
                indexer(url, Path(scratch), files=FEW_DESCRIPTORS) as (address, process),
            ):
                await until_up(f"{address}/readyz")
                few = await attack(address, process.pid, too_many, options.seconds)
    peak = max(each.worst.peak_mib for each in (*done, few))
    beside = done[min(1, len(done) - 1)]
    longest = max(each.longest_answer for each in done) / MIB
    sys.stdout.write(
        f"peak {peak:.0f} MiB (wanted: at most {MEMORY_TARGET_MIB}); longest answer {longest:.1f} MiB "
        f"(at most {ANSWER_TARGET_MIB}); deliveries under {DELIVERY_TARGET_MS} ms beside idle and slow connections: "
        f"{_share(beside.worst.deliveries):.1%}; "
        f"with {FEW_DESCRIPTORS} open files: {_share(few.worst.deliveries):.1%}; "
        f"held for more than {HELD_SECONDS:.0f} s without a token: {sum(each.held for each in done)} connections\n"
    )


def _share(times: list[float]) -> float:
    return sum(each < DELIVERY_TARGET_MS / 1000 for each in times) / len(times) if times else 0.0


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="how long an attack lasts, about")
    parser.add_argument("--only", help="the name of one attack")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    asyncio.run(run(options))


if __name__ == "__main__":
    main()

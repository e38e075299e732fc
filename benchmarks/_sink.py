"""What a receiver of notifications is held against: sinks that do next to nothing.

    python _sink.py null|aiohttp PORT
    python _sink.py durable PORT DATABASE_URL

``null`` answers at once; ``aiohttp`` has an empty handler; ``durable`` answers once the body is committed to a table
without an index, each on its own, and does nothing else: what it costs to keep what is acknowledged in PostgreSQL.

``GET /`` answers how many deliveries came, and when the first and the last did (seconds, monotonic).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, cast

import asyncpg
import uvloop
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg.prepared_stmt import PreparedStatement

CONNECTIONS = 8
"""As many as there are senders at once; a registry is one."""


class Counter:
    """Deliveries so far."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0

    def note(self) -> None:
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.count += 1

    @property
    def report(self) -> bytes:
        return json.dumps({"count": self.count, "first": self.first, "last": self.last}).encode()


class NullSink(asyncio.Protocol):
    """HTTP as far as a registry's deliveries need it: a body of a given length, an answer without one."""

    def __init__(self, counter: Counter, store: Callable[[bytes], Awaitable[object]] | None = None) -> None:
        self._counter = counter
        self._store = store
        self._received = b""
        self._storing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            report = self._counter.report
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(report), report))
            self._received = b""
            return
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        if len(body) >= length:
            self._received = body[length:]
            if self._store is None:
                self._answer()
            else:
                self._storing = asyncio.create_task(self._answer_once_stored(self._store(body[:length])))

    async def _answer_once_stored(self, stored: Awaitable[object]) -> None:
        await stored
        self._answer()

    def _answer(self) -> None:
        self._counter.note()
        self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")


async def run(kind: str, port: int, database_url: str | None = None) -> None:
    counter = Counter()
    if kind in {"null", "durable"}:
        store = None if database_url is None else await _commit(database_url)
        server = await asyncio.get_running_loop().create_server(
            lambda: NullSink(counter, store), "127.0.0.1", port
        )
        await server.serve_forever()

    async def take(request: web.Request) -> web.Response:
        await request.read()
        counter.note()
        return web.Response(status=202)

    async def report(_request: web.Request) -> web.Response:
        return web.Response(body=counter.report, content_type="application/json")

    app = web.Application()
    app.router.add_post("/notifications", take)
    app.router.add_get("/", report)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


async def _commit(database_url: str) -> Callable[[bytes], Awaitable[object]]:
    """Return what commits one body, on the first connection that is idle."""
    idle: asyncio.LifoQueue[PreparedStatement[asyncpg.Record]] = asyncio.LifoQueue()
    for _ in range(CONNECTIONS):
        connection = await asyncpg.connect(database_url)
        await connection.execute("CREATE TABLE IF NOT EXISTS bare_inbox (body bytea NOT NULL)")
        idle.put_nowait(await connection.prepare("INSERT INTO bare_inbox (body) VALUES ($1)"))

    async def commit(body: bytes) -> None:
        insert = await idle.get()
        await insert.fetch(body)
        idle.put_nowait(insert)

    return commit


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))

"""A sink that answers at once, and aiohttp with an empty handler: what a receiver of notifications is held against.

    python _sink.py null|aiohttp PORT

``GET /`` answers how many deliveries came, and when the first and the last did (seconds, monotonic).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop
from aiohttp import web


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

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._received = b""

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
            self._counter.note()
            self._received = body[length:]
            self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")


async def run(kind: str, port: int) -> None:
    counter = Counter()
    if kind == "null":
        server = await asyncio.get_running_loop().create_server(lambda: NullSink(counter), "127.0.0.1", port)
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


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2])))

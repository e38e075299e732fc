"""Readers of pages in a process of their own: over HTTP, or straight from the database.

    python _reading.py http READERS ASKS ADDRESS TOKEN
    python _reading.py database READERS ASKS DATABASE_URL STATEMENT ARGUMENTS

Either side does the least that can be done with an answer, so that the reader takes as little as may be of the cores
that answer: HTTP is read up to the length it says, rows are what the driver makes of them. Each reader has a
connection of its own, held and warm before the clock runs. Prints pages a second and the seconds each page took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import asyncpg
import uvloop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Ask = Callable[[], Awaitable[object]]


class HttpReader(asyncio.Protocol):
    """One connection that asks for one page again and again."""

    def __init__(self, question: bytes) -> None:
        self._question = question
        self._received = bytearray()
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answered is None:
            return
        head = bytes(self._received[:end]).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._received) < end + 4 + length:
            return
        if not head.startswith(b"http/1.1 200"):
            sys.exit(bytes(self._received).decode())
        self._received.clear()
        self._answered.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            sys.exit("the server hung up")

    async def ask(self) -> None:
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(self._question)
        await self._answered


async def over_http(readers: int, address: str, token: str) -> list[Ask]:
    parts = urlsplit(address)
    question = (
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    connected = [
        await loop.create_connection(lambda: HttpReader(question), parts.hostname or "", parts.port or 80)
        for _ in range(readers)
    ]
    return [reader.ask for _, reader in connected]


async def from_database(readers: int, url: str, statement: str, *arguments: str) -> list[Ask]:
    values = [json.loads(argument) for argument in arguments]
    asks: list[Ask] = []
    for _ in range(readers):
        connection = await asyncpg.connect(url, server_settings={"jit": "off"})
        prepared = await connection.prepare(statement)
        asks.append(lambda prepared=prepared: prepared.fetch(*values))  # type: ignore[misc]
    return asks


async def together(asks: list[Ask], count: int) -> tuple[float, list[float]]:
    """Let readers ask at once; return pages a second, and how long each was waited for."""
    left = iter(range(count))
    took: list[float] = []

    async def read(ask: Ask) -> None:
        for _ in left:
            began = time.perf_counter()
            await ask()
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(read, asks))
    return count / (time.perf_counter() - began), took


async def run(kind: str, readers: int, count: int, *rest: str) -> None:
    asks = await (over_http if kind == "http" else from_database)(readers, *rest)
    await asyncio.gather(*(ask() for ask in asks))
    rate, took = await together(asks, count)
    print(json.dumps({"rate": rate, "took": took}))


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))

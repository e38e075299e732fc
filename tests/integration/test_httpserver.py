"""What a connection may hold before anybody knows who asks, over real sockets: heads, trailers, idle connections."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import REGISTRY

from indexer.httpserver import protocol
from indexer.httpserver.limits import Limits
from indexer.httpserver.protocol import MeasuredConnection
from indexer.httpserver.runner import MeasuredRunner

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

START = b"GET /quick HTTP/1.1\r\nHost: x\r\n"
SLOW = START.replace(b"quick", b"slow")
DEFAULT = Limits(linger_seconds=0.05)


@asynccontextmanager
async def running(limits: Limits = DEFAULT) -> AsyncIterator[MeasuredRunner]:
    """Serve ``/quick``, which answers with how much was sent, ``/unwilling``, which reads nothing, and ``/slow``."""

    async def quick(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def unwilling(_request: web.Request) -> web.Response:
        return web.Response(status=401)

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application(client_max_size=1024**3)
    app.router.add_route("*", "/quick", quick)
    app.router.add_route("*", "/unwilling", unwilling)
    app.router.add_get("/slow", slow)
    runner = MeasuredRunner(app, limits=limits, idle_seconds=75, shutdown_timeout=0.05)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner
    finally:
        await runner.cleanup()


@asynccontextmanager
async def served(limits: Limits = DEFAULT) -> AsyncIterator[tuple[str, int]]:
    """Give the address of a server that is running."""
    async with running(limits) as runner:
        yield runner.addresses[0]


def connections_of(runner: MeasuredRunner) -> list[MeasuredConnection]:
    """The server's side of every open connection."""
    assert runner.server is not None
    return [each for each in runner.server.connections if isinstance(each, MeasuredConnection)]


async def status_of(stream: Stream) -> str:
    """The status of the answer, "" where the connection ends without one."""
    try:
        line = await asyncio.wait_for(stream[0].readline(), 20)
    except ConnectionResetError:
        return ""
    return line.split(b" ")[1].decode() if line else ""


async def send(stream: Stream, *pieces: bytes) -> None:
    """Send what the other side still takes."""
    for piece in pieces:
        stream[1].write(piece)
        try:
            await stream[1].drain()
        except ConnectionError:
            return


async def ask(address: tuple[str, int], *pieces: bytes) -> str:
    """Send something on a connection of its own and return the status of the answer."""
    stream = await asyncio.open_connection(*address)
    try:
        await send(stream, *pieces)
        return await status_of(stream)
    finally:
        stream[1].close()


async def is_closed(stream: Stream) -> bool:
    """Wait for the other side to close."""
    try:
        return await asyncio.wait_for(stream[0].read(), 20) == b""
    except ConnectionResetError:
        return True


async def until_closed(stream: Stream) -> None:
    """Read whatever still comes, until the other side closes."""
    with suppress(ConnectionResetError):
        await asyncio.wait_for(stream[0].read(), 20)


@contextmanager
def closed(reason: str, times: int = 1) -> Iterator[None]:
    """What happens within is counted."""

    def value() -> float:
        return REGISTRY.get_sample_value("indexer_connections_closed_total", {"reason": reason}) or 0

    before = value()
    yield
    assert times == value() - before


def fields(count: int, size: int, name: str = "X") -> list[bytes]:
    return [f"{name}-{number}: ".encode() + b"a" * size + b"\r\n" for number in range(count)]


async def test_head__as_a_whole_is_bounded() -> None:
    """Many fields, each of them allowed, are refused together, and before the head is whole."""
    async with served() as address:
        with closed("head_too_large"):
            assert "431" == await ask(address, START, *fields(10, 20_000))


async def test_head__whole_and_too_large_is_refused() -> None:
    """The bound is exact where the head arrives whole: nothing of it reaches the application."""
    async with served(replace(DEFAULT, head_bytes=20_000)) as address:
        assert "200" == await ask(address, START + b"".join(fields(3, 6_000)) + b"\r\n")
        assert "431" == await ask(address, START + b"".join(fields(4, 6_000)) + b"\r\n")


async def test_head__a_long_token_is_taken() -> None:
    """A token may be as long as the registry takes it, in however many pieces; one field of another name may not."""
    token = b"a" * 1024**2
    async with served() as address:
        assert "200" == await ask(address, START, b"authoriz", b"ation: Bearer ", token, b"\r\n\r\n")
        assert "431" == await ask(address, START, b"Cookie: ", token, b"\r\n\r\n")
        assert "431" == await ask(address, START, b"Authorization: Bearer ", token, token, b"\r\n\r\n")


async def test_head__must_arrive_in_time() -> None:
    """A head that is begun and not ended is refused, whatever drips in meanwhile."""
    async with served(replace(DEFAULT, head_seconds=0.3)) as address:
        stream = await asyncio.open_connection(*address)
        with closed("head_too_slow"):
            await send(stream, START + b"X: ")
            answer = asyncio.create_task(status_of(stream))
            while not answer.done():
                await send(stream, b"x")
                await asyncio.wait({answer}, timeout=0.02)
            assert "408" == answer.result()
        stream[1].close()


async def test_heads__together_are_bounded() -> None:
    """Beyond the bound of all unfinished heads the one that was begun first is given up; whole ones are answered."""
    async with served(replace(DEFAULT, heads_bytes=100_000)) as address:
        first = await asyncio.open_connection(*address)
        await send(first, START, *fields(2, 30_000))
        with closed("heads_together_too_large"):
            second = await asyncio.open_connection(*address)
            await send(second, START, *fields(2, 30_000))
            assert await is_closed(first)
        await send(second, b"\r\n")
        assert "200" == await status_of(second)
        for stream in (first, second):
            stream[1].close()


async def test_head__a_long_one_is_not_kept() -> None:
    """The connection is closed after it, since the request is kept as long as the connection waits for the next."""
    async with served() as address:
        stream = await asyncio.open_connection(*address)
        await send(stream, START, *fields(3, 10_000), b"\r\n")
        assert b"\r\nConnection: close\r\n" in await asyncio.wait_for(stream[0].readuntil(b"\r\n\r\n"), 20)
        stream[1].close()


async def test_heads__long_ones_that_are_kept_are_bounded() -> None:
    """Beyond the bound of long heads that are being answered another is refused, until one of them is done."""
    long = fields(3, 10_000)
    async with running(replace(DEFAULT, heads_bytes=50_000)) as runner:
        address = runner.addresses[0]
        first = await asyncio.open_connection(*address)
        await send(first, SLOW, *long, b"\r\n")
        async with asyncio.timeout(20):
            while all(each.is_idle for each in connections_of(runner)):
                await asyncio.sleep(0.01)
        with closed("heads_together_too_large"):
            assert "503" == await ask(address, START, *long, b"\r\n")
        first[1].close()
        async with asyncio.timeout(20):
            while "503" == (status := await ask(address, START, *long, b"\r\n")):
                await asyncio.sleep(0.01)
        assert "200" == status


async def test_trailers__are_bounded() -> None:
    """What follows the last chunk counts like a head."""
    async with served() as address:
        stream = await asyncio.open_connection(*address)
        post = b"POST /quick HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
        with closed("head_too_large"):
            await send(stream, post, *fields(40, 30_000))
            assert await status_of(stream) in ("", "431")
        stream[1].close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /quick?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /quick\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (START + b"".join(fields(100, 1)) + b"\r\n", 400),
        (START + b"".join(fields(10, 20_000)) + b"\r\n", 431),
        (START + b"Expect: what\xff\r\n\r\n", 417),
    ],
    ids=["line", "rubbish", "fields", "weight", "expectation"],
)
async def test_refused__in_the_form_of_the_api(sent: bytes, status: int) -> None:
    """Who asks cannot tell that no endpoint answered: every refusal is a problem document, and repeats nothing sent."""
    async with served() as address:
        stream = await asyncio.open_connection(*address)
        await send(stream, sent)
        head, _, body = (await asyncio.wait_for(stream[0].read(), 20)).partition(b"\r\n\r\n")
        stream[1].close()

    assert f" {status} ".encode() in head.splitlines()[0]
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert status == problem["status"]
    assert problem["detail"]
    assert b"aaaa" not in body


@pytest.mark.parametrize(
    "begin", [b"", b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["rubbish", "a tunnel"]
)
async def test_refused__leaves_nothing_of_what_was_sent(begin: bytes) -> None:
    """Without the collector, which runs through all objects rarely: nothing keeps rubbish of a closed connection."""
    gc.collect()
    gc.disable()
    try:
        async with served() as address:
            assert "" != await ask(address, begin + b"a" * 200_000)
        quoted = [
            len(each.message) for each in gc.get_objects() if issubclass(type(each), HttpProcessingError)
        ]
        assert [length for length in quoted if length > 1000] == []
    finally:
        gc.enable()


async def test_body__that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is refused no more of a long body is kept; a short one is read to its end, for another request."""
    handed_on: list[int] = []
    pieces: list[int] = []

    class Watched(MeasuredConnection):
        __slots__ = ()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            pieces.append(len(data))
            handed_on.append(self._body_bytes())

    monkeypatch.setattr(protocol, "MeasuredConnection", Watched)
    async with served() as address:
        for length in (b"Content-Length: 16000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n"):
            handed_on.clear()
            stream = await asyncio.open_connection(*address)
            await send(stream, b"POST /unwilling HTTP/1.1\r\nHost: x\r\n" + length)
            assert "401" == await status_of(stream)
            await send(stream, *[b"a" * 100_000] * 30)
            await until_closed(stream)
            assert max(handed_on) <= 0
            stream[1].close()
        assert max(pieces) <= protocol.PIECE
        stream = await asyncio.open_connection(*address)
        await send(stream, b"POST /unwilling HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert "401" == await status_of(stream)
        await send(stream, b"a" * 100_000, START + b"\r\n")
        assert b"200" in await asyncio.wait_for(stream[0].readuntil(b"200"), 20)
        stream[1].close()


OTHER = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


async def test_upgrade__is_declined() -> None:
    """A request for another protocol is answered as the request that it is, its body included, and is the last one."""
    async with served() as address:
        for head, body in ((b"", b""), (b"Content-Length: 4\r\n", b"four")):
            stream = await asyncio.open_connection(*address)
            post = b"POST /quick HTTP/1.1\r\nHost: x\r\n" + OTHER + head + b"\r\n"
            await send(stream, post, body)
            answered = await asyncio.wait_for(stream[0].read(), 20)
            assert answered.startswith(b"HTTP/1.1 200 ")
            assert answered.endswith(str(len(body)).encode())
            stream[1].close()


@pytest.mark.parametrize(
    "begin",
    [
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /slow HTTP/1.1\r\nHost: x\r\n" + OTHER + b"\r\n",
        b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nCONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["tunnel", "another protocol", "a tunnel behind a request"],
)
async def test_upgrade__what_follows_is_not_kept(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent behind a request for a tunnel or another protocol is thrown away as it comes."""
    kept: list[int] = []
    received: list[int] = []

    class Watched(MeasuredConnection):
        __slots__ = ()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            received.append(len(data))
            kept.append(len(self._message_tail))

    monkeypatch.setattr(protocol, "MeasuredConnection", Watched)
    async with served() as address:
        stream = await asyncio.open_connection(*address)
        await send(stream, begin + b"\x17" * 10_000, b"\x17" * 500_000)
        async with asyncio.timeout(20):
            while sum(received) < len(begin) + 10_000:
                await asyncio.sleep(0.01)
        stream[1].close()
    assert max(kept) == 0


@pytest.mark.parametrize("chunk", [1, 7000, 200_000, 3_000_000])
async def test_body__is_not_measured(chunk: int) -> None:
    """Bodies of any length, pieces and framing pass, and a request may follow on the same connection."""
    body = b"b" * 3_000_000 if chunk > 1 else b"b" * 60_000
    chunks = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    framed = [f"{len(each):x}\r\n".encode() + each + b"\r\n" for each in chunks]
    async with served() as address:
        for head, pieces in (
            (f"Content-Length: {len(body)}", [body]),
            ("Transfer-Encoding: chunked", [*framed, b"0\r\n\r\n"]),
        ):
            stream = await asyncio.open_connection(*address)
            await send(stream, f"POST /quick HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode(), *pieces)
            assert b"200" in await stream[0].readline()
            await stream[0].readuntil(str(len(body)).encode())
            await send(stream, START + b"\r\n")
            assert "200" == await status_of(stream)
            stream[1].close()


async def test_pipelining__is_not_measured() -> None:
    """Requests sent ahead are all answered, though together they are longer than a head may be."""
    async with served() as address:
        stream = await asyncio.open_connection(*address)
        sending = asyncio.create_task(send(stream, (START + b"\r\n") * 8000))
        for _ in range(8000):
            assert b"200" in await asyncio.wait_for(stream[0].readline(), 20)
            await stream[0].readuntil(b"\r\n\r\n0")
        await sending
        stream[1].close()


async def test_connections__an_idle_one_gives_way() -> None:
    """Where all places are taken, a new connection gets the place of the one that has done nothing for longest."""
    async with served(replace(DEFAULT, connections=4, connections_per_address=4)) as address:
        idle = [await asyncio.open_connection(*address) for _ in range(4)]
        await send(idle[0], START + b"\r\n")
        assert "200" == await status_of(idle[0])
        with closed("gave_way"):
            assert "200" == await ask(address, START + b"\r\n")
            assert await is_closed(idle[1])
        for stream in idle:
            stream[1].close()


async def test_connections__one_that_is_answered_does_not_give_way() -> None:
    """Where every place is in use, a new connection is closed."""
    async with served(replace(DEFAULT, connections=3, connections_per_address=2)) as address:
        busy = [await asyncio.open_connection(*address) for _ in range(2)]
        for stream in busy:
            await send(stream, START + b"\r\n" + SLOW + b"\r\n")
            assert "200" == await status_of(stream)
        with closed("crowded"):
            assert "" == await ask(address, START + b"\r\n")
        for stream in busy:
            stream[1].close()


async def test_connections__one_with_a_request_that_is_not_begun_does_not_give_way() -> None:
    """A request is taken up a moment after it arrived: another connection may come in between."""
    async with running() as runner:
        stream = await asyncio.open_connection(*runner.addresses[0])
        async with asyncio.timeout(20):
            while not (connections := connections_of(runner)):
                await asyncio.sleep(0.01)
        assert [True] == [each.is_idle for each in connections]
        connections[0].data_received(START + b"\r\n")
        assert [False] == [each.is_idle for each in connections]
        assert "200" == await status_of(stream)
        stream[1].close()

"""Bodies on their way in: slow ones keep nobody waiting, and all of them together are bounded."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import BaseTestServer, TestServer

from indexer.access_log.endpoint import AT_A_TIME, add_access_endpoint
from indexer.common.errors import ConfigurationError, StoreUnavailable
from indexer.ingest.bodies import Bodies, TooLarge
from indexer.store.pool import connect, open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from indexer.store.pool import Pool

TOKEN = {"Authorization": "Bearer collector"}


async def test_access_log__slow_bodies_keep_nobody_waiting(pool: Pool) -> None:
    """More senders than there are turns have sent a part of their lines; who sends all of them is answered."""
    app = web.Application()
    add_access_endpoint(app, pool=pool, token="collector")
    async with TestServer(app, host="127.0.0.1") as server:
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(AT_A_TIME + 3)]
        head = "POST /access-log HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer collector\r\nContent-Length: 9\r\n\r\n{"
        for _, writer in slow:
            writer.write(head.encode())
            await writer.drain()
        async with (
            asyncio.timeout(25),
            ClientSession() as session,
            session.post(server.make_url("/access-log"), data=b"{}\n", headers=TOKEN) as response,
        ):
            assert 202 == response.status
        for _, writer in slow:
            writer.close()


@asynccontextmanager
async def receiving(bodies: Bodies) -> AsyncIterator[tuple[ClientSession, BaseTestServer, asyncio.Event]]:
    """An endpoint that keeps each body until the event is set."""
    release = asyncio.Event()

    async def receive(request: web.Request) -> web.Response:
        try:
            async with bodies.read(request) as body:
                await release.wait()
                return web.Response(text=str(len(body)))
        except TooLarge:
            return web.Response(status=413)
        except StoreUnavailable:
            return web.Response(status=503)

    app = web.Application()
    app.router.add_post("/", receive)
    async with TestServer(app, host="127.0.0.1") as server, ClientSession() as session:
        yield session, server, release


async def test_bodies__together_are_bounded_until_they_are_worked_off() -> None:
    """A body counts as long as it is in memory, also when it has arrived whole; then its place is free again."""
    bodies = Bodies(longest_bytes=1000, together_bytes=1500)
    async with receiving(bodies) as (session, server, release):

        async def post(size: int) -> int:
            async with session.post(server.make_url("/"), data=b"x" * size) as response:
                return response.status

        assert 413 == await post(1001)
        first = asyncio.create_task(post(1000))
        async with asyncio.timeout(25):
            while bodies.held_bytes < 1000:
                await asyncio.sleep(0.01)
            assert 503 == await post(600)
            release.set()
            assert 200 == await first
            assert 200 == await post(1000)
        assert 0 == bodies.held_bytes


@pytest.mark.parametrize(
    "url",
    [
        "postgres://someone:s3cret@[::1/indexer",
        "postgres://someone:s3cret@localhost:99999/indexer",
        "postgres://someone:s3cret@localhost:port/indexer",
        "postgres://someone:s3/cret@localhost/indexer",
    ],
)
async def test_database_url__that_is_none(url: str) -> None:
    """One line that names the setting and says what it should be; no part of the password."""
    for opening in (open_pool(url, size=1, application="tests"), connect(url, application="tests")):
        with pytest.raises(ConfigurationError, match=r"^INDEXER_DATABASE_URL: ") as refused:
            await opening
        assert "s3" not in str(refused.value)
        assert "\n" not in str(refused.value)

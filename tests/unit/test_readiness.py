"""``/readyz``: one question to the database for all who ask, and an answer to each in time, whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from indexer.api import health
from indexer.common.errors import ConfigurationError, StoreOutdated, StoreUnavailable

ENOUGH_SECONDS = 20


class Database:
    """What the probe asks: how often it was asked, and what it answers."""

    def __init__(self) -> None:
        self.asked = 0
        self.terminated = 0
        self.answer: Callable[[], Awaitable[None]] = self._at_once

    async def _at_once(self) -> None:
        await asyncio.sleep(0)

    def terminate(self) -> None:
        self.terminated += 1


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database()

    async def check(_held: object) -> None:
        made.asked += 1
        await made.answer()

    @asynccontextmanager
    async def connection(_pool: object) -> AsyncIterator[Database]:
        yield made

    monkeypatch.setattr(health, "check", check)
    monkeypatch.setattr(health, "connection", connection)
    return made


@pytest.fixture
def ask(database: Database) -> Callable[[], Awaitable[tuple[int, dict[str, Any]]]]:
    handle = health.readyz(database)  # type: ignore[arg-type]  # in place of a pool

    async def ask() -> tuple[int, dict[str, Any]]:
        async with asyncio.timeout(ENOUGH_SECONDS):
            response = await handle(make_mocked_request("GET", "/readyz"))
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return response.status, orjson.loads(response.body)

    return ask


Ask = Callable[[], Awaitable[tuple[int, dict[str, Any]]]]


async def test_readyz__asked_again_while_others_are_being_told(database: Database, ask: Ask) -> None:
    """Who asks again at once, while others have not yet heard of the same answer, takes it away from none of them."""

    async def again_and_again() -> list[int]:
        return [(await ask())[0] for _ in range(20)]

    statuses = await asyncio.gather(*(again_and_again() for _ in range(10)))
    assert {status for each in statuses for status in each} == {200}
    assert database.asked < 10 * 20


async def test_readyz__a_database_that_hangs(
    database: Database, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody is told in time, by one question; a connection that does not answer is thrown away."""
    monkeypatch.setattr(health, "READY_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(health, "GIVEN_UP_AFTER_SECONDS", 0.3)
    gone = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    at_once, database.answer = database.answer, hang
    for _ in range(3):
        assert {status for status, _ in await asyncio.gather(*(ask() for _ in range(5)))} == {503}
    assert database.asked == 1
    async with asyncio.timeout(ENOUGH_SECONDS):
        await gone.wait()
    database.answer = at_once
    while (await ask())[0] != 200:
        await asyncio.sleep(0)
    assert (database.asked, database.terminated) == (2, 1)


async def test_readyz__a_question_that_never_ends(
    database: Database, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even throwing the connection away does not end, another question is asked after a while."""
    monkeypatch.setattr(health, "READY_WITHIN_SECONDS", 0.01)
    monkeypatch.setattr(health, "ABANDONED_AFTER_SECONDS", 0.1)
    for_ever = asyncio.Event()

    async def never() -> None:
        while not for_ever.is_set():
            try:
                await for_ever.wait()
            except asyncio.CancelledError:
                continue

    at_once, database.answer = database.answer, never
    assert (await ask())[0] == 503
    database.answer = at_once
    async with asyncio.timeout(ENOUGH_SECONDS):
        while (await ask())[0] != 200:
            await asyncio.sleep(0.01)
    assert database.asked == 2
    for_ever.set()


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("it is away"),
        StoreOutdated("the database lacks migration 0001"),
        ConfigurationError("INDEXER_DATABASE_URL: the password is wrong"),
        RuntimeError("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_readyz__whatever_is_wrong(database: Database, ask: Ask, error: Exception) -> None:
    """Whatever keeps the database from answering, the answer is 503; what is known of it is said."""

    async def fail() -> None:
        raise error

    database.answer = fail
    status, body = await ask()
    assert (status, body["status"]) == (503, "not ready")
    assert (str(error) in body["reason"]) is not isinstance(error, RuntimeError)

"""One browser and one server for all tests of a process.

The tests share one event loop (``loop_scope="session"``), since the browser's connection belongs to a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from indexer.api.settings import ApiSettings
from indexer.store.pool import open_pool
from tests.fixtures import everything
from tests.fixtures.asking import TOKEN
from tests.fixtures.browsing import (
    CHROMIUM,
    OPERATOR,
    OPERATOR_TOKEN,
    Console,
    put_cleanup,
    put_feeds,
    put_jobs,
    put_many,
    put_storage,
    put_trash,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from indexer.store.pool import Pool
    from tests.fixtures.postgres import PostgresServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests of this process."""
    if CHROMIUM is None:
        pytest.skip(
            "no chromium on this machine; on Debian: apt-get install chromium (or name it: TEST_CHROMIUM)"
        )
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        await started.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pool(postgres_server: PostgresServer, schema_template: str) -> AsyncIterator[Pool]:
    """A database with something of everything."""
    url = await postgres_server.create_database(template=schema_template)
    filled = await open_pool(url, size=8, application="tests")
    await everything.fill(filled)
    await put_many(filled)
    await put_jobs(filled)
    await put_cleanup(filled)
    await put_storage(filled)
    await put_trash(filled)
    await put_feeds(filled)
    yield filled
    await filled.close()
    await postgres_server.drop_database(url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(pool: Pool) -> AsyncIterator[str]:
    """The address of a server whose API takes ``TOKEN``."""
    settings = ApiSettings(api_tokens=frozenset({TOKEN}), operator_tokens=((OPERATOR, OPERATOR_TOKEN),))
    async with serving(pool, settings) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="session")
async def console(browser: Browser, served: str) -> AsyncIterator[Console]:
    """The console, watched: what its pages complain about fails the test."""
    visited = Console(served, browser)
    yield visited
    unexpected = [each for each in visited.complaints if not any(part in each for part in visited.expected)]
    assert unexpected == []

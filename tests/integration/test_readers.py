"""Connections for answering: what they are set to, and that they come back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from indexer.errors import StoreUnavailable
from indexer.store.pool import Pool, close_pool, open_pool
from indexer.store.reading import Plans, Readers, StoreTooSlow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from indexer.store.pool import Connection

WATCHED = (
    "statement_timeout",
    "default_transaction_read_only",
    "plan_cache_mode",
    "enable_sort",
    "enable_hashjoin",
)
FOR_SEARCHES = ["5s", "on", "force_custom_plan", "on", "on"]
FOR_WALKS = ["5s", "on", "force_generic_plan", "off", "off"]


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool of one connection."""
    opened = await open_pool(database_url, size=1, application="tests")
    yield opened
    await close_pool(opened)


async def settings(connection: Connection) -> list[str]:
    return [await connection.fetchval("SELECT current_setting($1)", name) for name in WATCHED]


async def test_reading__plans_as_it_was_lent_for(pool: Pool) -> None:
    """The one connection is set to what each borrower needs, whoever had it before, and is restored in the end."""
    async with pool.acquire() as connection:
        before = await settings(connection)
    readers = Readers(pool, size=1, statement_timeout_seconds=5)
    lent = []
    for plans in (Plans.SEARCHES, Plans.WALKS, Plans.WALKS, Plans.SEARCHES, Plans.WALKS):
        async with readers.reading(plans) as held:
            lent.append(await settings(held))
    assert [FOR_SEARCHES, FOR_WALKS, FOR_WALKS, FOR_SEARCHES, FOR_WALKS] == lent
    await readers.close()
    async with pool.acquire() as connection:
        assert before == await settings(connection)


async def test_reading__prefers_a_connection_that_is_set_so_already(database_url: str) -> None:
    """Of two idle connections each goes to what it was used for, so that mixed questions need no setting anew."""
    pool = await open_pool(database_url, size=2, application="tests")
    readers = Readers(pool, size=2, statement_timeout_seconds=5)
    used: dict[Plans, set[int]] = {Plans.WALKS: set(), Plans.SEARCHES: set()}
    async with readers.reading(Plans.WALKS) as one, readers.reading(Plans.SEARCHES) as other:
        used[Plans.WALKS].add(one.get_server_pid())
        used[Plans.SEARCHES].add(other.get_server_pid())
    for plans in (Plans.SEARCHES, Plans.WALKS, Plans.SEARCHES, Plans.WALKS):
        async with readers.reading(plans) as held:
            used[plans].add(held.get_server_pid())
    await readers.close()
    await close_pool(pool)
    assert [1, 1] == [len(pids) for pids in used.values()]
    assert not used[Plans.WALKS] & used[Plans.SEARCHES]


@pytest.mark.parametrize("plans", Plans)
async def test_reading__is_read_only_and_limited_in_time(pool: Pool, plans: Plans) -> None:
    """However it plans, a connection for answering writes nothing and gives up; the next borrower finds it whole."""
    readers = Readers(pool, size=1, statement_timeout_seconds=0.05)
    with pytest.raises(StoreUnavailable, match="ReadOnly"):
        async with readers.reading(plans) as held:
            await held.execute("CREATE TABLE written (id integer)")
    with pytest.raises(StoreTooSlow):
        async with readers.reading(plans) as held:
            await held.execute("SELECT pg_sleep(5)")
    async with readers.reading(plans) as held:
        assert await held.fetchval("SELECT 1") == 1
    await readers.close()

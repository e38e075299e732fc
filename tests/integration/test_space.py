"""Space of tables that hold what waits is given back when they are empty, and only then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from indexer.store import inbox, own_requests, space
from indexer.store.inbox import Delivery
from tests.fixtures import floods

if TYPE_CHECKING:
    from indexer.store.pool import Pool

DELIVERIES = 2000


async def size(pool: Pool, table: str = "inbox") -> int:
    found: int = await pool.fetchval("SELECT pg_total_relation_size($1::regclass)", table)
    return found


async def fill(pool: Pool) -> None:
    async with pool.acquire() as held:
        await inbox.put_deliveries(held, deliveries=floods.pushes(DELIVERIES))


async def give_back(pool: Pool) -> list[str]:
    async with pool.acquire() as held:
        return await space.give_back_space(held)


async def test_space__of_an_empty_inbox(pool: Pool) -> None:
    """Heap and indexes are given back; ids go on where they were, so that none is used twice."""
    await fill(pool)
    await pool.execute("DELETE FROM inbox")
    newest = await pool.fetchval("SELECT last_value FROM pg_sequences WHERE sequencename = 'inbox_id_seq'")
    assert ["inbox"] == await give_back(pool)
    assert await size(pool) < space.WORTH_BYTES
    await fill(pool)
    assert newest + 1 == await pool.fetchval("SELECT min(id) FROM inbox")


async def test_space__not_while_something_waits(pool: Pool) -> None:
    """One delivery is enough: nothing is removed."""
    await fill(pool)
    await pool.execute("DELETE FROM inbox WHERE id > (SELECT min(id) FROM inbox)")
    assert [] == await give_back(pool)
    assert 1 == await pool.fetchval("SELECT count(*) FROM inbox")


@pytest.mark.parametrize("committed", [True, False])
async def test_space__of_a_table_in_use(pool: Pool, committed: bool) -> None:
    """A delivery that is being stored is waited for by nobody, and never lost."""
    await fill(pool)
    await pool.execute("DELETE FROM inbox")
    async with pool.acquire() as held:
        storing = held.transaction()
        await storing.start()
        await inbox.put_deliveries(held, deliveries=[Delivery(received_at=datetime.now(UTC), body=b"{}")])
        assert [] == await give_back(pool)
        await (storing.commit() if committed else storing.rollback())
    assert int(committed) == await pool.fetchval("SELECT count(*) FROM inbox")
    assert ([] if committed else ["inbox"]) == await give_back(pool)


async def test_space__of_small_tables_is_left(pool: Pool) -> None:
    """What is small is not worth a lock."""
    assert [] == await give_back(pool)


async def test_space__of_work_items_staged_entries_and_own_requests(pool: Pool) -> None:
    """They are given back in the same way."""
    await pool.execute("INSERT INTO repository (name, created_at) VALUES ('team/app', now())")
    await pool.execute(
        "INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)"
        " SELECT 'verify', id, 'v' || n, now(), now() FROM repository, generate_series(1, 5000) AS n"
    )
    await pool.execute(
        "INSERT INTO audit_staged (occurred_at, recorded_at, action, source)"
        " SELECT now(), now(), 'tag.created', 'notification' FROM generate_series(1, 5000)"
    )
    await pool.execute(
        "INSERT INTO own_request (number, event, issued, received_on)"
        " SELECT n, n, n / 1000, now() FROM generate_series(1, 5000) AS n"
    )
    assert [] == await give_back(pool)
    await pool.execute("DELETE FROM work_item")
    assert ["work_item"] == await give_back(pool)
    await pool.execute("DELETE FROM audit_staged")
    assert ["audit_staged"] == await give_back(pool)
    apart = await size(pool, "own_request")
    async with pool.acquire() as held:
        assert 5000 == await own_requests.pack_values(held, before=datetime.now(UTC), limit=5000)
    assert ["own_request"] == await give_back(pool)
    assert await size(pool, "own_request_pack") < apart / 2
    for table in ("work_item", "audit_staged", "own_request"):
        assert await size(pool, table) < space.WORTH_BYTES

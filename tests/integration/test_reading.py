"""Connections that are held for answering."""

from __future__ import annotations

import asyncio
from typing import Any

from indexer.store.pool import Pool
from indexer.store.reading import Readers


async def test_reading__after_the_database_restarted(pool: Pool) -> None:
    """What was held and lost while nobody asked costs nobody an answer."""
    readers = Readers(pool, size=1, statement_timeout_seconds=5)
    async with readers.reading() as held:
        lost = await held.fetchval("SELECT pg_backend_pid()")
    assert await pool.fetchval("SELECT pg_terminate_backend($1, 10000)", lost)
    idle: Any = readers._idle[0]
    async with asyncio.timeout(60):
        while idle._con is not None:  # the driver has to hear of it
            await asyncio.sleep(0.01)
    async with readers.reading() as held:
        assert lost != await held.fetchval("SELECT pg_backend_pid()")
    await readers.close()


async def test_close__with_a_connection_that_was_just_lost(pool: Pool) -> None:
    """Where the database goes away while the server stops, giving back what is held is no error."""
    readers = Readers(pool, size=1, statement_timeout_seconds=5)
    async with readers.reading() as held:
        lost: Any = held
    lost._con._transport.abort()  # the driver hears of it when the loop turns next
    assert not lost.is_closed()
    await readers.close()
    assert await pool.fetchval("SHOW default_transaction_read_only") == "off"


async def test_close__what_was_set_for_reading_does_not_stay(pool: Pool) -> None:
    """A connection that comes back to its pool may write again."""
    readers = Readers(pool, size=1, statement_timeout_seconds=5)
    async with readers.reading() as held:
        assert await held.fetchval("SHOW default_transaction_read_only") == "on"
        used = await held.fetchval("SELECT pg_backend_pid()")
    await readers.close()
    async with pool.acquire() as again:
        assert used == await again.fetchval("SELECT pg_backend_pid()")
        assert await again.fetchval("SHOW default_transaction_read_only") == "off"

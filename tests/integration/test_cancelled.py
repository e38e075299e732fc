"""Who is cancelled ends, whatever the database does meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from indexer.audit import follow as room
from indexer.audit.follow import follow
from indexer.store import pool as pools
from indexer.store.pool import close_pool, open_pool, translated
from tests.fixtures.sealing import sealed

if TYPE_CHECKING:
    from indexer.store.pool import Pool
    from tests.fixtures.fault_proxy import FaultProxy


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task once, and see that it takes it."""
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=60)
    assert done
    assert task.cancelled()


async def test_follow__ends_while_the_database_is_silent(
    pool: Pool, proxy: FaultProxy, proxied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends it in the middle of a statement that nobody answers, and the pool with it."""
    monkeypatch.setattr(room, "REST_SECONDS", 0.01)
    monkeypatch.setattr(pools, "CLOSED_WITHIN_SECONDS", 0.5)
    await sealed(pool, 1)
    there = await open_pool(proxied_url, size=2, application="follow")
    shown = asyncio.Event()

    async def show(_part: bytes) -> None:
        shown.set()

    async def work() -> None:
        try:
            await follow(there, proxied_url, after_position=0, show=show)
        finally:
            await close_pool(there)

    task = asyncio.create_task(work())
    await shown.wait()
    proxy.stall()
    async with asyncio.timeout(60):
        while there.get_idle_size() == there.get_size():
            await asyncio.sleep(0)  # until a statement is under way
    await ended(task)


async def test_translated__does_not_replace_a_cancellation() -> None:
    """What the driver says while a task is being cancelled is no reason to go on."""
    begun = asyncio.Event()

    async def work() -> None:
        async with translated():
            try:
                begun.set()
                await asyncio.sleep(3600)
            finally:
                raise OSError("the connection was lost while it was given back")

    task = asyncio.create_task(work())
    await begun.wait()
    await ended(task)

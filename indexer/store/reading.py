"""Connections for reading: a few, kept open, lent in the order of the requests.

Three to eight per process are best. One per client halves the rate, and lending them last-in-first-out makes a few wait
for seconds (measured: p99 at 64 clients 236 ms, with a fair queue 35 ms). Each is read-only and has a time limit for
statements, so that an expensive request does not delay cheap ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from indexer.common.errors import StoreError, StoreUnavailable
from indexer.store.pool import CONNECT_TIMEOUT_SECONDS, Connection, Pool, translated

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Held = PoolConnectionProxy[asyncpg.Record]

LEND_WITHIN_SECONDS = 5.0
"""How long a request waits for a connection."""

_SETTINGS = ("statement_timeout", "default_transaction_read_only", "plan_cache_mode")


class StoreTooSlow(StoreError):  # noqa: N818 - a state, read as "store too slow"
    """The statement reached its time limit. A narrower request may succeed."""


class Readers:
    """At most ``size`` connections of a pool, kept from first use until ``close``.

    The pool must have that many more: these connections do not return to it before ``close``.
    """

    def __init__(self, pool: Pool, *, size: int, statement_timeout_seconds: float) -> None:
        self._pool = pool
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Held] = []
        self._timeout_ms = int(statement_timeout_seconds * 1000)
        self._closed = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lend a connection, first come first served.

        Raises ``StoreUnavailable`` if none is free in time, ``StoreTooSlow`` at the time limit.
        """
        async with translated(), AsyncExitStack() as stack:
            held = await self._lend(stack)
            try:
                yield held
            except TimeoutError:
                # The next statement on it would wait for the answer to this one.
                held.terminate()
                raise
            except asyncpg.QueryCanceledError as error:
                raise StoreTooSlow("the question takes too long to answer; narrow it") from error
            finally:
                await self._give_back(held)

    async def close(self) -> None:
        """Return every connection to its pool, those in use as soon as they are given back."""
        self._closed = True
        while self._idle:
            await self._release(self._idle.pop())

    async def _lend(self, stack: AsyncExitStack) -> Held:
        """Wait for a slot and a connection; the slot is freed with ``stack``."""
        try:
            async with asyncio.timeout(LEND_WITHIN_SECONDS):
                await self._slots.acquire()
                stack.callback(self._slots.release)
                return await self._take()
        except TimeoutError as error:
            raise StoreUnavailable("too many questions at once, or no connection; try again") from error

    async def _take(self) -> Held:
        while self._idle:
            held = self._idle.pop()
            if not _is_lost(held):
                return held
            await self._release(held)
        held = await self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS)
        try:
            await held.execute(
                f"SET statement_timeout = {self._timeout_ms}; SET default_transaction_read_only = on; "
                "SET plan_cache_mode = force_custom_plan"  # one plan for all filters is a bad one (measured)
            )
        except BaseException:
            await self._pool.release(held)
            raise
        return held

    async def _give_back(self, held: Held) -> None:
        if self._closed or _is_lost(held):
            await self._release(held)
        else:
            self._idle.append(held)

    async def _release(self, held: Held) -> None:
        if not _is_lost(held):
            try:
                async with translated():
                    await held.execute("; ".join(f"RESET {name}" for name in _SETTINGS))
            except StoreUnavailable:
                if not _is_lost(held):
                    held.terminate()  # or it would keep what was set
        await self._pool.release(held)


def _is_lost(held: Held) -> bool:
    """Tell whether the connection ended. The pool takes such a one out of its proxy, which then raises."""
    try:
        return held.is_closed()
    except asyncpg.InterfaceError:
        return True

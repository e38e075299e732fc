"""Connections for answering: a few, held, handed out in the order of asking.

Three to eight per process are best; one per client halves the rate, and handing them out last-in-first-out
makes a few wait seconds (measured: p99 at 64 clients 236 ms, with a fair queue 35 ms). Each is read-only and
gives up a statement after a while, so that one hard question does not hold up the easy ones.

What a connection is lent for decides how its statements are planned (docs/adr/0040): a search anew each time, by its
values; a plain page never again, and only as a walk along an index.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING

import asyncpg

from indexer.errors import StoreError, StoreUnavailable
from indexer.store.pool import CONNECT_TIMEOUT_SECONDS, Connection, Pool, translated

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Held = PoolConnectionProxy[asyncpg.Record]

_SETTINGS = ("statement_timeout", "default_transaction_read_only", "plan_cache_mode")
_NO_WALK = (
    "enable_sort",
    "enable_seqscan",
    "enable_bitmapscan",
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_material",
)
"""What a plain page must not be made of, whatever the statistics say of an average repository."""


class Plans(Enum):
    """How statements are planned."""

    SEARCHES = "force_custom_plan"
    """By their values, at each call: one plan for every filter is a bad one (measured)."""
    WALKS = "force_generic_plan"
    """Once: what an index serves in its order has one good plan, and planning is a third of a page's cost."""


class StoreTooSlow(StoreError):  # noqa: N818 - a state, read as "store too slow"
    """The statement ran into its time limit; a narrower question may be answered."""


class Readers:
    """At most ``size`` connections of a pool, kept from first use until ``close``.

    The pool must have that many to spare: held connections do not come back to it before ``close``.
    """

    def __init__(self, pool: Pool, *, size: int, statement_timeout_seconds: float) -> None:
        self._pool = pool
        self._turns = asyncio.Semaphore(size)
        self._idle: list[tuple[Held, Plans]] = []
        self._timeout_ms = int(statement_timeout_seconds * 1000)
        self._closed = False

    @asynccontextmanager
    async def reading(self, plans: Plans = Plans.SEARCHES) -> AsyncIterator[Connection]:
        """Lend a connection, first come first served.

        Raises ``StoreUnavailable`` where none is to be had in time, ``StoreTooSlow`` at the time limit.
        """
        async with self._turn(), translated():
            held = await self._take(plans)
            try:
                yield held
            except asyncpg.QueryCanceledError as error:
                raise StoreTooSlow("the question takes too long to answer; narrow it") from error
            finally:
                await self._give_back(held, plans)

    async def close(self) -> None:
        """Give every connection back to its pool, those in use as soon as they are returned."""
        self._closed = True
        while self._idle:
            await self._release(self._idle.pop()[0])

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailable("too many questions at once; try again") from error
        try:
            yield
        finally:
            self._turns.release()

    async def _take(self, plans: Plans) -> Held:
        while self._idle:
            place = next((n for n, (_, set_to) in enumerate(self._idle) if set_to is plans), -1)
            held, set_to = self._idle.pop(place)
            if held.is_closed():
                await self._release(held)
            elif set_to is plans:
                return held
            else:
                return await self._set_up(held, _plan_by(plans))
        held = await self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS)
        limits = f"SET statement_timeout = {self._timeout_ms}; SET default_transaction_read_only = on; "
        return await self._set_up(held, limits + _plan_by(plans))

    async def _set_up(self, held: Held, statements: str) -> Held:
        try:
            await held.execute(statements)
        except BaseException:
            await self._pool.release(held)
            raise
        return held

    async def _give_back(self, held: Held, plans: Plans) -> None:
        if self._closed or held.is_closed():
            await self._release(held)
        else:
            self._idle.append((held, plans))

    async def _release(self, held: Held) -> None:
        if not held.is_closed():
            await held.execute("; ".join(f"RESET {name}" for name in (*_SETTINGS, *_NO_WALK)))
        await self._pool.release(held)


def _plan_by(plans: Plans) -> str:
    allowed = "off" if plans is Plans.WALKS else "on"
    return "; ".join(
        [f"SET plan_cache_mode = {plans.value}", *(f"SET {name} = {allowed}" for name in _NO_WALK)]
    )

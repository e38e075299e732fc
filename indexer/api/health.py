"""Is the process up, can it answer, and what does it measure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from indexer.common.errors import StoreError, StoreUnavailable
from indexer.store.migrate import check
from indexer.store.pool import Pool, connection

_NO_STORE = {"Cache-Control": "no-store"}


async def healthz(_request: web.Request) -> web.Response:
    """Answer while the process runs."""
    return _json(200, {"status": "ok"})


READY_WITHIN_SECONDS = 0.8
"""A database that does not answer is noticed in a second, also one that is stopped or behind a dead network."""
GIVEN_UP_AFTER_SECONDS = 5.0
"""Then the connection is thrown away, and the next question gets another."""


def readyz(pool: Pool) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make the endpoint that answers 200 while the database is reachable and its schema is today's."""
    probe = _Probe(pool)

    async def handle(_request: web.Request) -> web.Response:
        try:
            await probe.ask()
        except StoreError as error:
            return _json(503, {"status": "not ready", "reason": str(error)})
        return _json(200, {"status": "ready"})

    return handle


class _Probe:
    """Asks the database whether it is ready, once for all who want to know at the same time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asking: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        """Raise ``StoreError`` where the database is not ready, or does not say so in time."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._check(), name="readyz")
            self._asking.add_done_callback(_read)
        # It is not cancelled at the deadline: a driver that is cancelled waits for the very server that hangs.
        done, _ = await asyncio.wait({self._asking}, timeout=READY_WITHIN_SECONDS)
        if not done:
            raise StoreUnavailable(f"the database does not answer within {READY_WITHIN_SECONDS:g} s")
        self._asking.result()

    async def _check(self) -> None:
        async with connection(self._pool) as held:
            try:
                async with asyncio.timeout(GIVEN_UP_AFTER_SECONDS):
                    await check(held)
            except TimeoutError:
                held.terminate()
                raise


def _read(asked: asyncio.Task[None]) -> None:
    """Read how it ended: that nobody waited so long is no error to be logged."""
    if not asked.cancelled():
        asked.exception()


async def metrics(_request: web.Request) -> web.Response:
    """Answer with everything measured in this process, in Prometheus' text form."""
    return web.Response(
        body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
    )


def _json(status: int, body: dict[str, str]) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), headers={"Content-Type": "application/json", **_NO_STORE}
    )

"""``/healthz``, ``/readyz`` and ``/metrics``."""

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
    """Answer 200 while the process runs."""
    return _json(200, {"status": "ok"})


READY_WITHIN_SECONDS = 0.8
"""The answer comes within a second, also where the database is stopped or the network is down."""
GIVEN_UP_AFTER_SECONDS = 5.0
"""After that the connection is closed, and the next check opens another."""


def readyz(pool: Pool) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make the endpoint that answers 200 while the database is reachable and its schema is current, else 503."""
    probe = _Probe(pool)

    async def handle(_request: web.Request) -> web.Response:
        try:
            await probe.check()
        except StoreError as error:
            return _json(503, {"status": "not ready", "reason": str(error)})
        return _json(200, {"status": "ready"})

    return handle


class _Probe:
    """Checks the database; concurrent requests share one check."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._checking: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Raise ``StoreError`` where the database is not ready, or does not answer in time."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check(), name="readyz")
            self._checking.add_done_callback(_retrieve)
        # Not cancelled at the deadline: a cancelled call of the driver waits for the server that hangs.
        done, _ = await asyncio.wait({self._checking}, timeout=READY_WITHIN_SECONDS)
        if not done:
            raise StoreUnavailable(f"the database does not answer within {READY_WITHIN_SECONDS:g} s")
        self._checking.result()

    async def _check(self) -> None:
        async with connection(self._pool) as held:
            try:
                async with asyncio.timeout(GIVEN_UP_AFTER_SECONDS):
                    await check(held)
            except TimeoutError:
                held.terminate()
                raise


def _retrieve(checking: asyncio.Task[None]) -> None:
    """Retrieve the exception of a check that no request waited for, so that asyncio does not log it."""
    if not checking.cancelled():
        checking.exception()


async def metrics(_request: web.Request) -> web.Response:
    """Answer with the metrics of this process, in Prometheus' text format."""
    return web.Response(
        body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
    )


def _json(status: int, body: dict[str, str]) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), headers={"Content-Type": "application/json", **_NO_STORE}
    )

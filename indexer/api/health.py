"""Is the process up, can it answer, and what does it measure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from indexer.errors import StoreError
from indexer.store.migrate import check
from indexer.store.pool import Pool, connection

_NO_STORE = {"Cache-Control": "no-store"}


async def healthz(_request: web.Request) -> web.Response:
    """Answer while the process runs."""
    return _json(200, {"status": "ok"})


def readyz(pool: Pool) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make the endpoint that answers 200 while the database is reachable and its schema is today's."""

    async def handle(_request: web.Request) -> web.Response:
        try:
            async with connection(pool) as held:
                await check(held)
        except StoreError as error:
            return _json(503, {"status": "not ready", "reason": str(error)})
        return _json(200, {"status": "ready"})

    return handle


async def metrics(_request: web.Request) -> web.Response:
    """Answer with everything measured in this process, in Prometheus' text form."""
    return web.Response(
        body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
    )


def _json(status: int, body: dict[str, str]) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), headers={"Content-Type": "application/json", **_NO_STORE}
    )

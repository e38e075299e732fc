"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from indexer.common.errors import IndexerError, StoreUnavailable
from indexer.store.migrate import check
from indexer.store.pool import Pool, connection

_NO_STORE = {"Cache-Control": "no-store"}
_log = structlog.get_logger()


async def healthz(_request: web.Request) -> web.Response:
    """Answer 200 while the process runs."""
    return _json(200, {"status": "ok"})


READY_WITHIN_SECONDS = 0.8
"""The answer comes within a second, also where the database is stopped or the network is down."""
GIVEN_UP_AFTER_SECONDS = 5.0
"""After that the connection is closed, and the next check opens another."""
ABANDONED_AFTER_SECONDS = 30.0
"""A check that has not ended by then is left alone, and another one is begun beside it: it may never end, and a
database that is back has to show. Taking a connection may take 10 s, giving it back as long."""


def readyz(pool: Pool) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make the endpoint that answers 200 while the database is reachable and its schema is current, else 503."""
    probe = _Probe(pool)

    async def handle(_request: web.Request) -> web.Response:
        try:
            await probe.check()
        except IndexerError as error:
            return _json(503, {"status": "not ready", "reason": str(error)})
        except Exception:  # noqa: BLE001 - a request is answered in any case; the log has the error
            _log.exception("readiness_unknown")
            return _json(503, {"status": "not ready", "reason": "internal error; see the log"})
        return _json(200, {"status": "ready"})

    return handle


class _Probe:
    """Checks the database; concurrent requests share one check."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._newest: asyncio.Task[None] | None = None
        self._begun_at = 0.0
        self._running: set[asyncio.Task[None]] = set()

    async def check(self) -> None:
        """Raise an ``IndexerError`` where the database is not ready, or does not answer in time."""
        checking = self._checking()
        # Not cancelled at the deadline: a cancelled call of the driver waits for the server that hangs.
        done, _ = await asyncio.wait({checking}, timeout=READY_WITHIN_SECONDS)
        if not done:
            raise StoreUnavailable(f"the database does not answer within {READY_WITHIN_SECONDS:g} s")
        if checking.cancelled():
            raise StoreUnavailable("the check of the database was cancelled")
        checking.result()  # not that of the newest check, which another request may have begun meanwhile

    def _checking(self) -> asyncio.Task[None]:
        """Return the check that is running; begin one where none is, or where it has run for too long."""
        now = asyncio.get_running_loop().time()
        late = now - self._begun_at > ABANDONED_AFTER_SECONDS
        if self._newest is None or self._newest.done() or late:
            self._newest, self._begun_at = asyncio.create_task(self._check(), name="readyz"), now
            self._running.add(self._newest)  # asyncio keeps no reference to a task
            self._newest.add_done_callback(self._ended)
        return self._newest

    def _ended(self, checking: asyncio.Task[None]) -> None:
        """Retrieve the exception of a check that no request waited for, so that asyncio does not log it."""
        self._running.discard(checking)
        if not checking.cancelled():
            checking.exception()

    async def _check(self) -> None:
        async with connection(self._pool) as held:
            try:
                async with asyncio.timeout(GIVEN_UP_AFTER_SECONDS):
                    await check(held)
            except TimeoutError:
                held.terminate()
                raise


async def metrics(_request: web.Request) -> web.Response:
    """Answer with the metrics of this process, in Prometheus' text format."""
    return web.Response(
        body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
    )


def _json(status: int, body: dict[str, str]) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), headers={"Content-Type": "application/json", **_NO_STORE}
    )

"""``POST /access-log``: lines of an access log from a collector, one JSON object a line, with a token of its own."""

from __future__ import annotations

import asyncio
import hmac
import zlib
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from aiohttp import web

from indexer.access_log.apply import take_lines
from indexer.common.errors import StoreUnavailable
from indexer.ingest.bodies import Bodies, TooLarge
from indexer.store.pool import Pool, transaction

PATH = "/access-log"
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_LINES_BYTES = 16 * 1024 * 1024
"""Of a body after decompression."""

MAX_READING_BYTES = 16 * 1024 * 1024
"""All bodies that are being read, or wait to be applied, together; beyond it the answer is 503."""

AT_A_TIME = 2
"""Bodies that are applied at a time; others wait."""

BODY_DEADLINE_SECONDS = 30.0
_GZIP = 16 + zlib.MAX_WBITS


def add_access_endpoint(app: web.Application, *, pool: Pool, token: str) -> None:
    """Serve ``/access-log``."""
    app.router.add_post(PATH, AccessEndpoint(pool, token=token).receive)


class AccessEndpoint:
    """The receiving end of a collector."""

    def __init__(self, pool: Pool, *, token: str) -> None:
        self._pool = pool
        self._expected = token.encode()
        self._bodies = Bodies(longest_bytes=MAX_BODY_BYTES, together_bytes=MAX_READING_BYTES)
        self._applying = asyncio.Semaphore(AT_A_TIME)

    async def receive(self, request: web.Request) -> web.Response:
        """Answer 202 once the lines are applied, 401 without the token, 400, 408 and 413 for bodies, 503 to retry."""
        if not self._is_allowed(request):
            return _answer(401, "unauthorized", {"WWW-Authenticate": 'Bearer realm="access-log"'})
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(BODY_DEADLINE_SECONDS):
                    body = await stack.enter_async_context(self._bodies.read(request))
                # Only once the body is here: a slow sender delays no other.
                async with self._applying:
                    lines = _decompressed(body, request.headers.get("Content-Encoding", ""))
                    async with transaction(self._pool) as held:
                        await take_lines(held, lines.splitlines(), now=datetime.now(UTC))
            except _Refused as refused:
                return refused.answer
            except TooLarge:
                return _too_large()
            except TimeoutError:
                return _answer(408, "the body took too long", {"Connection": "close"})
            except StoreUnavailable:
                return _answer(503, "not taken, send it again", {"Retry-After": "5"})
        return web.Response(status=202)

    def _is_allowed(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        matches = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._expected)
        return scheme.lower() == "bearer" and matches


class _Refused(Exception):  # noqa: N818 - caught here
    def __init__(self, answer: web.Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _decompressed(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            inflater = zlib.decompressobj(_GZIP)
            try:
                lines = inflater.decompress(body, MAX_LINES_BYTES)
            except zlib.error as error:
                raise _Refused(_answer(400, f"cannot be decompressed: {error}")) from None
            if inflater.unconsumed_tail:
                raise _Refused(_too_large())
            if not inflater.eof:
                raise _Refused(_answer(400, "cannot be decompressed: it is cut off"))
            return lines
        case other:
            what = f"Content-Encoding {other[:40]!r} is not understood: gzip or none"
            raise _Refused(_answer(400, what))


def _too_large() -> web.Response:
    what = f"at most {MAX_BODY_BYTES} bytes, {MAX_LINES_BYTES} when decompressed"
    return _answer(413, what, {"Connection": "close"})


def _answer(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)

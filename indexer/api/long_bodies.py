"""Long responses: written in pieces with a time-out, bounded together, and freed once they are sent.

aiohttp itself keeps the last response of a connection until the next request comes, and waits without end for a client
that does not read.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from indexer.common.errors import CallerError

WRITE_WITHIN_SECONDS = 60.0
"""The connection of a client that reads nothing for so long is closed."""

LONG_BYTES: Final = 256 * 1024
"""From this size on a response is long; also the size of a piece."""
LONGEST_BYTES: Final = 32 * 1024 * 1024
"""Of a response that is not a stream."""
TOGETHER_BYTES: Final = 64 * 1024 * 1024
"""Of all long responses that are being sent."""


class _BeingSent:
    """How many bytes of long responses are in memory."""

    size_bytes = 0


def sized(body: bytes) -> bytes | Payload:
    """Return a body for a response; raise ``CallerError`` where it is too long, by itself or with others being sent."""
    if len(body) <= LONG_BYTES:
        return body
    if len(body) > LONGEST_BYTES:
        raise CallerError(
            f"the answer would be longer than {LONGEST_BYTES} bytes; ask for less",
            status=HTTPStatus.BAD_REQUEST,
            code="answer_too_long",
        )
    if _BeingSent.size_bytes + len(body) > TOGETHER_BYTES:
        raise CallerError(
            "too many long answers are being sent; try again later",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            code="too_many_long_answers",
        )
    return _LongBody(body)


class _LongBody(Payload):
    """A long body; it counts until it is written or dropped."""

    _autoclose = True

    def __init__(self, body: bytes) -> None:
        super().__init__(body, content_type="application/octet-stream")
        self._size = len(body)
        self._left = body
        _BeingSent.size_bytes += len(body)

    def __del__(self) -> None:
        self._forget()

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body in pieces; raise ``ConnectionResetError`` where the client does not read."""
        body = memoryview(self._left)
        try:
            for begin in range(0, len(body), LONG_BYTES):
                async with asyncio.timeout(WRITE_WITHIN_SECONDS):
                    await writer.write(body[begin : begin + LONG_BYTES])
                    await writer.drain()
        except TimeoutError as error:
            raise ConnectionResetError("the client does not read") from error
        finally:
            body.release()
            self._forget()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text; a method of ``Payload`` that nothing here calls."""
        return self._left.decode(encoding, errors)

    def _forget(self) -> None:
        left: Any = getattr(self, "_left", b"")
        _BeingSent.size_bytes -= len(left)
        self._left = self._value = b""

"""Long answers: written piece by piece to clients that take them, bounded together, and forgotten once they are out.

aiohttp keeps the last response of a connection until its next request comes, and waits without end for a client that
does not read.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from indexer.common.errors import CallerError

WRITE_WITHIN_SECONDS = 60.0
"""A client that takes nothing for so long is cut off."""

LONG_BYTES: Final = 256 * 1024
"""From here on an answer is long; and the size of a piece."""
LONGEST_BYTES: Final = 32 * 1024 * 1024
"""Of an answer that is not a stream."""
TOGETHER_BYTES: Final = 64 * 1024 * 1024
"""Of all long answers that are under way."""


class _UnderWay:
    """How many bytes of long answers are in memory."""

    held = 0


def sized(body: bytes) -> bytes | Payload:
    """Return a body as a response takes it; raise ``CallerError`` where it is too long, or too much is under way."""
    if len(body) <= LONG_BYTES:
        return body
    if len(body) > LONGEST_BYTES:
        raise CallerError(
            f"the answer would be longer than {LONGEST_BYTES} bytes; ask for less",
            status=HTTPStatus.BAD_REQUEST,
            code="answer_too_long",
        )
    if _UnderWay.held + len(body) > TOGETHER_BYTES:
        raise CallerError(
            "too many long answers are under way; try again later",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            code="too_many_long_answers",
        )
    return _LongBody(body)


class _LongBody(Payload):
    """A long body; it counts until it is written, or thrown away."""

    _autoclose = True

    def __init__(self, body: bytes) -> None:
        super().__init__(body, content_type="application/octet-stream")
        self._size = len(body)
        self._left = body
        _UnderWay.held += len(body)

    def __del__(self) -> None:
        self._forget()

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it piece by piece; raise ``ConnectionResetError`` where the client takes nothing."""
        body = memoryview(self._left)
        try:
            for begin in range(0, len(body), LONG_BYTES):
                async with asyncio.timeout(WRITE_WITHIN_SECONDS):
                    await writer.write(body[begin : begin + LONG_BYTES])
                    await writer.drain()
        except TimeoutError as error:
            raise ConnectionResetError("the client takes nothing") from error
        finally:
            body.release()
            self._forget()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text; nobody asks."""
        return self._left.decode(encoding, errors)

    def _forget(self) -> None:
        left: Any = getattr(self, "_left", b"")
        _UnderWay.held -= len(left)
        self._left = self._value = b""

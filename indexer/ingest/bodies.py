"""Bodies of requests in memory: a bound for each, and one for all of them together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from indexer.common.errors import StoreUnavailable


class TooLarge(Exception):  # noqa: N818 - a state, caught by the endpoint
    """The body is longer than the bound for one."""


class Bodies:
    """The bodies that are being read or processed; ``held_bytes`` is their size."""

    def __init__(self, *, longest_bytes: int, together_bytes: int) -> None:
        self._longest = longest_bytes
        self._together = together_bytes
        self.held_bytes = 0

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Read a body as it was sent (not decompressed); it counts until the block ends.

        Raises ``TooLarge`` beyond the bound for one, and ``StoreUnavailable`` beyond the bound for all: the sender may
        retry that.
        """
        if request.content_length is not None and request.content_length > self._longest:
            raise TooLarge
        body = bytearray()
        counted = 0
        try:
            async for chunk in request.content.iter_any():
                body += chunk
                counted += len(chunk)
                self.held_bytes += len(chunk)
                if counted > self._longest:
                    raise TooLarge
                if self.held_bytes > self._together:
                    raise StoreUnavailable("too much is being received already")
            whole = bytes(body)
            body.clear()
            yield whole
        finally:
            self.held_bytes -= counted

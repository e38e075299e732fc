"""aiohttp's runner of an application, with the limits of this package."""

from __future__ import annotations

from aiohttp import web
from aiohttp.web_server import Server

from indexer.httpserver.limits import Limits
from indexer.httpserver.protocol import PIECE, MeasuredServer


class MeasuredRunner(web.AppRunner):
    """Runs an application. Bodies are given as sent: whether one can be decompressed is for the endpoint to find."""

    def __init__(
        self, app: web.Application, *, limits: Limits, idle_seconds: float, shutdown_timeout: float
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            auto_decompress=False,
            max_field_size=limits.authorization_bytes + PIECE,  # so that our own limit comes first
            max_headers=limits.head_fields,
            read_bufsize=PIECE,  # of a body, that nobody has asked for yet; twice as much, and what was read last
            keepalive_timeout=idle_seconds,
            lingering_time=limits.linger_seconds,
            shutdown_timeout=shutdown_timeout,
        )
        self._limits = limits

    async def _make_server(self) -> Server:
        return MeasuredServer(await super()._make_server(), self._limits)

"""Stands between the registry and the indexer and keeps what the indexer acknowledged.

Forwards each notification as it came. An event counts as acknowledged only once the indexer has answered 2xx.
"""

from __future__ import annotations

import json
from typing import Any, Self

import aiohttp
from aiohttp import web


class Recorder:
    """Forwards ``POST`` to ``target`` and remembers the ids of acknowledged events, by action."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.acknowledged: dict[str, str] = {}
        self.refused = 0
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_post("/notifications", self._forward)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/notifications"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type")
            if name in request.headers
        }
        assert self._session is not None
        try:
            async with self._session.post(self._target, data=body, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = 502
        if 200 <= status < 300:
            self._remember(json.loads(body))
        else:
            self.refused += 1
        return web.Response(status=status)

    def _remember(self, envelope: dict[str, Any]) -> None:
        for event in envelope.get("events") or []:
            self.acknowledged[event["id"]] = event["action"]

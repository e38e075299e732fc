"""Requests below ``/v2/`` → calls → responses, with challenges and errors like the registry's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

from indexer.api import registry_errors
from indexer.api.auth import Authenticator, pull_of
from indexer.api.barrier import Barrier
from indexer.api.long_bodies import sized
from indexer.api.oci.calls import OciAnswer, OciCall
from indexer.api.oci.paths import OciEndpoint, OciPath, read_path
from indexer.api.oci.referrers import list_referrers
from indexer.api.oci.tags import list_tag_names
from indexer.api.proxy import TrustedProxy
from indexer.api.registry_errors import Refusal
from indexer.api.request_metrics import ROUTE
from indexer.oci.reference import parse_repository_name
from indexer.store.reading import Readers
from indexer.store.write_notices import Scope

HANDED_OVER: Final = "X-Indexer-Handed-Over"
"""On a 503: the registry should answer this instead, and why."""

_READS = ("GET", "HEAD")
_ENDPOINTS: Mapping[OciEndpoint, Callable[[OciCall], Awaitable[OciAnswer]]] = {
    OciEndpoint.REFERRERS: list_referrers,
    OciEndpoint.TAGS: list_tag_names,
}


def add_oci(
    app: web.Application,
    *,
    readers: Readers,
    authenticator: Authenticator,
    proxy: TrustedProxy,
    barrier: Barrier | None,
) -> None:
    """Add everything below ``/v2/``."""
    handlers = _Handlers(readers, authenticator, proxy, barrier)
    app.router.add_route("*", "/v2/{rest:.*}", handlers.handle)


class _Handlers:
    """Handles every request below ``/v2/``."""

    def __init__(
        self,
        readers: Readers,
        authenticator: Authenticator,
        proxy: TrustedProxy,
        barrier: Barrier | None,
    ) -> None:
        self._readers = readers
        self._authenticator = authenticator
        self._proxy = proxy
        self._barrier = barrier

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request, an error included."""
        try:
            return await self._answer(request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the caller gets an error, the log its details
            refusal = registry_errors.refused(error, request, challenge=self._authenticator.challenge)
            return _json(refusal.status, refusal.body, **refusal.headers)

    async def _answer(self, request: web.Request) -> web.Response:
        named = read_path(request.path)
        if named is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "only the registry itself answers this", None)
        request[ROUTE] = named.endpoint.value
        if request.method not in _READS:
            body = registry_errors.body("UNSUPPORTED", "the operation is unsupported", None)
            return _json(HTTPStatus.METHOD_NOT_ALLOWED, body, Allow=", ".join(_READS))
        call = OciCall(
            repository=_repository(named),
            digest=named.digest,
            path=request.rel_url.raw_path,
            query=request.query,
            readers=self._readers,
        )
        vouched = await self._authorize(request, call.repository)
        endpoint = _ENDPOINTS[named.endpoint]
        if not vouched or self._barrier is None:
            answer = await endpoint(call)
        else:
            referrers = named.endpoint is OciEndpoint.REFERRERS
            scope = Scope(repository=call.repository, names=not referrers, referrers=referrers)
            found = await self._barrier.answer(scope, lambda: endpoint(call), patient=False)
            if found is None:
                body = registry_errors.body("UNAVAILABLE", "a write is under way", None)
                return _json(HTTPStatus.SERVICE_UNAVAILABLE, body, **{HANDED_OVER: "write under way"})
            answer = found
        return _response(HTTPStatus.OK, answer.body, answer.media_type, answer.headers)

    async def _authorize(self, request: web.Request, repository: str) -> bool:
        """Return whether the proxy vouches for the client; raise ``Unauthorized`` if the client may not ask."""
        if self._proxy.vouches(request):
            return True
        access = pull_of(repository)
        principal = await self._authenticator.authenticate(
            request.headers.getall("Authorization", []), access=(access,)
        )
        principal.require(access)
        return False


def _repository(named: OciPath) -> str:
    try:
        return parse_repository_name(named.repository)
    except ValueError:
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "NAME_INVALID",
            "invalid repository name",
            {"name": named.repository[:255]},
        ) from None


def _json(status: int, body: Any, **headers: str) -> web.Response:
    return _response(status, orjson.dumps(body), "application/json", headers)


def _response(status: int, body: bytes, media_type: str, headers: Mapping[str, str]) -> web.Response:
    always = {
        "Content-Type": media_type,
        "Cache-Control": "no-store",
        "Docker-Distribution-Api-Version": "registry/2.0",
    }
    return web.Response(status=status, body=sized(body), headers=always | dict(headers))

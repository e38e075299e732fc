"""Requests below ``/gitlab/`` → calls → responses: methods, slashes, grants, headers and errors as in the fork."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from indexer.api import registry_errors
from indexer.api.auth import Access, Authenticator, pull_of
from indexer.api.barrier import Barrier
from indexer.api.gitlab import refusals
from indexer.api.gitlab.calls import GitlabAnswer, GitlabCall
from indexer.api.gitlab.parameters import wants_referrers
from indexer.api.gitlab.paths import GitlabEndpoint, GitlabPath, read_path
from indexer.api.gitlab.repositories import get_repository, list_sub_repositories
from indexer.api.gitlab.statistics import VERSION, get_statistics, probe
from indexer.api.gitlab.tags import get_tag, list_tags
from indexer.api.long_bodies import sized
from indexer.api.request_metrics import ROUTE
from indexer.store.listing.interned import Interned
from indexer.store.reading import Readers
from indexer.store.write_notices import Scope

VERSION_HEADER = "Gitlab-Container-Registry-Version"
STATISTICS = Access("registry", "statistics", "*")
_READS = ("GET", "HEAD")
_ENDPOINTS: Mapping[GitlabEndpoint, Callable[[GitlabCall], Awaitable[GitlabAnswer]]] = {
    GitlabEndpoint.PROBE: probe,
    GitlabEndpoint.STATISTICS: get_statistics,
    GitlabEndpoint.REPOSITORY: get_repository,
    GitlabEndpoint.TAGS: list_tags,
    GitlabEndpoint.TAG: get_tag,
    GitlabEndpoint.SUB_REPOSITORIES: list_sub_repositories,
}


def add_gitlab(
    app: web.Application,
    *,
    readers: Readers,
    interned: Interned,
    authenticator: Authenticator,
    barrier: Barrier | None,
) -> None:
    """Add everything below ``/gitlab/``."""
    handlers = _Handlers(readers, interned, authenticator, barrier)
    app.router.add_route("*", "/gitlab/{rest:.*}", handlers.handle)


def access_of(named: GitlabPath, *, method: str, size: str | None) -> tuple[Access, ...]:
    """Return the access that a request requires (contract section 1.2). ``name/*`` is a name like any other."""
    pull = pull_of(named.repository)
    below = pull_of(f"{named.repository}/*")
    match named.endpoint:
        case GitlabEndpoint.PROBE:
            return ()
        case GitlabEndpoint.STATISTICS:
            return (STATISTICS,)
        case GitlabEndpoint.REPOSITORY if method == "PATCH":
            return pull, Access(pull.type, pull.name, "push"), below
        case GitlabEndpoint.REPOSITORY if size == "self_with_descendants":
            return pull, below
        case GitlabEndpoint.SUB_REPOSITORIES:
            return pull, below
        case _:
            return (pull,)


class _Handlers:
    """Handles every request below ``/gitlab/``."""

    def __init__(
        self,
        readers: Readers,
        interned: Interned,
        authenticator: Authenticator,
        barrier: Barrier | None,
    ) -> None:
        self._barrier = barrier
        self._readers = readers
        self._interned = interned
        self._authenticator = authenticator

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request, an error included; every response has the version."""
        try:
            response = await self._answer(request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the caller gets an error, the log its details
            refusal = registry_errors.refused(error, request, challenge=self._authenticator.challenge)
            response = _json(refusal.status, refusal.body, **refusal.headers)
        response.headers[VERSION_HEADER] = VERSION
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        named = read_path(request.path)
        if named is None:
            return _elsewhere(request)
        request[ROUTE] = named.endpoint.value
        allowed = (*_READS, "PATCH") if named.endpoint is GitlabEndpoint.REPOSITORY else _READS
        if request.method not in allowed:
            return _json(
                405,
                registry_errors.body("UNSUPPORTED", "the operation is unsupported", None),
                Allow=", ".join(allowed),
            )
        await self._authorize(request, named)
        if request.method == "PATCH":
            raise refusals.not_implemented()
        call = GitlabCall(
            repository=named.repository,
            tag=named.tag,
            query=request.query,
            readers=self._readers,
            interned=self._interned,
        )
        answer = await self._read(named, call, size=request.query.get("size"))
        if answer is None:
            body = registry_errors.body("UNAVAILABLE", "a write is under way", None)
            return _json(503, body, **{"Retry-After": str(registry_errors.RETRY_AFTER_SECONDS)})
        return _json(200, answer.body, **({"Link": answer.link} if answer.link else {}))

    async def _read(self, named: GitlabPath, call: GitlabCall, *, size: str | None) -> GitlabAnswer | None:
        """Answer once the inventory has every write that concerns the answer; None: not known in time."""
        endpoint = _ENDPOINTS[named.endpoint]
        if self._barrier is None or not named.repository:
            return await endpoint(call)
        below = named.endpoint is GitlabEndpoint.SUB_REPOSITORIES or size == "self_with_descendants"
        referrers = named.endpoint is GitlabEndpoint.TAGS and wants_referrers(call.query)
        scope = Scope(repository=named.repository, below=below, referrers=referrers)
        return await self._barrier.answer(scope, lambda: endpoint(call), patient=True)

    async def _authorize(self, request: web.Request, named: GitlabPath) -> None:
        access = access_of(named, method=request.method, size=request.query.get("size"))
        principal = await self._authenticator.authenticate(
            request.headers.getall("Authorization", []), access=access
        )
        principal.require(*access)


def _elsewhere(request: web.Request) -> web.Response:
    """Redirect a path without its last slash to the one with it; answer 404 to any other."""
    if request.path.endswith("/") or read_path(f"{request.path}/") is None:
        return _json(404, registry_errors.body("NOT_FOUND", "there is nothing at this path", None))
    address = f"{request.rel_url.raw_path}/"
    if request.rel_url.raw_query_string:
        address += f"?{request.rel_url.raw_query_string}"
    return web.Response(status=301, headers={"Location": address})


def _json(status: int, body: Any, **headers: str) -> web.Response:
    return web.Response(
        status=status,
        body=sized(orjson.dumps(body)),
        headers={"Content-Type": "application/json", "Cache-Control": "no-store", **headers},
    )

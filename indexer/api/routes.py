"""Adds the read APIs to a web application."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.typedefs import Handler

from indexer.api import health, responses
from indexer.api.access import access_of
from indexer.api.auth import (
    Authenticator,
    Challenge,
    NamedTokens,
    Principal,
    StaticTokens,
    Verifier,
    operator_of,
    reporter_of,
)
from indexer.api.barrier import Barrier
from indexer.api.bodies import read_body
from indexer.api.gitlab.handlers import add_gitlab
from indexer.api.job_watch import JobNotifier, JobWatch
from indexer.api.notices import add_notices
from indexer.api.oci.handlers import add_oci
from indexer.api.openapi import serve_document
from indexer.api.operations import ROOT, ApiCall, Client, Operation, chosen_fields, commands, operations
from indexer.api.pagination import CursorKeys, Cursors, question_of
from indexer.api.parameters import Query, parse_query
from indexer.api.paths import read_paths
from indexer.api.problems import CHALLENGE, not_found, problems_middleware
from indexer.api.proxy import TrustedProxy
from indexer.api.recent_entries import RecentEntries
from indexer.api.request_metrics import ROUTE, measuring_middleware
from indexer.api.responses import Shape
from indexer.api.session import PATH as SESSION
from indexer.api.session import Session
from indexer.api.settings import ApiSettings, EventAttributes
from indexer.api.stream_slots import StreamSlots
from indexer.api.tokens import SignedTokens
from indexer.audit.notifier import SealNotifier
from indexer.common.errors import CallerError
from indexer.oci.reference import RepositoryName
from indexer.store.listing.freshness import find_repository
from indexer.store.listing.interned import Interned
from indexer.store.pool import Pool
from indexer.store.reading import Readers

if TYPE_CHECKING:
    from indexer.api.realm import Realm

__all__ = ["ApiSettings", "add_api"]

_PRINCIPAL = web.RequestKey("principal", Principal)
_REPOSITORIES = f"{ROOT}/repositories/"


def add_api(
    app: web.Application,
    *,
    pool: Pool,
    settings: ApiSettings,
    sealed: SealNotifier | None = None,
    barrier: Barrier | None = None,
    job_notifier: JobNotifier | None = None,
) -> None:
    """Add every read API (``/api/v1``, ``/gitlab/v1``, two paths of ``/v2``), health, metrics and OpenAPI.

    Takes ``settings.connections`` of the pool from first use until the application shuts down, so the pool should be
    the API's own. ``sealed`` is woken when entries are sealed; without it streams poll.
    ``barrier``: lets questions wait for the writes of which the proxy gives notice; None: no notice is taken.
    ``job_notifier``: says which job has changed; without it those who watch jobs poll.
    """
    readers = Readers(
        pool, size=settings.connections, statement_timeout_seconds=settings.statement_timeout_seconds
    )
    authenticator = _authenticator(settings)
    app[CHALLENGE] = authenticator.challenge
    app.middlewares.extend([measuring_middleware, problems_middleware, _authentication(authenticator)])
    interned = Interned()
    notifier = sealed if sealed is not None else SealNotifier()
    recent = RecentEntries(readers, settings.events, notifier)
    streams = StreamSlots(notifier, slots=settings.streams, recent=recent)
    realm = _realm(settings)
    session = _session(settings, readers, authenticator, realm)
    app.router.add_get(SESSION, session.show)
    app.router.add_post(SESSION, session.sign_in)
    watch = JobWatch(readers, job_notifier if job_notifier is not None else JobNotifier())
    handlers = _Handlers(
        readers,
        interned,
        streams,
        settings.events,
        store=pool,
        watch=watch,
        acting_is_on=bool(settings.operator_tokens) or settings.trust is not None,
    )
    for path, operation in operations().items():
        if not path.startswith("/repositories/"):
            app.router.add_get(operation.path, handlers.handler(operation))
    app.router.add_get(_REPOSITORIES + "{rest:.+}", handlers.handle_repository)
    for (method, path), operation in commands().items():
        if not path.startswith("/repositories/"):
            app.router.add_route(method, operation.path, handlers.handler(operation))
    # Which methods there are is known only once the path is read.
    app.router.add_route("*", _REPOSITORIES + "{rest:.+}", handlers.handle_repository)
    app.router.add_get(f"{ROOT}/", handlers.handler(operations()[""]))
    proxy = TrustedProxy(settings.proxy_secret)
    if barrier is not None:
        tokens = None if settings.trust is None else SignedTokens(settings.trust)
        granting = (
            None
            if tokens is None
            else Authenticator([tokens], anonymous_read=False, challenge=authenticator.challenge)
        )
        add_notices(app, barrier=barrier, proxy=proxy, authenticator=granting)
    add_gitlab(app, readers=readers, interned=interned, authenticator=authenticator, barrier=barrier)
    add_oci(app, readers=readers, authenticator=authenticator, proxy=proxy, barrier=barrier)
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz(pool))
    app.router.add_get("/metrics", health.metrics)
    app.router.add_get("/openapi.json", serve_document)

    async def close(_app: web.Application) -> None:
        streams.close()
        await readers.close()
        if realm is not None:
            await realm.close()

    app.on_shutdown.append(close)


def _authenticator(settings: ApiSettings) -> Authenticator:
    verifiers: list[Verifier] = [
        StaticTokens(settings.api_tokens),
        NamedTokens(settings.operator_tokens, operator_of),
        NamedTokens(settings.in_use_tokens, reporter_of),
    ]
    if settings.trust is None:
        return Authenticator(verifiers, anonymous_read=settings.anonymous_read)
    return Authenticator(
        [*verifiers, SignedTokens(settings.trust)],
        anonymous_read=settings.anonymous_read,
        challenge=Challenge(realm=settings.trust.realm, service=settings.trust.service),
    )


def _realm(settings: ApiSettings) -> Realm | None:
    if settings.trust is None:
        return None
    from indexer.api.realm import Realm, realm_url  # noqa: PLC0415 - its HTTP client, where there is one to ask

    url = realm_url(settings.trust.realm)
    return None if url is None else Realm(url, settings.trust.service, ca_file=settings.sign_in_ca_file)


def _session(
    settings: ApiSettings, readers: Readers, authenticator: Authenticator, realm: Realm | None
) -> Session:
    return Session(
        readers=readers,
        authenticator=authenticator,
        settings=settings,
        realm=realm,
        tokens=None if settings.trust is None else SignedTokens(settings.trust),
    )


class _Handlers:
    """Turns requests into calls of operations."""

    def __init__(
        self,
        readers: Readers,
        interned: Interned,
        streams: StreamSlots,
        events: EventAttributes,
        *,
        store: Pool,
        watch: JobWatch,
        acting_is_on: bool,
    ) -> None:
        self._store = store
        self._watch = watch
        self._acting_is_on = acting_is_on
        self._streams = streams
        self._events = events
        self._readers = readers
        self._interned = interned
        self._memory: dict[str, Any] = {}
        self._keys = CursorKeys(readers)

    def handler(self, operation: Operation) -> Handler:
        """Return the handler of an operation whose path has no repository."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._call(request, operation, dict(request.match_info))

        return handle

    async def handle_repository(self, request: web.Request) -> web.StreamResponse:
        """Handle everything below ``/repositories/``.

        Of the repositories that a path may mean, the one with the shortest name that exists is taken.
        """
        rest = request.rel_url.raw_path.split("/", _REPOSITORIES.count("/"))[-1]
        (path, parameters), *longer = read_paths(rest)
        try:
            return await self._call(request, _operation(request, path), parameters)
        except CallerError:
            if not longer or await self._is_readable(request, parameters["repository"]):
                raise
            for path, parameters in longer:
                if await self._is_readable(request, parameters["repository"]):
                    return await self._call(request, _operation(request, path), parameters)
            raise

    async def _is_readable(self, request: web.Request, name: str) -> bool:
        if not request[_PRINCIPAL].may_read(name):
            return False
        async with self._readers.reading() as held:
            return await find_repository(held, name=RepositoryName(name)) is not None

    async def _call(
        self, request: web.Request, operation: Operation, path: dict[str, str]
    ) -> web.StreamResponse:
        request[ROUTE] = operation.path
        if any("\0" in value for value in path.values()):
            raise not_found("nothing has a name with a NUL in it")
        query = parse_query(operation.query, request.query)
        shape = Shape(item=operation.item, fields=chosen_fields(operation, query))
        principal = request[_PRINCIPAL]
        body = None if operation.body is None else await read_body(request, operation.body)
        question = cache(partial(_question, request, operation.query, path, principal))
        call = ApiCall(
            query=query,
            path=path,
            principal=principal,
            readers=self._readers,
            interned=self._interned,
            memory=self._memory,
            headers=request.headers,
            streams=self._streams,
            events=self._events,
            cursors=Cursors(
                key=await self._keys.get(),
                question=question,
            ),
            body=body,
            store=self._store,
            client=Client(
                address=request.remote or "", request=f"{request.method} {request.rel_url.raw_path}"
            ),
            watch=self._watch,
            acting_is_on=self._acting_is_on,
        )
        return await responses.respond(request, await operation.handle(call), shape)


def _operation(request: web.Request, path: str) -> Operation:
    """Return the operation of a path below a repository; raise a 405 where the path has no such method."""
    if request.method in ("GET", "HEAD"):
        return operations()[path]
    found = commands().get((request.method, path))
    if found is None:
        allowed = {"GET", "HEAD", *(method for method, other in commands() if other == path)}
        raise web.HTTPMethodNotAllowed(request.method, sorted(allowed))
    return found


def _question(
    request: web.Request, query: type[Query], path: Mapping[str, str], principal: Principal
) -> bytes:
    """Return what the cursors of a request are bound to; not the grants, where the list is of a single repository."""
    named = ((query.other_names.get(name, name), value) for name, value in request.query.items())
    given = (each for each in named if each[0] not in query.not_in_cursors)
    return question_of(given, path, None if path else principal.repositories)


def _authentication(authenticator: Authenticator) -> Any:
    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Authenticate before anything else: without a token not even the existence of a path shows."""
        if request.path.startswith("/api/") and request.path != SESSION:  # signing in needs no token
            request[_PRINCIPAL] = await authenticator.authenticate(
                request.headers.getall("Authorization", []),
                access=access_of(request.rel_url.raw_path),
                reports=request.method == "PUT" and request.path.startswith(f"{ROOT}/in-use/"),
            )
        return await handler(request)

    return authenticate

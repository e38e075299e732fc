"""``GET /gitlab/authorize``: the proxy gives notice of a write before it passes it to the registry.

The request carries what the client asked for (``X-Original-Method``, ``X-Original-URI``), its ``Authorization``, and
an id of the request (``X-Request-Id``), which the proxy also adds to the user agent that the registry sees. The
answer is 204 once the notice is stored: then the write may pass.

With ``?enforce=tags`` (``deny-tags.conf``) the write is judged, too: 401 and 403 are for the client, and with anything
else the proxy must not pass it.
"""

from __future__ import annotations

import hashlib
import time
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web

from indexer.api.auth import Access, Authenticator, Unauthorized
from indexer.api.barrier import Barrier
from indexer.api.judgement import (
    ACTIONS,
    Denied,
    Judge,
    Undecided,
    Write,
    is_redirected,
    no_write,
    passed,
    path_of,
    tags_in_query,
)
from indexer.api.proxy import TrustedProxy
from indexer.api.request_metrics import ROUTE
from indexer.common.errors import CallerError, StoreError
from indexer.inventory.write_notices import WRITE_ID
from indexer.oci.digest import parse_digest
from indexer.oci.reference import RepositoryName, parse_repository_name, parse_tag_name
from indexer.store import write_notices
from indexer.store.pool import connection

PATH: Final = "/gitlab/authorize"
OVERFLOW_SECONDS: Final = 10.0
"""For so long further writes of an address with too many open ones are not noted one by one: it is noted that there are
more, and that lasts as long as a write can (``write_notices.put_overflow``)."""
MOST_OVERFLOWING: Final = 10_000

log = structlog.get_logger()


def add_notices(
    app: web.Application, *, barrier: Barrier, proxy: TrustedProxy, authenticator: Authenticator | None
) -> None:
    """Take notices. ``authenticator``: knows the registry's own tokens; None: nobody here does."""
    handler = _Notices(barrier, proxy, authenticator)
    app.router.add_get(PATH, handler.handle)


def read_write(uri: str) -> tuple[RepositoryName, str] | None:
    """Return the repository and the tag or digest that the registry would write; None: it would write none.

    As Distribution reads paths: unescaped once, from the right. A path that is not clean is redirected, and writes
    nothing. A proxy may pass on a whole address.
    """
    parts = path_of(uri).split("/")
    match parts:
        case ["", "v2", *name, "manifests", reference] if name:
            try:
                repository = parse_repository_name("/".join(name))
                return repository, parse_digest(reference) if ":" in reference else parse_tag_name(reference)
            except ValueError:
                return None
        case _:
            return None


class _Notices:
    def __init__(self, barrier: Barrier, proxy: TrustedProxy, authenticator: Authenticator | None) -> None:
        self._barrier = barrier
        self._proxy = proxy
        self._authenticator = authenticator
        self._overflowing: dict[tuple[str, bytes], float] = {}
        self._judge = Judge(barrier, authenticator)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 204 once noted, or where there is nothing to note; 401 to others, 503 if it cannot be noted."""
        request[ROUTE] = PATH
        enforce = request.query.get("enforce") == "tags"
        if not self._proxy.vouches(request):
            # The client did nothing wrong: a proxy that enforces answers 503 to a status that it does not know.
            wrong = HTTPStatus.PROXY_AUTHENTICATION_REQUIRED if enforce else HTTPStatus.UNAUTHORIZED
            return web.Response(status=wrong)
        method, uri, number = (
            request.headers.get(name, "") for name in ("X-Original-Method", "X-Original-URI", "X-Request-Id")
        )
        if method not in ACTIONS:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        if enforce:
            return await self._enforced(request, method, uri, number)
        return await self._noted(request, method, uri, number)

    async def _noted(self, request: web.Request, method: str, uri: str, number: str) -> web.Response:
        written = read_write(uri)
        if written is None:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        if not WRITE_ID.match(number):
            self._barrier.missed()
            return web.Response(status=HTTPStatus.BAD_REQUEST, text="X-Request-Id names no request\n")
        repository, reference = written
        if not await self._may(request, Access("repository", repository, ACTIONS[method])):
            return web.Response(status=HTTPStatus.NO_CONTENT)
        noted = await self._note(number, repository, reference, method=method, address=_address(request))
        return web.Response(status=HTTPStatus.NO_CONTENT if noted else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _note(
        self, number: str, repository: RepositoryName, reference: str, *, method: str, address: bytes
    ) -> bool:
        """Note a write; return False if that is not possible."""
        if time.monotonic() < self._overflowing.get((repository, address), 0.0):
            return True
        try:
            async with connection(self._barrier.pool) as held:
                by_itself = await write_notices.put_notice(
                    held,
                    number=number,
                    repository=repository,
                    reference=reference,
                    method=method,
                    address=address,
                )
        except StoreError as error:
            self._barrier.missed()
            log.warning("write_not_noticed", repository=repository, error=str(error))
            return False
        if not by_itself:
            self._note_overflow(repository, address)
        return True

    def _note_overflow(self, repository: str, address: bytes) -> None:
        now = time.monotonic()
        if len(self._overflowing) >= MOST_OVERFLOWING:
            self._overflowing = {key: until for key, until in self._overflowing.items() if until > now}
        if len(self._overflowing) < MOST_OVERFLOWING:
            self._overflowing[(repository, address)] = now + OVERFLOW_SECONDS

    async def _enforced(self, request: web.Request, method: str, uri: str, number: str) -> web.Response:
        """Judge a write: 204 if it may pass, 401 or 403 for the client, 503 if it is not certain."""
        written = read_write(uri)
        write = None
        if written is not None:
            write = Write(
                number=number,
                method=method,
                repository=written[0],
                reference=written[1],
                more=tags_in_query(uri),
                address=_address(request),
            )
        try:
            return await self._judged(request, uri, write)
        except (CallerError, StoreError, Denied, Undecided) as error:
            return self._judge.respond(error, write)

    async def _judged(self, request: web.Request, uri: str, write: Write | None) -> web.Response:
        authorization = request.headers.getall("Authorization", [])
        if not authorization:
            # The registry wants a token, or has none that could except tags.
            if write is not None and self._authenticator is None:
                await self._judge.note(write)
            return passed()
        principal = await self._judge.authenticate(
            authorization, access=() if write is None else write.access
        )
        if write is None:
            return (
                passed()
                if is_redirected(uri)
                else no_write("the path names no tag or digest that can be judged")
            )
        if write.method == "DELETE" and request.headers.get("X-Original-Length", "") not in ("", "0"):
            return no_write("a deletion has no content: it could be kept back after it was judged")
        await self._judge.decide(write, principal)
        return passed()

    async def _may(self, request: web.Request, access: Access) -> bool:
        """Return whether the registry may let this pass: who has no right to it writes nothing, and holds nobody up."""
        if self._authenticator is None:
            return True
        try:
            principal = await self._authenticator.authenticate(
                request.headers.getall("Authorization", []), access=(access,)
            )
        except Unauthorized:
            return False
        return principal.may(access)


def _address(request: web.Request) -> bytes:
    """Return a hash of the client's address, as the proxy says it; of none, where it does not say."""
    return hashlib.sha256(request.headers.get("X-Real-IP", "").encode("utf-8", "surrogateescape")).digest()[
        :8
    ]

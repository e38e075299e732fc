"""Sends one request to the registry: connection, deadline, authentication and retries.

Every request has a deadline and a limit on the bytes it reads. Redirects are not followed with credentials: those would
go to an address that somebody else chose (``fetch_redirected`` follows a redirect to storage without them). The client
shares one pool of ``concurrency`` connections; the wait for a free one does not count against the deadline, since it is
not the registry's fault.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from indexer import __version__
from indexer.common.errors import (
    ConfigurationError,
    RegistryDenied,
    RegistryMisbehaved,
    RegistryUnavailable,
    TokenServerMisbehaved,
    TokenServerUnavailable,
)
from indexer.common.retry_after import parse_http_date
from indexer.inventory.own_requests import NONCE_BYTES, signed
from indexer.oci.user_agent import user_agent
from reconciler.registry.auth import Authenticator, Credentials, TokenServer
from reconciler.registry.challenges import parse_challenges
from reconciler.registry.exchange import SMALL_LIMIT_BYTES, RegistryResponse, Request
from reconciler.registry.failures import failure_of, translating, without_query
from reconciler.registry.pacing import Pace
from reconciler.registry.redirects import GuardedResolver
from reconciler.registry.retrying import Retrier, RetryPolicy

_OK: Final = 200
_MULTIPLE_CHOICES: Final = 300
_BAD_REQUEST: Final = 400
_FETCHES: Final = frozenset({"GET", "HEAD"})
_UNAUTHORIZED: Final = 401
_TOKEN_LIMIT: Final = 4 * 1024 * 1024
"""A token with 12,000 scopes is 1 MB, and 3.1.1 takes it (measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """How to reach the registry. Seconds and bytes."""

    base_url: str
    """``http(s)://host[:port][/prefix]``, without ``/v2`` and without credentials."""
    credentials: Credentials | None = None
    token_server: TokenServer = TokenServer()  # noqa: RUF009 - frozen
    """The configured token server; see ``auth``."""
    ca_file: Path | None = None
    """PEM certificates trusted beside the system's."""
    concurrency: int = 32
    """Requests under way at once; more than 64 brought nothing on 2.8.2 and 3.1.1 (measured)."""
    timeout_seconds: float = 30.0
    """Deadline of one send of an ordinary request, until its answer is read."""
    listing_timeout_seconds: float = 300.0
    """Deadline of one page of a listing: on S3 the registry answers only after it has read its whole storage."""
    redirect_hosts: tuple[str, ...] = ()
    """Hosts that the registry may redirect to for blobs, at any address; see ``redirects``."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    own_key: bytes | None = field(default=None, repr=False)
    """The key that signs our requests, so that the ingest recognises their events (``inventory/own_requests``)."""
    on_manifest: Callable[[datetime], None] = field(default=lambda _at: None, repr=False)
    """Called when the registry served a manifest: it sends an event of that if it announces pulls."""
    is_cache: bool | None = None
    """Whether the registry is a pull-through cache; None: find out."""


class Transport:
    """The connection to one registry; an async context manager."""

    def __init__(
        self, settings: TransportSettings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        _check_base_url(settings.base_url)
        self._settings = settings
        self._base = settings.base_url.rstrip("/")
        self._clock = clock
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._retrier = Retrier(settings.retry, sleep=asyncio.sleep)
        self._ssl = _ssl_context(settings.ca_file)
        self._authenticator = Authenticator(
            settings.credentials,
            base_url=settings.base_url,
            fetch_token=self._fetch_token,
            configured=settings.token_server,
        )
        self._guard = GuardedResolver(
            urlsplit(settings.base_url).hostname or "", allowed=settings.redirect_hosts
        )
        self._session: aiohttp.ClientSession | None = None
        self._once: aiohttp.ClientSession | None = None
        self._elsewhere: aiohttp.ClientSession | None = None
        self._pace: Pace | None = None
        self._ahead = timedelta(0)

    @property
    def settings(self) -> TransportSettings:
        """The settings this transport was made with."""
        return self._settings

    async def __aenter__(self) -> Self:
        # The semaphore bounds concurrency; a second bound here would let waiting eat the deadline.
        self._session = self._open(aiohttp.TCPConnector(limit=0, ssl=self._ssl))
        # A connection of its own for each request that must not be repeated: aiohttp repeats one that a kept connection
        # lost, whatever it was.
        self._once = self._open(aiohttp.TCPConnector(limit=0, ssl=self._ssl, force_close=True))
        self._once._retry_connection = False  # noqa: SLF001 - there is no public switch
        self._elsewhere = self._open(aiohttp.TCPConnector(limit=0, ssl=self._ssl, resolver=self._guard))
        return self

    def _open(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.timeout_seconds),
            # Digests are over the bytes as stored, so a proxy must not compress them.
            headers={"User-Agent": user_agent(__version__), "Accept-Encoding": "identity"},
        )

    async def __aexit__(self, *_: object) -> None:
        for session in (self._session, self._once, self._elsewhere):
            if session is not None:
                await session.close()
        self._session = self._once = self._elsewhere = None

    def paced(self, pace: Pace) -> Transport:
        """Return this transport for requests that keep a pace; everything else is shared. It must be entered.

        Every send counts, also repeats and answers to a challenge; requests to the token server do not.
        """
        slower = copy.copy(self)
        slower._pace = pace  # noqa: SLF001 - a copy of ourselves
        return slower

    async def send(self, request: Request) -> RegistryResponse:
        """Send, authenticate and repeat as allowed; return an expected status or raise a registry error."""
        return await self._retrier.run(partial(self._attempt, request), repeatable=request.repeatable)

    async def fetch_redirected(
        self,
        answer: RegistryResponse,
        *,
        limit: int,
        hops: int = 5,
        headers: Mapping[str, str] | None = None,
        expect: frozenset[int] = frozenset({_OK}),
    ) -> RegistryResponse:
        """Follow a redirect to storage, without our credentials; return an expected status or raise.

        ``redirects`` limits where it may lead. Messages quote nothing of another server's answer.
        """
        url = URL(self._base + answer.request_line.partition(" ")[2], encoded=True)
        while _MULTIPLE_CHOICES <= answer.status < _BAD_REQUEST and hops > 0:
            hops -= 1
            url = _join(url, answer.headers.get("Location", ""), request_line=answer.request_line)
            answer = await self._retrier.run(
                partial(self._fetch, url, limit=limit, headers=headers or {}, expect=expect)
            )
        if answer.status not in expect:
            raise RegistryMisbehaved(f"{answer.request_line}: too many redirects")
        return answer

    async def _fetch(
        self, url: URL, *, limit: int, headers: Mapping[str, str], expect: frozenset[int]
    ) -> RegistryResponse:
        await self._guard.check(url.host or "")
        answer = await self._exchange(
            "GET",
            url,
            headers,
            limit=limit,
            timeout_seconds=self._settings.timeout_seconds,
            request_line=f"GET {url.host}",
            session=self._elsewhere,
        )
        if answer.status not in expect | {301, 302, 303, 307, 308}:
            raise failure_of(answer, now=self._clock(), is_registry=False)
        return answer

    async def _attempt(self, request: Request) -> RegistryResponse:
        authorization = await self._authenticator.header_for(request.scope)
        answer = await self._ask(request, authorization)
        if answer.status == _UNAUTHORIZED:
            challenges = parse_challenges(answer.headers.getall("WWW-Authenticate", []))
            authorization = await self._authenticator.answer(challenges, request.scope, refused=authorization)
            answer = await self._ask(request, authorization)
        if answer.status not in request.expect:
            raise failure_of(answer, now=self._clock())
        return answer

    async def _ask(self, request: Request, authorization: str | None) -> RegistryResponse:
        query = f"?{urlencode(request.query)}" if request.query else ""
        headers = dict(request.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        if self._settings.own_key is not None:
            headers["User-Agent"] = self._own_user_agent(self._settings.own_key, request)
        answer = await self._exchange(
            request.method,
            URL(f"{self._base}{request.path}{query}", encoded=True),
            headers,
            body=request.body,
            limit=request.limit,
            timeout_seconds=request.timeout_seconds or self._settings.timeout_seconds,
            request_line=f"{request.method} {request.path}",
            session=self._session if request.repeatable else self._once,
            before=request.before,
        )
        if answer.registry_clock is not None:
            self._ahead = answer.registry_clock - answer.observed_at
        if answer.status == _OK and request.method in _FETCHES and "/manifests/" in request.path:
            self._settings.on_manifest(answer.observed_at)
        return answer

    def _own_user_agent(self, key: bytes, request: Request) -> str:
        """Return the User-Agent that proves this send ours; token servers and storage get our name only."""
        value = signed(
            key,
            at=self._clock() + self._ahead,
            nonce=request.nonce or secrets.token_bytes(NONCE_BYTES),
            method=request.method,
            path=request.path,
        )
        return f"{user_agent(__version__)} {value}"

    async def _fetch_token(
        self, realm: str, *, query: Sequence[tuple[str, str]], authorization: str | None
    ) -> bytes:
        try:
            url = URL(realm).extend_query(query)
        except ValueError as error:
            raise TokenServerMisbehaved(f"the token server's address is not one: {realm[:200]!r}") from error
        try:
            return await self._ask_token_server(url, authorization)
        except RegistryUnavailable as error:
            raise TokenServerUnavailable(
                str(error), retry_after_seconds=error.retry_after_seconds, status=error.status
            ) from error
        except RegistryMisbehaved as error:
            raise TokenServerMisbehaved(str(error)) from error

    async def _ask_token_server(self, url: URL, authorization: str | None) -> bytes:
        answer = await self._exchange(
            "GET",
            url,
            {"Authorization": authorization} if authorization else {},
            limit=_TOKEN_LIMIT,
            timeout_seconds=self._settings.timeout_seconds,
            request_line=f"GET {url.host}{url.path} (token server)",
        )
        if answer.status == _BAD_REQUEST:
            raise RegistryDenied(
                f"{answer.request_line}: 400, the token server refuses the registry's service or scope"
            )
        if answer.status != _OK:
            raise failure_of(answer, now=self._clock(), is_registry=False)
        return answer.content

    async def _exchange(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        limit: int,
        timeout_seconds: float,
        request_line: str,
        body: bytes | None = None,
        session: aiohttp.ClientSession | None = None,
        before: Callable[[], None] | None = None,
    ) -> RegistryResponse:
        """Send once and read the whole answer within the deadline."""
        session = session or self._session
        if session is None:
            raise RuntimeError("the registry client is used outside its async with block")
        if self._pace is not None:
            # Before a slot is taken: requests without a pace must not wait for those with one.
            await self._pace.wait()
        async with self._slots, translating(request_line, timeout_seconds), asyncio.timeout(timeout_seconds):
            if before is not None:
                before()
            observed_at = self._clock()
            async with session.request(
                method, url, headers=headers, data=body, allow_redirects=False
            ) as response:
                return RegistryResponse(
                    observed_at=observed_at,
                    registry_clock=parse_http_date(response.headers.get("Date")),
                    status=response.status,
                    headers=response.headers,
                    content=await _read(response, limit, request_line),
                    request_line=request_line,
                )


async def _read(response: aiohttp.ClientResponse, limit: int, request_line: str) -> bytes:
    """Read the body: an error's is cut, an answer's raises beyond ``limit`` bytes."""
    is_error = response.status >= _MULTIPLE_CHOICES
    if is_error:
        limit = SMALL_LIMIT_BYTES
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            response.close()
            if is_error:
                return bytes(content[:limit])
            raise RegistryMisbehaved(f"{request_line}: more than {limit} bytes")
    return bytes(content)


def _check_base_url(base_url: str) -> None:
    """Raise ``ConfigurationError`` if this is no usable base URL."""
    try:
        parts = urlsplit(base_url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"not a registry address: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"not a registry address: {base_url!r}; expected http(s)://host[:port]")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "the registry address contains credentials; set RECONCILER_REGISTRY_USERNAME and _PASSWORD instead"
        )
    if parts.query or parts.fragment or parts.path.rstrip("/").endswith("/v2"):
        raise ConfigurationError(f"not a registry address: {base_url!r}; leave out /v2, query and fragment")


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(f"cannot read the CA file {ca_file}: {error}") from error
    return context


def _join(base: URL, location: str, *, request_line: str) -> URL:
    """Resolve a Location without re-encoding it: a presigned URL is valid only byte for byte."""
    try:
        url = base.join(URL(location, encoded=True))
    except ValueError as error:
        raise RegistryMisbehaved(
            f"{request_line}: redirects to {without_query(location)!r}, which is no address"
        ) from error
    if not location or url.scheme not in {"http", "https"}:
        raise RegistryMisbehaved(
            f"{request_line}: redirects to {without_query(location)!r}, which is no address"
        )
    return url

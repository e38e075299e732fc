"""One request to the registry: connection, deadline, authentication, retries, and what a failure means.

Every request has a deadline and a limit on the bytes it reads. Redirects are not followed with credentials: those would
go to an address that somebody else chose (``fetch_redirected`` follows a redirect to storage without them). The client
shares one pool of ``concurrency`` connections; the wait for a free one does not count against the deadline, since it is
not the registry's fault.
"""

from __future__ import annotations

import asyncio
import copy
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
from multidict import CIMultiDictProxy
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
from indexer.common.retry_after import parse_http_date, parse_retry_after
from indexer.inventory.own_requests import NONCE_BYTES, signed
from indexer.oci.user_agent import user_agent
from reconciler.registry.answers import Dated
from reconciler.registry.auth import Authenticator, Credentials, TokenServer
from reconciler.registry.challenges import parse_challenges
from reconciler.registry.error_body import error_codes, error_messages
from reconciler.registry.pacing import Pace
from reconciler.registry.redirects import GuardedResolver
from reconciler.registry.retrying import Retrier, RetryPolicy

_OK: Final = 200
_MULTIPLE_CHOICES: Final = 300
_BAD_REQUEST: Final = 400
_FETCHES: Final = frozenset({"GET", "HEAD"})
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_SERVER_ERROR: Final = 500
_TRY_AGAIN: Final = frozenset({408, 425, 429})
SMALL_LIMIT_BYTES: Final = 64 * 1024
"""For answers whose body is not read, and for errors."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request.

    ``path`` begins with ``/v2/``. ``scope``: of the token, see ``auth``. ``expect``: the statuses that the caller
    handles. ``limit``: bytes of the answer.
    """

    method: str
    path: str
    scope: str
    expect: frozenset[int]
    limit: int
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_seconds: float | None = None
    repeatable: bool = True
    """False for a request that must not be repeated unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryResponse(Dated):
    """An answer with a status that the caller handles, its headers and whole body."""

    status: int
    headers: CIMultiDictProxy[str]
    content: bytes
    request_line: str
    """``METHOD path``, for messages."""

    def error_codes(self) -> tuple[str, ...] | None:
        """Return the codes of the registry's error body; None: it is not the registry's."""
        return error_codes(self.content)

    def error_messages(self) -> tuple[str, ...]:
        """Return the messages and details of the registry's error body."""
        return error_messages(self.content)


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
        for session in (self._session, self._elsewhere):
            if session is not None:
                await session.close()
        self._session = self._elsewhere = None

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
        self, answer: RegistryResponse, *, limit: int, hops: int = 5
    ) -> RegistryResponse:
        """Follow a redirect to storage, without our credentials; return the 200 or raise.

        ``redirects`` limits where it may lead. Messages quote nothing of another server's answer.
        """
        url = URL(self._base + answer.request_line.partition(" ")[2], encoded=True)
        while _MULTIPLE_CHOICES <= answer.status < _BAD_REQUEST and hops > 0:
            hops -= 1
            url = _join(url, answer.headers.get("Location", ""), request_line=answer.request_line)
            answer = await self._retrier.run(partial(self._fetch, url, limit=limit))
        if answer.status != _OK:
            raise RegistryMisbehaved(f"{answer.request_line}: too many redirects")
        return answer

    async def _fetch(self, url: URL, *, limit: int) -> RegistryResponse:
        await self._guard.check(url.host or "")
        answer = await self._exchange(
            "GET",
            url,
            {},
            limit=limit,
            timeout_seconds=self._settings.timeout_seconds,
            request_line=f"GET {url.host}",
            session=self._elsewhere,
        )
        if answer.status not in {_OK, 301, 302, 303, 307, 308}:
            raise self._failure(answer, is_registry=False)
        return answer

    async def _attempt(self, request: Request) -> RegistryResponse:
        authorization = await self._authenticator.header_for(request.scope)
        answer = await self._ask(request, authorization)
        if answer.status == _UNAUTHORIZED:
            challenges = parse_challenges(answer.headers.getall("WWW-Authenticate", []))
            authorization = await self._authenticator.answer(challenges, request.scope, refused=authorization)
            answer = await self._ask(request, authorization)
        if answer.status not in request.expect:
            raise self._failure(answer)
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
            nonce=secrets.token_bytes(NONCE_BYTES),
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
            raise self._failure(answer, is_registry=False)
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
    ) -> RegistryResponse:
        """Send once and read the whole answer within the deadline."""
        session = session or self._session
        if session is None:
            raise RuntimeError("the registry client is used outside its async with block")
        if self._pace is not None:
            await (
                self._pace.wait()
            )  # before a slot is taken: requests without a pace must not wait for those with one
        async with self._slots, _translating(request_line, timeout_seconds), asyncio.timeout(timeout_seconds):
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

    def _failure(
        self, answer: RegistryResponse, *, is_registry: bool = True
    ) -> RegistryDenied | RegistryMisbehaved | RegistryUnavailable:
        """Return the error for an unexpected status; it quotes the body only if the registry sent it."""
        message = f"{answer.request_line}: {answer.status}{_quote(answer) if is_registry else ''}"
        if answer.status in {_UNAUTHORIZED, _FORBIDDEN}:
            return RegistryDenied(
                f"{message}; check the user name, password and permissions of the reconciler"
            )
        if answer.status in _TRY_AGAIN or answer.status >= _SERVER_ERROR:
            seconds = parse_retry_after(answer.headers.get("Retry-After"), now=self._clock())
            return RegistryUnavailable(message, retry_after_seconds=seconds, status=answer.status)
        if _MULTIPLE_CHOICES <= answer.status < _BAD_REQUEST:
            location = _without_query(answer.headers.get("Location", "nowhere"))
            return RegistryMisbehaved(
                f"{message}: redirects to {location!r}; set RECONCILER_REGISTRY_URL to the registry's own address"
            )
        return RegistryMisbehaved(message)


@asynccontextmanager
async def _translating(request_line: str, timeout_seconds: float) -> AsyncIterator[None]:
    """Translate errors of aiohttp into ours, once, keeping the cause."""
    try:
        yield
    except TimeoutError as error:
        raise RegistryUnavailable(f"{request_line}: no whole answer within {timeout_seconds:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        why = error.certificate_error
        message = f"{request_line}: the certificate is not trusted ({why}); set RECONCILER_REGISTRY_CA_FILE"
        raise RegistryMisbehaved(message) from error
    except (aiohttp.ClientSSLError, aiohttp.ClientResponseError) as error:
        raise RegistryMisbehaved(
            f"{request_line}: not the expected protocol ({_first_line(error)})"
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise RegistryUnavailable(f"{request_line}: {_unconnected(error)}") from error
    except aiohttp.ClientError as error:
        raise RegistryUnavailable(f"{request_line}: {_first_line(error)}") from error
    except OSError as error:
        raise RegistryUnavailable(f"{request_line}: {_first_line(error)}") from error


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
        raise ConfigurationError("the registry address holds credentials; set user name and password apart")
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
            f"{request_line}: redirects to {_without_query(location)!r}, which is no address"
        ) from error
    if not location or url.scheme not in {"http", "https"}:
        raise RegistryMisbehaved(
            f"{request_line}: redirects to {_without_query(location)!r}, which is no address"
        )
    return url


def _without_query(location: str) -> str:
    """Return a location as it may be shown: the query of a presigned URL permits reading the blob."""
    return location.partition("?")[0][:200]


def _quote(answer: RegistryResponse) -> str:
    """Return the registry's error codes, else the beginning of the body, with a blank before it."""
    codes = answer.error_codes()
    if codes is not None:
        return f" {', '.join(codes)[:200]}"
    text = answer.content[:80].decode("utf-8", "replace").strip()
    return f" {text!r}" if text else ""


def _unconnected(error: aiohttp.ClientConnectorError) -> str:
    """Return where no connection was possible and why; aiohttp's own message names a TLS setting even for HTTP."""
    host = f"[{error.host}]" if ":" in error.host else error.host
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot connect to {host}:{error.port} (the name cannot be resolved)"
    why = error.os_error.strerror or ""
    # asyncio's message is "Connect call failed (address)"; only the number of the error says why.
    if error.os_error.errno and (not why or why.startswith("Connect call failed")):
        why = os.strerror(error.os_error.errno)
    return f"cannot connect to {host}:{error.port} ({why or type(error.os_error).__name__})"


def _first_line(error: BaseException) -> str:
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return (text or type(error).__name__).splitlines()[0][:200]

"""Answers the registry's challenges: Basic, or Bearer with a token server.

The first request has no credentials; the kind of challenge that it gets is kept for later requests. Distribution's
token protocol (distribution docs, "Token Authentication Specification"): the challenge names ``realm``, ``service`` and
``scope``; ``GET realm?service=…&scope=…`` with our Basic credentials returns a token for that scope, until it expires.

A challenge decides little (docs/adr/0047):

- The scope is the one that our request needs, whatever the challenge names.
- The realm is the configured one. If none is configured, a realm on the registry's own host is accepted; one on another
  host only if nobody in between can have written it: HTTPS, or the loopback interface. It must not be plain HTTP if the
  registry is HTTPS, since the password would be sent unencrypted. Without a password any realm is accepted.
- Realm and service must not change after the first challenge, as long as the process lives.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import encode_basic_auth

from indexer.common.errors import RegistryDenied, TokenServerMisbehaved
from indexer.oci.reference import RepositoryName
from reconciler.registry.challenges import Challenge
from reconciler.registry.redirects import Reach, parse_host, reach_of

log = structlog.get_logger()

CATALOG_SCOPE: Final = "registry:catalog:*"

_DEFAULT_LIFETIME_SECONDS: Final = 60.0
"""The lifetime of a token without ``expires_in``, by the token specification."""
_EARLY_SECONDS: Final = 10.0
"""A token is renewed this long before it expires, so that it does not expire on the way."""
_MAX_CACHED: Final = 4096
"""Tokens kept, one per repository; at 1-2 kB each a few megabytes."""


def repository_scope(repository: RepositoryName, *actions: str) -> str:
    """Return the scope of ``actions`` (``pull``, ``push``, ``delete``) on ``repository``."""
    return f"repository:{repository}:{','.join(actions)}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and password; the password is kept out of every message and representation."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of a Basic ``Authorization`` header (RFC 7617, UTF-8)."""
        return encode_basic_auth(self.username, self.password, encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenServer:
    """The configured token server: the realm's URL, and the service of tokens; None: the registry decides."""

    realm: str | None = None
    service: str | None = None


class FetchToken(Protocol):
    """Sends GET ``realm`` with the query and header to a token server, and returns the body of its 200."""

    def __call__(
        self, realm: str, *, query: Sequence[tuple[str, str]], authorization: str | None
    ) -> Awaitable[bytes]:
        """Raise the registry errors if the token server does not answer or refuses."""
        ...


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    expires: float


@dataclass(frozen=True, slots=True)
class _Bearer:
    realm: str
    service: str


class Authenticator:
    """Keeps the registry's kind of challenge, and its tokens, one per scope."""

    def __init__(
        self,
        credentials: Credentials | None,
        *,
        base_url: str,
        fetch_token: FetchToken,
        configured: TokenServer | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._registry = urlsplit(base_url)
        self._configured = configured or TokenServer()
        self._fetch_token = fetch_token
        self._monotonic = monotonic
        self._pinned: _Bearer | None = None
        self._required: _Bearer | str | None = None
        self._tokens: OrderedDict[str, _Token] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def header_for(self, scope: str) -> str | None:
        """Return the ``Authorization`` header to try first; None before the first challenge."""
        if isinstance(self._required, _Bearer):
            return await self._token(self._required, scope)
        return self._required

    async def answer(self, challenges: Sequence[Challenge], scope: str, *, refused: str | None) -> str:
        """Return the header that answers a 401; ``refused`` is the header that got it.

        Raises ``RegistryDenied`` if there is none. A refused token is dropped, whatever the reason, so an expired one
        is renewed.
        """
        bearer = next((each for each in challenges if each.scheme == "bearer"), None)
        if bearer is not None:
            self._required = required = self._pin(self._read_bearer(bearer))
            self._forget(scope, refused)
            return await self._token(required, scope)
        if any(each.scheme == "basic" for each in challenges):
            return self._answer_basic(refused)
        offered = ", ".join(each.scheme for each in challenges) or "nothing"
        raise RegistryDenied(
            f"the registry answered 401 and offers {offered}; only Basic and Bearer are supported"
        )

    def _answer_basic(self, refused: str | None) -> str:
        if self._credentials is None:
            raise RegistryDenied(
                "the registry requires a user name and password, and none are configured: set "
                "RECONCILER_REGISTRY_USERNAME and RECONCILER_REGISTRY_PASSWORD"
            )
        self._required = header = self._credentials.basic
        if refused == header:
            raise RegistryDenied(f"the registry refused the password of {self._credentials.username!r}")
        return header

    def _read_bearer(self, challenge: Challenge) -> _Bearer:
        realm = challenge.parameters.get("realm", "")
        try:
            parts = urlsplit(realm)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise TokenServerMisbehaved(
                f"the registry's challenge names no token server: realm={realm[:200]!r}"
            )
        if self._credentials and (self._registry.scheme, parts.scheme) == ("https", "http"):
            raise TokenServerMisbehaved(
                f"the registry uses HTTPS, its token server does not ({realm[:200]!r}); no password is sent there"
            )
        if self._credentials and self._configured.realm is None and not self._may_name(parts.hostname):
            raise TokenServerMisbehaved(
                f"the registry, over plain HTTP, names a token server on another host ({realm[:200]!r}); the password "
                f"is sent there only if you set RECONCILER_REGISTRY_TOKEN_REALM={realm[:200]}"
            )
        return _Bearer(realm, challenge.parameters.get("service", ""))

    def _may_name(self, host: str | None) -> bool:
        """Return whether a token server on this host is accepted: the registry's own host, or nobody in between."""
        own = self._registry.hostname or ""
        address = parse_host(own)
        is_local = own == "localhost" or (address is not None and reach_of(address) is Reach.LOOPBACK)
        return self._registry.scheme == "https" or is_local or host == own

    def _pin(self, named: _Bearer) -> _Bearer:
        """Return realm and service; raise if they differ from the configured ones, or from the first challenge's."""
        expected = self._pinned or _Bearer(
            self._configured.realm or named.realm,
            named.service if self._configured.service is None else self._configured.service,
        )
        if named != expected:
            how = "as before" if self._pinned is not None else "as configured"
            raise TokenServerMisbehaved(
                f"the registry names the token server {named.realm[:200]!r} and service {named.service[:200]!r}, not "
                f"{expected.realm[:200]!r} and {expected.service[:200]!r} {how}; no token is requested. If they are "
                "right, set RECONCILER_REGISTRY_TOKEN_REALM and RECONCILER_REGISTRY_TOKEN_SERVICE to them, and restart"
            )
        if self._pinned is None:
            self._pinned = expected
            log.info(
                "token_server_named",
                realm=expected.realm,
                service=expected.service,
                configured=self._configured.realm is not None,
            )
        return expected

    def _forget(self, scope: str, refused: str | None) -> None:
        """Drop the cached token if it is the refused one; another task may have renewed it meanwhile."""
        cached = self._tokens.get(scope)
        if cached is not None and cached.header == refused:
            del self._tokens[scope]

    async def _token(self, bearer: _Bearer, scope: str) -> str:
        """Return a cached token or fetch one; tasks that need the same token share one fetch."""
        if (cached := self._cached(scope)) is not None:
            return cached
        lock = self._locks.setdefault(scope, asyncio.Lock())
        try:
            async with lock:
                if (cached := self._cached(scope)) is not None:
                    return cached
                token = await self._fetch(bearer, scope)
                self._keep(scope, token)
                return token.header
        finally:
            if not lock.locked():
                self._locks.pop(scope, None)

    def _cached(self, scope: str) -> str | None:
        token = self._tokens.get(scope)
        if token is None or token.expires <= self._monotonic():
            return None
        self._tokens.move_to_end(scope)
        return token.header

    def _keep(self, scope: str, token: _Token) -> None:
        self._tokens[scope] = token
        if len(self._tokens) > _MAX_CACHED:
            self._tokens.popitem(last=False)

    async def _fetch(self, bearer: _Bearer, scope: str) -> _Token:
        query = [("service", bearer.service)] if bearer.service else []
        query += [("scope", each) for each in scope.split()]
        authorization = None
        if self._credentials is not None:
            query.append(("account", self._credentials.username))
            authorization = self._credentials.basic
        asked_at = self._monotonic()
        content = await self._fetch_token(bearer.realm, query=query, authorization=authorization)
        return _read_token(content, asked_at)


def _read_token(content: bytes, asked_at: float) -> _Token:
    """Read a token server's answer: ``token`` or ``access_token``, and ``expires_in`` seconds."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise TokenServerMisbehaved(f"the token server's answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenServerMisbehaved("the token server's answer is not a JSON object")
    token = value.get("token") or value.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise TokenServerMisbehaved("the token server's answer holds no token")
    lifetime = value.get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or lifetime <= 0:
        lifetime = _DEFAULT_LIFETIME_SECONDS
    return _Token(f"Bearer {token}", asked_at + max(lifetime - _EARLY_SECONDS, lifetime / 2))

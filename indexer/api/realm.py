"""Asks the registry's realm for a token, as a client of the registry does (Distribution's token authentication).

The password goes to the configured realm and nowhere else: no redirect is followed, and no proxy of the environment is
used. Nothing of a request or an answer is logged.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import orjson

from indexer.common.errors import CallerError, ConfigurationError

if TYPE_CHECKING:
    import httpx

SECONDS = 8.0
MAX_ANSWER_BYTES = 2 * 1024 * 1024
DEFAULT_LIFETIME_SECONDS = 60
"""Of a token without ``expires_in`` (Distribution's token specification)."""
_LONGEST_LIFETIME_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmToken:
    """A token, and for how long it is valid (seconds)."""

    token: str = field(repr=False)
    expires_in: int


class RefusedByRealm(Exception):  # noqa: N818 - a state, read as "refused by the realm"
    """User or password is wrong, or the realm lets this user have no token."""


class Realm:
    """The registry's token server."""

    def __init__(self, url: str, service: str, *, ca_file: Path | None = None) -> None:
        import httpx  # noqa: PLC0415 - it holds 2 MiB, which only servers with a realm need

        self._url = url
        self._service = service
        self._client = httpx.AsyncClient(
            verify=_certificates(ca_file),
            timeout=httpx.Timeout(SECONDS, connect=4.0),
            limits=httpx.Limits(max_connections=8),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def token(self, *, user: str, password: str, scopes: Sequence[str]) -> RealmToken:
        """Return a token for the scopes, which may grant less.

        Raises ``RefusedByRealm``; ``CallerError`` with status 503 where the realm cannot be asked.
        """
        import httpx  # noqa: PLC0415

        asked = [("service", self._service), ("account", user), *(("scope", scope) for scope in scopes)]
        try:
            async with self._client.stream(
                "GET", self._url, params=_with_query(self._url, asked), auth=httpx.BasicAuth(user, password)
            ) as answer:
                if answer.status_code in (400, 401, 403):
                    raise RefusedByRealm
                if answer.status_code != httpx.codes.OK:
                    raise _unavailable(f"the registry's token server answers {answer.status_code}")
                return _read(await _body(answer))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unavailable("the registry's token server does not answer") from error


def realm_url(realm: str) -> str | None:
    """Return a realm as a URL that may be asked; None where it is only a text."""
    parts = urlsplit(realm)
    return realm if parts.scheme in ("http", "https") and parts.hostname and not parts.password else None


def _certificates(ca_file: Path | None) -> ssl.SSLContext:
    import httpx  # noqa: PLC0415

    try:
        return (
            ssl.create_default_context(cafile=ca_file)
            if ca_file
            else httpx.create_ssl_context(trust_env=False)
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"INDEXER_SIGN_IN_CA_FILE: {ca_file} cannot be used: {error}") from error


def _with_query(url: str, asked: list[tuple[str, str]]) -> httpx.QueryParams:
    """Keep the parameters that the realm's own URL has: httpx would replace them."""
    import httpx  # noqa: PLC0415

    return httpx.QueryParams([*httpx.URL(url).params.multi_items(), *asked])


async def _body(answer: httpx.Response) -> bytes:
    found = bytearray()
    async for piece in answer.aiter_bytes():
        found += piece
        if len(found) > MAX_ANSWER_BYTES:
            raise _unavailable("the registry's token server answers with too much")
    return bytes(found)


def _read(body: bytes) -> RealmToken:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise _unavailable("the registry's token server does not answer with a token")
    token = answer.get("token") or answer.get("access_token")
    lifetime = answer.get("expires_in")
    if not isinstance(token, str) or not token.isascii():
        raise _unavailable("the registry's token server does not answer with a token")
    if type(lifetime) is not int or lifetime < 1:
        lifetime = DEFAULT_LIFETIME_SECONDS
    return RealmToken(token=token, expires_in=min(lifetime, _LONGEST_LIFETIME_SECONDS))


def _unavailable(message: str) -> CallerError:
    return CallerError(message, status=503, code="realm_unavailable")

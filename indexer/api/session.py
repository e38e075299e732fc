"""``/api/v1/session``: what a caller is here, and signing in with the registry's own user and password.

Signing in: the user's name and password go to the registry's realm, and what comes back is the registry's token, which
this API takes like any other. The answer also has a ``renewal``: user and password, encrypted with a secret of the
database, so that a page can get the next token without keeping the password. It is good for twelve hours, at this
endpoint only, and nothing of it is kept here: any process of the indexer can read it.

Refused are requests that another site's page makes (``Sec-Fetch-Site``), and attempts beyond ``attempts.Bounds``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from indexer.api.attempts import Attempts
from indexer.api.auth import ANONYMOUS, Authenticator, Principal, Verifier
from indexer.api.models import Shown
from indexer.api.operations import ROOT
from indexer.api.problems import problem
from indexer.api.request_metrics import ROUTE
from indexer.api.rights import kinds_by_repository
from indexer.api.settings import ApiSettings
from indexer.common.errors import CallerError
from indexer.oci.reference import is_repository_name
from indexer.store.cursors import cursor_secret
from indexer.store.reading import Readers

if TYPE_CHECKING:
    from indexer.api.realm import Realm, RealmToken

PATH = f"{ROOT}/session"
RENEWABLE_SECONDS = 12 * 3600
MAX_BODY_BYTES = 64 * 1024
MAX_SCOPES = 100
_PADDED_TO = 64
"""Bytes: what is encrypted is padded to a multiple, so that its length does not reveal that of the password."""
_REGISTRY_SCOPE = re.compile(r"registry:(catalog|audit):\*")
_REPOSITORY_SCOPE = re.compile(r"repository:([^:]+):((?:pull|push|delete)(?:,(?:pull|push|delete))*)")
_LATER = {"Retry-After": "60"}

MAY_ASK = (
    "Of a token of the registry: the kinds of jobs that it may ask for, by repository. Empty for others: an operator "
    "token may ask for every kind, any other for none."
)

_log = structlog.get_logger()


class SessionShown(Shown):
    """What a caller is here, and how one can sign in."""

    anonymous_read: bool = Field(description="Reading needs no token.")
    passwords: bool = Field(
        description="One can sign in with the registry's user and password: POST to this path."
    )
    registry: str | None = Field(description="The host that clients pull from, if it is configured.")
    name: str | None = Field(description="Of the token that was sent; null: none was sent.")
    everything: bool = Field(description="The token, or anybody, may read everything.")
    may_act: bool = Field(description="It is an operator token: it may ask for everything that acts.")
    may_ask: dict[str, list[str]] = Field(description=MAY_ASK)


class SignIn(BaseModel):
    """User and password, or the `renewal` of an earlier answer; and the scopes that the token should grant."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    username: str | None = Field(default=None, min_length=1, max_length=255)
    password: str | None = Field(default=None, min_length=1, max_length=8192, repr=False)
    renewal: str | None = Field(default=None, min_length=1, max_length=32_768, repr=False)
    scopes: list[str] = Field(
        default_factory=list,
        max_length=MAX_SCOPES,
        description="`registry:catalog:*`, `registry:audit:*`, `repository:<name>:pull`; for acting "
        "`repository:<name>:pull,push,delete`. The realm decides.",
    )


class SignedIn(Shown):
    """A token of the registry."""

    name: str
    token: str = Field(description="Send it as `Authorization: Bearer <token>`.")
    expires_in: int = Field(description="Seconds.")
    renewal: str = Field(description="Send it to this path for the next token. It is good for 12 hours.")
    granted: list[str] = Field(description="What the token grants, as scopes.")
    may_ask: dict[str, list[str]] = Field(description=MAY_ASK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who signs in. ``since``: when the password was entered (Unix seconds)."""

    user: str
    password: str
    since: int


class Session:
    """The endpoint. ``realm`` and ``tokens`` None: nobody can sign in by password."""

    def __init__(
        self,
        *,
        readers: Readers,
        authenticator: Authenticator,
        settings: ApiSettings,
        realm: Realm | None,
        tokens: Verifier | None,
    ) -> None:
        self._readers = readers
        self._authenticator = authenticator
        self._settings = settings
        self._realm = realm
        self._tokens = tokens
        self._attempts = Attempts()
        self._at_once = asyncio.Semaphore(8)

    async def show(self, request: web.Request) -> web.Response:
        """Answer what the caller is; without a token how to sign in. A wrong token is a 401."""
        request[ROUTE] = PATH
        headers = request.headers.getall("Authorization", [])
        principal = await self._authenticator.authenticate(headers) if headers else ANONYMOUS
        known = bool(headers)
        return _json(
            {
                "anonymous_read": self._settings.anonymous_read,
                "passwords": self._realm is not None,
                "registry": self._settings.registry_host,
                "name": principal.name if known else None,
                "everything": principal.repositories is None if known else self._settings.anonymous_read,
                "may_act": principal.may_act,
                "may_ask": kinds_by_repository(principal),
            }
        )

    async def sign_in(self, request: web.Request) -> web.Response:
        """Ask the realm for a token, by user and password or by the renewal of an earlier answer."""
        request[ROUTE] = PATH
        if self._realm is None or self._tokens is None:
            raise CallerError("signing in by password is not configured here", status=404, code="no_sign_in")
        from indexer.api.realm import RefusedByRealm  # noqa: PLC0415 - loaded where there is a realm

        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise CallerError("this must come from a page of the indexer", status=403, code="another_site")
        asked = await _read(request)
        check_scopes(asked.scopes)
        key = await self._key()
        given = self._credentials(asked, key)
        address, began = request.remote or "", time.monotonic()
        if not self._attempts.begin(address=address, user=given.user, now=began):
            _log.warning("sign_in_bounded", address=address)
            return problem(
                429, "too_many_attempts", "too many attempts failed; wait a minute", headers=_LATER
            )
        try:
            async with self._at_once:
                found = await self._realm.token(user=given.user, password=given.password, scopes=asked.scopes)
        except RefusedByRealm:
            raise CallerError(
                "the registry does not accept this user and password", status=401, code="unauthorized"
            ) from None
        except CallerError:  # the realm is away: nobody guessed anything
            self._attempts.succeeded(address=address, user=given.user, began=began)
            raise
        self._attempts.succeeded(address=address, user=given.user, began=began)
        principal = await self._tokens.verify(found.token)
        if principal is None:
            _log.error("realm_token_not_valid")
            raise CallerError(
                "the registry's token server gives tokens that are not valid here: INDEXER_AUTH_ISSUER, _SERVICE or "
                "_KEYS_FILE differs from the registry's",
                status=503,
                code="realm_token_not_valid",
            )
        return _json(_signed_in(given, found, principal, seal(given, key)))

    def _credentials(self, asked: SignIn, key: AESSIV) -> Credentials:
        now = int(time.time())
        if asked.renewal is not None and asked.username is None and asked.password is None:
            return unseal(asked.renewal, key, now=now)
        if asked.username is None or asked.password is None or asked.renewal is not None:
            raise CallerError(
                "username and password are needed, or renewal",
                code="invalid_body",
                allowed="username and password, or renewal",
            )
        if ":" in asked.username or not (asked.username + asked.password).isprintable():
            raise CallerError(
                "the registry does not accept this user and password", status=401, code="unauthorized"
            )
        return Credentials(user=asked.username, password=asked.password, since=now)

    async def _key(self) -> AESSIV:
        async with self._readers.reading() as held:
            return key_of(await cursor_secret(held))


def key_of(secret: bytes) -> AESSIV:
    """Return the key of renewals, which is derived from the secret."""
    return AESSIV(hashlib.sha512(b"renewals of sign-ins" + secret).digest())


def seal(given: Credentials, key: AESSIV) -> str:
    """Return the renewal of who signed in."""
    plain = orjson.dumps([given.user, given.password, given.since])
    padded = plain + b" " * (-len(plain) % _PADDED_TO)
    return base64.urlsafe_b64encode(key.encrypt(padded, [b"renewal"])).rstrip(b"=").decode()


def unseal(renewal: str, key: AESSIV, *, now: int) -> Credentials:
    """Return who signed in; raise ``CallerError`` (401) for what is no renewal, or too old. ``now``: Unix seconds."""
    try:
        encrypted = base64.b64decode(renewal + "=" * (-len(renewal) % 4), altchars=b"-_", validate=True)
        user, password, since = orjson.loads(key.decrypt(encrypted, [b"renewal"]))
    except (InvalidTag, binascii.Error, ValueError):
        raise CallerError("this renewal is not valid here", status=401, code="unauthorized") from None
    if now - since > RENEWABLE_SECONDS:
        raise CallerError("this sign-in has ended; enter the password again", status=401, code="unauthorized")
    return Credentials(user=user, password=password, since=since)


def check_scopes(scopes: Sequence[str]) -> None:
    """Raise ``CallerError`` for a scope that this API has no use for."""
    for scope in scopes:
        of_repository = _REPOSITORY_SCOPE.fullmatch(scope)
        if of_repository is not None and is_repository_name(of_repository[1]):
            continue
        if _REGISTRY_SCOPE.fullmatch(scope) is None:
            raise CallerError(
                "a scope is not one of this API",
                code="invalid_body",
                allowed="registry:catalog:*, registry:audit:*, repository:<name>:pull",
            )


async def _read(request: web.Request) -> SignIn:
    if request.content_type != "application/json":
        raise CallerError(
            "the body must be JSON", status=415, code="invalid_body", allowed="application/json"
        )
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise CallerError("the body is too long", status=413, code="content_too_large")
    try:
        return SignIn.model_validate_json(bytes(body))
    except ValidationError as error:
        # Names only: the values are secrets.
        found = error.errors(include_input=False, include_url=False)
        names = sorted({".".join(str(part) for part in each["loc"]) or "body" for each in found})
        raise CallerError(f"not valid: {', '.join(names)[:200]}", code="invalid_body") from None


def _signed_in(given: Credentials, found: RealmToken, principal: Principal, renewal: str) -> dict[str, Any]:
    granted = (
        f"{kind}:{name}:{','.join(sorted(actions))}"
        for (kind, name), actions in principal.grants.items()
        if actions
    )
    return {
        "name": given.user,
        "token": found.token,
        "expires_in": found.expires_in,
        "renewal": renewal,
        "granted": sorted(granted),
        "may_ask": kinds_by_repository(principal),
    }


def _json(body: dict[str, Any]) -> web.Response:
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=orjson.dumps(body), headers=headers)

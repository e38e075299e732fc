"""Who asks, and what they may read.

A request carries ``Authorization: Bearer <token>`` or nothing. Each verifier is asked in turn whether the
token is one of its own; today there is one, for operators' static tokens. Trust in the registry's own JWTs
becomes a second one, whose principals read the repositories they were granted.

A token that no verifier knows is refused even where reading is open to everyone: it is a mistake or an
attack, and the notifications token must open nothing here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from indexer.common.errors import CallerError

REALM = "registry-indexer"
MAX_TOKEN_BYTES = 1024 * 1024
"""As long as Distribution's own limit on headers, so that what opens the registry opens us (12,000 scopes)."""

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Access:
    """One action on one thing (Distribution's token scopes: ``type:name:action``)."""

    type: str
    name: str
    action: str


CATALOG = Access("registry", "catalog", _ANY)
AUDIT = Access("registry", "audit", _ANY)


def pull_of(repository: str) -> Access:
    """Return what reading a repository takes."""
    return Access("repository", repository, "pull")


def scope_of(access: Iterable[Access]) -> str:
    """Return the ``scope`` of a challenge: actions on one thing joined, things apart by a space, in order."""
    actions: dict[tuple[str, str], list[str]] = {}
    for each in access:
        actions.setdefault((each.type, each.name), []).append(each.action)
    return " ".join(f"{kind}:{name}:{','.join(all_of)}" for (kind, name), all_of in actions.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a refusal says of where to get a token (RFC 6750; Distribution's token authentication)."""

    realm: str = REALM
    service: str | None = None

    def header(self, access: Sequence[Access] = (), error: str | None = None) -> str:
        """Return ``WWW-Authenticate``, its parameters in the order Distribution gives them."""
        parameters = [("realm", self.realm)]
        if self.service is not None:
            parameters.append(("service", self.service))
            if access:
                parameters.append(("scope", scope_of(access)))
        if error is not None:
            parameters.append(("error", error))
        return "Bearer " + ",".join(f'{name}="{_quoted(value)}"' for name, value in parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks; ``repositories`` are those they may read, None: all of them, and everything else.

    ``grants``: what a token grants, actions by type and name.
    """

    name: str
    repositories: frozenset[str] | None = None
    grants: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    def may(self, access: Access) -> bool:
        """Tell whether the principal may do this: type and name exactly, ``*`` grants any action."""
        if self.repositories is None:
            return True
        granted = self.grants.get((access.type, access.name), frozenset())
        return access.action in granted or _ANY in granted

    def may_read(self, repository: str) -> bool:
        """Tell whether the principal may know of the repository; if not, it looks like a missing one."""
        return self.repositories is None or repository in self.repositories

    @property
    def listed(self) -> frozenset[str] | None:
        """The repositories whose names the principal may list; None: all. The catalog's grant lists all."""
        return None if self.may(CATALOG) else self.repositories

    def require(self, *access: Access) -> None:
        """Raise ``Unauthorized`` unless the principal may do all of this."""
        if not all(self.may(each) for each in access):
            raise Unauthorized("the token does not grant this", error="insufficient_scope", access=access)


ANONYMOUS = Principal(name="anonymous")


class Verifier(Protocol):
    """Knows one kind of token."""

    async def verify(self, token: str) -> Principal | None:
        """Return who the token speaks for, None where it is not a good one of this kind."""
        ...


class StaticTokens:
    """The operators' tokens from the settings. Compared in constant time, all of them every time."""

    def __init__(self, tokens: Iterable[str]) -> None:
        # Hashes are of one length, so that comparing tells nothing about a token's length either.
        self._hashes = [_hash(token) for token in tokens if token]

    async def verify(self, token: str) -> Principal | None:
        """Return the operator where the token is one of the configured ones."""
        asked = _hash(token)
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(known, asked)
        return Principal(name="operator") if found else None


class Unauthorized(CallerError):  # noqa: N818 - a state of the caller
    """No token, none that is known, or one that grants too little; ``access`` is what it takes."""

    def __init__(self, message: str, *, error: str | None = None, access: Sequence[Access] = ()) -> None:
        super().__init__(message, status=401, code="unauthorized")
        self.error = error
        self.access = access


class Authenticator:
    """Turns an Authorization header into a principal."""

    def __init__(
        self, verifiers: Sequence[Verifier], *, anonymous_read: bool, challenge: Challenge | None = None
    ) -> None:
        self._verifiers = verifiers
        self._anonymous_read = anonymous_read
        self.challenge = challenge or Challenge()

    async def authenticate(self, headers: Sequence[str], *, access: Sequence[Access] = ()) -> Principal:
        """Return who asks, by all ``Authorization`` headers of the request; raise ``Unauthorized``.

        ``access`` is what the request will take; only the refusal says so.
        """
        if not headers:
            if self._anonymous_read:
                return ANONYMOUS
            raise Unauthorized("a token is needed: Authorization: Bearer <token>", access=access)
        scheme, _, token = headers[0].strip().partition(" ")
        bearer = scheme.lower() == "bearer"
        if len(headers) > 1 or not bearer or not token.strip():
            raise Unauthorized(
                "one Authorization header with a Bearer token is needed",
                error="invalid_token" if bearer else None,
                access=access,
            )
        if len(token) > MAX_TOKEN_BYTES:
            raise CallerError("the token is too long", status=431, code="token_too_long")
        for verifier in self._verifiers:
            principal = await verifier.verify(token.strip())
            if principal is not None:
                return principal
        raise Unauthorized("the token is not known here", error="invalid_token", access=access)


def _quoted(value: str) -> str:
    """Make a text fit between double quotes (RFC 9110 section 5.6.4); what no header can hold is left out."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(character for character in escaped if character.isprintable())


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

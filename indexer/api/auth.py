"""Authentication of a request, and what its caller may read.

A request has ``Authorization: Bearer <token>`` or no such header. The verifiers check the token in turn: those for the
tokens of ``INDEXER_API_TOKENS``, which read, of ``INDEXER_OPERATOR_TOKENS``, which act, too, and of
``INDEXER_IN_USE_TOKENS``; and one (``tokens``) for the registry's own, whose principals may read the repositories
that the token grants.

A token that no verifier accepts is refused even where reading needs no token: it is a mistake or an attack, and the
notifications token must grant nothing here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from indexer.common.errors import CallerError
from indexer.inventory.tag_protection import NONE, TagPatterns

REALM = "registry-indexer"
MAX_TOKEN_BYTES = 1024 * 1024
"""Distribution's own limit on headers, so that a token that the registry takes is not too long here (12,000 scopes)."""

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
    """Return the access that reading a repository requires."""
    return Access("repository", repository, "pull")


def scope_of(access: Iterable[Access]) -> str:
    """Return the ``scope`` of a challenge: one ``type:name:actions`` for each resource, in order."""
    actions: dict[tuple[str, str], list[str]] = {}
    for each in access:
        actions.setdefault((each.type, each.name), []).append(each.action)
    return " ".join(f"{kind}:{name}:{','.join(all_of)}" for (kind, name), all_of in actions.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """The challenge of a 401: where to get a token (RFC 6750; Distribution's token authentication)."""

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
    """The caller. ``repositories``: those that it may read; None: all, and everything else.

    ``grants``: the actions that its token grants, by type and name. ``patterns``: the tags of a repository that it may
    not push or delete though. ``expires``: when the token does (Unix seconds); None: never.
    """

    name: str
    repositories: frozenset[str] | None = None
    grants: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    patterns: Mapping[str, TagPatterns] = field(default_factory=dict)
    expires: int | None = None
    may_act: bool = False
    """It holds an operator token: it may ask for everything."""
    source: str | None = None
    """It holds an in-use token: it may report what this source runs, and nothing else."""

    def may(self, access: Access) -> bool:
        """Return whether this is granted: type and name exactly, ``*`` grants any action."""
        if self.repositories is None:
            return True
        granted = self.grants.get((access.type, access.name), frozenset())
        return access.action in granted or _ANY in granted

    def may_read(self, repository: str) -> bool:
        """Return whether the repository may be read; if not, it must be answered like a missing one."""
        return self.repositories is None or repository in self.repositories

    def patterns_of(self, repository: str) -> TagPatterns:
        """Return which tags of a repository it may not push or delete, whatever is granted."""
        return self.patterns.get(repository, NONE)

    @property
    def listed(self) -> frozenset[str] | None:
        """The repositories whose names may be listed; None: all. A grant of the catalog lists all."""
        return None if self.may(CATALOG) else self.repositories

    def require(self, *access: Access) -> None:
        """Raise ``Unauthorized`` unless all of this is granted."""
        if not all(self.may(each) for each in access):
            raise Unauthorized("the token does not grant this", error="insufficient_scope", access=access)


ANONYMOUS = Principal(name="anonymous")


class Verifier(Protocol):
    """Verifies one kind of token."""

    async def verify(self, token: str) -> Principal | None:
        """Return the principal of a token; None where it is not a valid one of this kind."""
        ...


class StaticTokens:
    """The tokens of the settings. A token is compared with all of them, in constant time."""

    def __init__(self, tokens: Iterable[str]) -> None:
        # Hashes have one length, so that the time does not reveal a token's length either.
        self._hashes = [_hash(token) for token in tokens if token]

    async def verify(self, token: str) -> Principal | None:
        """Return the operator where the token is one of the configured ones, else None."""
        given = _hash(token)
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(known, given)
        return Principal(name="operator") if found else None


class NamedTokens:
    """Tokens that each have a name. A token is compared with all of them, in constant time."""

    def __init__(self, tokens: Iterable[tuple[str, str]], principal_of: Callable[[str], Principal]) -> None:
        self._hashes = [(name, _hash(secret)) for name, secret in tokens]
        self._principal_of = principal_of

    async def verify(self, token: str) -> Principal | None:
        """Return the principal of the token's name where it is one of the configured ones, else None."""
        given = _hash(token)
        found = None
        for name, known in self._hashes:
            if hmac.compare_digest(known, given):
                found = name
        return None if found is None else self._principal_of(found)


def operator_of(name: str) -> Principal:
    """Return who holds the operator token of this name."""
    return Principal(name=name, may_act=True)


def reporter_of(source: str) -> Principal:
    """Return who holds the in-use token of this source."""
    return Principal(name=source, repositories=frozenset(), source=source)


class Unauthorized(CallerError):  # noqa: N818 - a state of the caller
    """No token, an unknown one, or one that grants too little; ``access`` is what is required."""

    def __init__(self, message: str, *, error: str | None = None, access: Sequence[Access] = ()) -> None:
        super().__init__(message, status=401, code="unauthorized")
        self.error = error
        self.access = access


class Authenticator:
    """Finds the principal of a request."""

    def __init__(
        self, verifiers: Sequence[Verifier], *, anonymous_read: bool, challenge: Challenge | None = None
    ) -> None:
        self._verifiers = verifiers
        self._anonymous_read = anonymous_read
        self.challenge = challenge or Challenge()

    async def authenticate(
        self, headers: Sequence[str], *, access: Sequence[Access] = (), reports: bool = False
    ) -> Principal:
        """Return the principal by all ``Authorization`` headers of a request; raise ``Unauthorized``.

        ``access`` is what the request requires. It is not checked here, but part of the challenge. ``reports``: the
        request reports what a source runs; an in-use token is good for nothing else.
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
                if principal.source is not None and not reports:
                    raise Unauthorized(
                        "this token may only report what is in use", error="insufficient_scope", access=access
                    )
                return principal
        raise Unauthorized("the token is not valid here", error="invalid_token", access=access)


def _quoted(value: str) -> str:
    """Escape a text for double quotes (RFC 9110 section 5.6.4), without characters that a header cannot have."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(character for character in escaped if character.isprintable())


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from indexer.errors import CallerError

REALM = "registry-indexer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks; ``repositories`` are those they may read, None: all of them."""

    name: str
    repositories: frozenset[str] | None = None

    def may_read(self, repository: str) -> bool:
        """Tell whether the principal may know of the repository; if not, it looks like a missing one."""
        return self.repositories is None or repository in self.repositories


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
    """No token, or none that is known; ``challenge`` is the ``WWW-Authenticate`` to answer with."""

    def __init__(self, message: str, *, error: str | None = None) -> None:
        super().__init__(message, status=401, code="unauthorized")
        self.challenge = f'Bearer realm="{REALM}"' + (f', error="{error}"' if error else "")


class Authenticator:
    """Turns an Authorization header into a principal."""

    def __init__(self, verifiers: Sequence[Verifier], *, anonymous_read: bool) -> None:
        self._verifiers = verifiers
        self._anonymous_read = anonymous_read

    async def authenticate(self, headers: Sequence[str]) -> Principal:
        """Return who asks, by all ``Authorization`` headers of the request; raise ``Unauthorized``."""
        if not headers:
            if self._anonymous_read:
                return ANONYMOUS
            raise Unauthorized("a token is needed: Authorization: Bearer <token>")
        scheme, _, token = headers[0].strip().partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized(
                "one Authorization header with a Bearer token is needed", error="invalid_token"
            )
        for verifier in self._verifiers:
            principal = await verifier.verify(token.strip())
            if principal is not None:
                return principal
        raise Unauthorized("the token is not known here", error="invalid_token")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

"""The registry's own tokens: JWTs, verified as the registry verifies them (Distribution 2.8 and 3.x).

The rules, in the order they apply:

1. Three parts, and a header with an asymmetric algorithm; not ``none``, not HMAC. A critical header (``crit``) is
   refused, since none is understood here. Keys and certificates in the token (``jwk``, ``jku``, ``x5c``) are ignored.
2. Signed by one of the configured keys. ``kid`` only says which to try first: libtrust, RFC 7638 and JWK sets name one
   key differently, and 3.x refuses GitLab's own tokens for it.
3. ``iss`` is the issuer, ``aud`` is or contains the service, ``exp`` is not past and ``nbf`` not in the future, with 60
   seconds of leeway. ``iss``, ``aud`` and ``exp`` are required.
4. ``access`` grants actions by type and name, taken literally: ``team/*`` is a name, and no pattern. The ``meta`` of an
   entry may except tags (``inventory.tag_protection``).

Beyond the header only a token with a valid signature is parsed.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import structlog
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError

from indexer.api.auth import MAX_TOKEN_BYTES, Principal
from indexer.api.trust import Trust, TrustedKey
from indexer.inventory.tag_protection import NONE, TagPatterns, read_patterns
from indexer.oci.reference import is_repository_name

_log = structlog.get_logger()

LEEWAY_SECONDS = 60
ALGORITHMS = (
    "RS256", "RS384", "RS512",
    "ES256", "ES384", "ES512",
    "PS256", "PS384", "PS512",
    "EdDSA",
)  # fmt: skip
"""The asymmetric ones of Distribution 3.x; 2.8 takes the first two rows."""

MAX_HEADER_BYTES = 64 * 1024
"""A header may have a chain of certificates, which is ignored."""

_REFUSED_HEADERS = ("crit", "b64")

Grants = dict[tuple[str, str], frozenset[str]]


class _Registry(jws.JWSRegistry):
    """joserfc's settings: our limits and algorithms, without its warning about the name EdDSA."""

    max_header_length = MAX_HEADER_BYTES
    max_payload_length = MAX_TOKEN_BYTES

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


_REGISTRY = _Registry(strict_check_header=False)


class SignedTokens:
    """Verifies the tokens that a :class:`Trust` accepts."""

    def __init__(self, trust: Trust, *, now: Callable[[], float] = time.time) -> None:
        self._trust = trust
        self._now = now

    async def verify(self, token: str) -> Principal | None:
        """Return the principal of a token and what it grants; None where the token is not valid."""
        payload = self._payload(token)
        if payload is None:
            return None
        try:
            claims = self._claims(payload)
            grants = read_grants(claims.get("access"))
        except (ValueError, RecursionError):
            return None
        subject = claims.get("sub")
        return Principal(
            name=subject if isinstance(subject, str) else "",
            repositories=frozenset(
                name
                for (kind, name), actions in grants.items()
                if kind == "repository" and not actions.isdisjoint(("pull", "*")) and is_repository_name(name)
            ),
            grants=grants,
            patterns=read_exceptions(claims.get("access")),
            expires=claims["exp"],
        )

    def _payload(self, token: str) -> bytes | None:
        """Return the claims as they were signed; None where no configured key signed them.

        Until the signature is verified, the token is arbitrary input: any error that it makes a parser raise only means
        that it is not valid.
        """
        try:
            header = read_header(token)
            return _verified(token, self._in_order(header.get("kid")))
        except Exception as error:  # noqa: BLE001 - any of them is the sender's doing
            _log.debug("token_not_valid", error=type(error).__name__)
            return None

    def _claims(self, payload: bytes) -> Mapping[str, Any]:
        claims = orjson.loads(payload)
        if not isinstance(claims, dict):
            raise ValueError("the claims are no object")
        check_claims(claims, issuer=self._trust.issuer, service=self._trust.service, now=self._now())
        return claims

    def _in_order(self, name: object) -> list[TrustedKey]:
        return sorted(self._trust.keys, key=lambda key: name not in key.names)


def read_header(token: str) -> Mapping[str, str]:
    """Return ``alg`` and, if it is a text, ``kid`` of a token's header.

    Raises ``ValueError`` where no token with such a header is accepted.
    """
    if token.count(".") != 2:  # noqa: PLR2004 - header, claims, signature
        raise ValueError("not three parts")
    encoded = token.partition(".")[0]
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError("the header is too long")
    try:
        header = orjson.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (Base64Error, UnicodeEncodeError):
        raise ValueError("the header is not base64") from None
    if not isinstance(header, dict) or header.get("alg") not in ALGORITHMS:  # a tuple: nothing is hashed
        raise ValueError("an algorithm that is not accepted")
    if any(name in header for name in _REFUSED_HEADERS):
        raise ValueError("a critical header that is not understood")
    return {name: header[name] for name in ("alg", "kid") if isinstance(header.get(name), str)}


def check_claims(claims: Mapping[str, Any], *, issuer: str, service: str, now: float) -> None:
    """Raise ``ValueError`` unless the claims are of our issuer, for our service, and valid now (Unix seconds)."""
    if claims.get("iss") != issuer:
        raise ValueError("another issuer")
    audience = claims.get("aud")
    if service not in (audience if isinstance(audience, list) else [audience]):
        raise ValueError("another audience")
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if type(expires) is not int or type(begins) is not int:
        raise ValueError("exp and nbf are whole seconds")
    if now > expires + LEEWAY_SECONDS:
        raise ValueError("expired")
    if now < begins - LEEWAY_SECONDS:
        raise ValueError("not valid yet")


def read_grants(access: object) -> Grants:
    """Return what ``access`` grants, actions by type and name; raise ``ValueError`` where it is malformed."""
    if access is None:
        return {}
    if not isinstance(access, list):
        raise ValueError("access is no list")
    grants: dict[tuple[str, str], set[str]] = {}
    for entry in access:
        kind, name, actions = _entry(entry)
        grants.setdefault((kind, name), set()).update(actions)
    return {thing: frozenset(actions) for thing, actions in grants.items()}


def read_exceptions(access: object) -> dict[str, TagPatterns]:
    """Return by repository which tags ``access``, which :func:`read_grants` has read, excepts."""
    excepted: dict[str, TagPatterns] = {}
    for entry in access if isinstance(access, list) else ():
        patterns = read_patterns(entry.get("meta"))
        if patterns and entry.get("type") == "repository":
            name = entry.get("name", "")
            excepted[name] = excepted.get(name, NONE) | patterns
    return excepted


def _entry(entry: object) -> tuple[str, str, list[str]]:
    if not isinstance(entry, dict):
        raise ValueError("an access is no object")
    kind, name, actions = entry.get("type", ""), entry.get("name", ""), entry.get("actions") or []
    texts = [kind, name, *actions] if isinstance(actions, list) else [actions]
    if not isinstance(actions, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("an access is malformed")
    return kind, name, actions


def _verified(token: str, keys: Iterable[TrustedKey]) -> bytes:
    """Return the payload of a token that one of the keys signed; raise ``ValueError`` where none did."""
    for candidate in keys:
        try:
            return jws.deserialize_compact(token, candidate.key, registry=_REGISTRY).payload
        except (JoseError, ValueError, TypeError):
            continue  # signed by another key, or this key is of another kind
    raise ValueError("signed by none of the keys")

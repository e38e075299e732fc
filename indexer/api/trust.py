"""The registry's token trust: whose tokens are accepted, as in the registry's ``auth.token`` section.

One file of public keys, in any of the forms that the registry takes: PEM certificates (``rootcertbundle``), bare PEM
public keys, or a JWK set (``jwks``). Of a certificate only the key counts, as in the registry: its dates and issuer are
not checked.
"""

from __future__ import annotations

import re
import warnings
from base64 import b32encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from joserfc import jwk
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from indexer.common.errors import ConfigurationError
from indexer.settings import Settings

SETTING = "INDEXER_AUTH_KEYS_FILE"
MAX_FILE_BYTES = 4 * 1024 * 1024

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?-----END \1-----", re.DOTALL)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_SMALLEST_RSA_BITS = 2048
_LIBTRUST_BYTES = 30
_LIBTRUST_GROUP = 4


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, and the ``kid`` values that tokens may have for it. They only say which key to try first."""

    key: Key
    names: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a token must have to be accepted; ``realm`` is where clients get one (any text, most often a URL)."""

    issuer: str
    service: str
    realm: str
    keys: tuple[TrustedKey, ...] = field(repr=False)


def read_trust(settings: Settings) -> Trust | None:
    """Return the trust of the settings, None where they have none; raise ``ConfigurationError`` for bad keys.

    ``Settings`` makes sure that all four are set or none.
    """
    issuer, service, realm = (
        settings.indexer_auth_issuer,
        settings.indexer_auth_service,
        settings.indexer_auth_realm,
    )
    keys_file = settings.indexer_auth_keys_file
    if issuer is None or service is None or realm is None or keys_file is None:
        return None
    return Trust(issuer=issuer, service=service, realm=realm, keys=load_keys(keys_file))


def load_keys(path: Path) -> tuple[TrustedKey, ...]:
    """Read every public key of a file; raise ``ConfigurationError`` where it has none, or has a private key."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{SETTING}: cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(
            f"{SETTING}: {path} is not a bundle of keys: larger than {MAX_FILE_BYTES} bytes"
        )
    try:
        keys = tuple(_read(content))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{SETTING}: {path}: {error}") from None
    if not keys:
        raise ConfigurationError(f"{SETTING}: {path} holds no PEM certificate, PEM public key or JWK set")
    return keys


def key_set(keys: Iterable[TrustedKey]) -> dict[str, Any]:
    """Return a JWK set (RFC 7517) with each key twice: by GitLab's name for it and by its thumbprint (RFC 7638).

    Distribution 3.x finds a token's key only by its ``kid``, in ``auth.token.jwks`` or among the thumbprints of
    ``rootcertbundle`` (3.1.1), so GitLab's tokens need this set; 2.8 does not.
    """
    return {
        "keys": [
            {**trusted.key.as_dict(private=False), "use": "sig", "kid": name}
            for trusted in keys
            for name in (libtrust_id(_der(trusted.key.public_key)), trusted.key.thumbprint())
        ]
    }


def libtrust_id(der: bytes) -> str:
    """Return libtrust's and GitLab's name of a public key: base32 of the first 240 bits of its hash, in fours."""
    text = b32encode(sha256(der).digest()[:_LIBTRUST_BYTES]).decode()
    return ":".join(text[at : at + _LIBTRUST_GROUP] for at in range(0, len(text), _LIBTRUST_GROUP))


def _read(content: bytes) -> Iterator[TrustedKey]:
    if content.lstrip()[:1] == b"{":
        yield from _read_jwks(content)
        return
    for match in _PEM.finditer(content):
        kind, block = match[1].decode(), match[0]
        if "PRIVATE" in kind:
            raise ValueError("it holds a private key; only public keys belong here")
        if kind == "CERTIFICATE":
            yield _trusted(x509.load_pem_x509_certificate(block).public_key())
        elif kind.endswith("PUBLIC KEY"):
            yield _trusted(load_pem_public_key(block))


def _read_jwks(content: bytes) -> Iterator[TrustedKey]:
    document = orjson.loads(content)
    listed = document.get("keys", [document] if "kty" in document else [])
    if not isinstance(listed, list):
        raise ValueError("not a JWK set: keys is no list")
    for source in listed:
        if not isinstance(source, dict):
            raise ValueError("not a JWK set: a key is no object")
        if source.get("use", "sig") == "sig":
            yield _read_jwk(source)


def _read_jwk(source: dict[str, Any]) -> TrustedKey:
    if source.get("kty") == "oct":
        raise ValueError("it holds a symmetric key: whoever can verify with it could also sign")
    if "d" in source:
        raise ValueError("it holds a private key; only public keys belong here")
    stated = source.get("kid")
    names = [stated] if isinstance(stated, str) else []
    try:
        return _trusted(jwk.import_key(source).public_key, *names)
    except (JoseError, TypeError, KeyError) as error:
        raise ValueError(f"not a JWK: {error}") from None


def _trusted(public: object, *names: str) -> TrustedKey:
    """Make a key of its public part only, so that what a JWK says of its use has no effect later."""
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise ValueError("a key is neither RSA, EC nor Ed25519")
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name not in _CURVES:
        raise ValueError(f"no token can be signed on the curve {public.curve.name}")
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < _SMALLEST_RSA_BITS:
        raise ValueError(f"an RSA key has {public.key_size} bits; at least {_SMALLEST_RSA_BITS} are needed")
    key = _key(public)
    return TrustedKey(key, frozenset({libtrust_id(_der(public)), key.thumbprint(), *names}))


def _der(public: Any) -> bytes:
    """Return the DER form of a public key of ``cryptography``, whose hash libtrust takes."""
    return bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _key(public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> Key:
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match public:
            case rsa.RSAPublicKey():
                return RSAKey.import_key(pem)
            case ec.EllipticCurvePublicKey():
                return ECKey.import_key(pem)
            case _:
                return OKPKey.import_key(pem)

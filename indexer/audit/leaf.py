"""What of an entry is hashed: its canonical form, and commitments in place of what is personal. Pure.

The leaf is JSON as RFC 8785 (JCS) writes it, of the entry as it is exported, without

* members that are null, at the top and within ``request`` and ``registry``: so a member that later versions add
  leaves old leaves as they are;
* what is personal: ``actor``, and ``address`` and ``user_agent`` of the request. ``commitments`` stands for them;
* what the export adds for the verifier: ``salts`` and ``leaf_hash``.

A commitment is SHA-256 over a salt of 16 bytes, which the log keeps beside the value, and the values in UTF-8 with
a zero byte between them (no text of ours holds one). Erasing drops value and salt and keeps the commitment: the leaf
stays what it was, and without the salt nobody can find the value by trying.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from indexer.audit.merkle import leaf_hash

SALT_BYTES = 16
PERSONAL = ("address", "user_agent")
"""Of a request."""

_LEFT_OUT = frozenset({"actor", "salts", "leaf_hash", "request", "registry"})


@lru_cache(maxsize=50_000)
def commit(salt: bytes, *values: str) -> str:
    """Return the commitment to values, in hex."""
    return hashlib.sha256(salt + "\x00".join(values).encode("utf-8", "surrogatepass")).hexdigest()


def canonical(entry: Mapping[str, Any]) -> bytes:
    """Return the canonical form of an exported entry."""
    kept = {name: value for name, value in entry.items() if value is not None and name not in _LEFT_OUT}
    request = entry.get("request")
    if request is not None:
        kept["request"] = {
            name: value for name, value in request.items() if value is not None and name not in PERSONAL
        }
    registry = entry.get("registry")
    if registry is not None:
        kept["registry"] = {name: value for name, value in registry.items() if value is not None}
    # Keys are ASCII and numbers whole, for which orjson's sorted form is that of RFC 8785.
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)


def leaf_of(entry: Mapping[str, Any]) -> bytes:
    """Return the leaf hash of an exported entry, its commitments taken for what they say."""
    return leaf_hash(canonical(entry))


def broken_commitment(entry: Mapping[str, Any]) -> str | None:
    """Return what of an entry is not what its commitment says: ``actor`` or ``client``; None: nothing.

    What was erased has no salt any more, and must have no value either.
    """
    commitments, salts = entry.get("commitments") or {}, entry.get("salts") or {}
    actor = entry.get("actor") or {}
    request = entry.get("request") or {}
    committed = (
        ("actor", [actor.get("name")]),
        ("client", [request.get(name) for name in PERSONAL]),
    )
    for subject, values in committed:
        commitment, salt = commitments.get(subject), salts.get(subject)
        if salt is None:
            holds = all(value is None for value in values)
        else:
            texts = ["" if value is None else str(value) for value in values]
            holds = commitment == commit(_salt(salt), *texts)
        if not holds:
            return subject
    return None


def _salt(text: object) -> bytes:
    """Return a salt of an export; what is none opens nothing."""
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""

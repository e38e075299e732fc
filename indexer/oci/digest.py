"""Digests (OCI image spec 1.1, descriptor.md, "Digests"; OCI distribution spec 1.1).

A digest is ``algorithm:encoded``. Accepted are the registered algorithms that Distribution 2.8 and 3.x accept, in lower
case. A registry can have no content under any other text.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

Digest = NewType("Digest", str)
"""A digest that was parsed: ``sha256:<64 hex>`` or ``sha512:<128 hex>``."""

_PATTERN = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")
_TAG_BY_ALGORITHM = {"sha256": b"\x01", "sha512": b"\x02"}
_ALGORITHM_BY_TAG = {1: "sha256", 2: "sha512"}


def parse_digest(text: str) -> Digest:
    """Return ``text`` as a digest; raise ``ValueError`` if it is not one."""
    if not _PATTERN.match(text):
        raise ValueError(f"not a sha256 or sha512 digest: {text[:80]!r}")
    return Digest(text)


def is_digest(text: str) -> bool:
    """Tell whether ``text`` is a digest."""
    return _PATTERN.match(text) is not None


def digest_of(content: bytes) -> Digest:
    """Return the sha256 digest of ``content``, as Distribution computes it: over the raw bytes."""
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def content_matches(content: bytes, digest: Digest) -> bool:
    """Tell whether ``content`` hashes to ``digest``."""
    algorithm, _, encoded = digest.partition(":")
    return hashlib.new(algorithm, content).hexdigest() == encoded


def digest_to_bytes(digest: Digest) -> bytes:
    """Pack a digest into 33 or 65 bytes: one byte for the algorithm, then the hash. The database's form."""
    algorithm, _, encoded = digest.partition(":")
    return _TAG_BY_ALGORITHM[algorithm] + bytes.fromhex(encoded)


def digest_from_bytes(packed: bytes) -> Digest:
    """Undo :func:`digest_to_bytes`."""
    return Digest(f"{_ALGORITHM_BY_TAG[packed[0]]}:{packed[1:].hex()}")

"""Which requests are our own: they carry a signature in the User-Agent that only we can make, valid for one request.

``registry-indexer-reconciler/1.0 (request INSTANT.NONCE.CODE)``: milliseconds since 1970 and a random number, in hex,
and an HMAC over both and the request's method and path. Its key is derived from a secret in the database. A request
that only has our name may be anybody's. The checks, in their order:

1. No signature, or one of another request: not ours.
2. Issued more than ``WINDOW`` before or after the event's own timestamp: not ours; somebody kept it.
3. Used by an event before (``store/own_requests``): not ours; somebody repeated it.

The instant is by the registry's clock, as of its last answer, since the event's timestamp is by that clock, too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from indexer.oci.user_agent import is_ours

WINDOW: Final = timedelta(minutes=5)
"""At most between issue and event: a request may wait until its deadline, and ``Date`` has whole seconds."""

NONCE_BYTES: Final = 16
_CODE_BYTES: Final = 16
_VALUE = re.compile(r" ?\(request (?P<value>[0-9a-f]{1,16}\.[0-9a-f]{32}\.[0-9a-f]{32})\)")


class Claim(StrEnum):
    """What a request with our name is found to be. All but ``OWN`` are noted in its audit entry."""

    OWN = "own"
    UNSIGNED = "unsigned"
    FORGED = "forged"
    OUTDATED = "outdated"
    REPEATED = "repeated"


def key_of(secret: bytes) -> bytes:
    """Return the key that is derived from the database's secret."""
    return hashlib.sha256(b"own requests" + secret).digest()


def signed(key: bytes, *, at: datetime, nonce: bytes, method: str, path: str) -> str:
    """Return the signature of one request: a comment for the User-Agent. ``path`` begins with ``/v2/``."""
    head = f"{round(at.timestamp() * 1000):x}.{nonce.hex()}"
    return f"(request {head}.{_code(key, head, method, path)})"


def split_claim(user_agent: str) -> tuple[str, str | None]:
    """Return a User-Agent without the signature, and the signature: '' if it only has our name, None if it has neither.

    The signature is not stored with the client, since each is another.
    """
    if not is_ours(user_agent):
        return user_agent, None
    found = _VALUE.search(user_agent)
    if found is None:
        return user_agent, ""
    return user_agent[: found.start()] + user_agent[found.end() :], found["value"]


def nonce_of(value: str) -> bytes:
    """Return the random number of a signature."""
    return bytes.fromhex(value.split(".")[1])


def minute_of(value: str) -> int:
    """Return the minute since 1970 in which a signature was issued."""
    return int(value.partition(".")[0], 16) // 60_000


def weigh_claim(value: str, *, key: bytes, method: str, path: str, at: datetime) -> Claim:
    """Check a signature, but not whether it was used before. ``at``: when the request was, by the registry's clock."""
    if not value:
        return Claim.UNSIGNED
    head, _, code = value.rpartition(".")
    if not hmac.compare_digest(code, _code(key, head, method, path)):
        return Claim.FORGED
    issued_at = datetime.fromtimestamp(int(head.partition(".")[0], 16) / 1000, UTC)
    return Claim.OWN if abs(at - issued_at) <= WINDOW else Claim.OUTDATED


def _code(key: bytes, head: str, method: str, path: str) -> str:
    text = f"{head} {method.upper()} {path}".encode()
    return hmac.digest(key, text, "sha256")[:_CODE_BYTES].hex()

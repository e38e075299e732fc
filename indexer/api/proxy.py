"""The proxy in front of the registry, and how it proves itself.

The proxy asks the registry whether a client may read a repository, and passes the client's request on only then. So a
client needs no credentials that we understand: a password, a token of any kind, or nothing where the registry asks for
nothing. What the proxy found out it proves with a secret in a header, of which it removes the client's own copies.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from aiohttp import web
from prometheus_client import Counter

PROXY_HEADER: Final = "X-Indexer-Proxy"

PROOFS = Counter(
    "indexer_proxy_requests_total",
    "Requests that carried the header of the proxy, by whether its secret was ours.",
    ["secret"],
)
for _outcome in ("right", "wrong"):
    PROOFS.labels(_outcome)


class TrustedProxy:
    """Knows the proxy by its secret; ``secret`` None: no proxy is believed."""

    def __init__(self, secret: str | None) -> None:
        self._expected = None if not secret else _hash(secret)

    def vouches(self, request: web.Request) -> bool:
        """Tell whether the proxy sent this: exactly one header, and our secret in it; compared in constant time."""
        given = [value for value in request.headers.getall(PROXY_HEADER, []) if value]
        if not given:
            return False
        right = (
            self._expected is not None
            and len(given) == 1
            and hmac.compare_digest(self._expected, _hash(given[0]))
        )
        PROOFS.labels("right" if right else "wrong").inc()
        return right


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

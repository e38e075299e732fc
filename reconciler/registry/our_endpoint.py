"""Which of a registry's endpoints is the one that posts to us. Pure.

The one that sends our token; else one that posts to a path ``/notifications``; else, where Prometheus shows
counters without configuration, the only one there is.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from reconciler.registry.endpoint_counters import (
    DebugReading,
    DebugSource,
    EndpointConfiguration,
    EndpointReading,
)


def find_ours(reading: DebugReading, *, token: str | None) -> EndpointReading | None:
    """Return the endpoint that posts to us, as far as can be told."""
    for endpoint in reading.endpoints:
        if endpoint.configuration is not None and sends_token(endpoint.configuration, token):
            return endpoint
    for endpoint in reading.endpoints:
        if endpoint.configuration is not None and _posts_to_us(endpoint.configuration):
            return endpoint
    if reading.source is DebugSource.PROMETHEUS and len(reading.endpoints) == 1:
        return reading.endpoints[0]
    return None


def sends_token(configuration: EndpointConfiguration, token: str | None) -> bool:
    """Tell whether one of its Authorization headers is our Bearer token; the scheme ignores case."""
    if token is None:
        return False
    sent = [value.partition(" ") for value in configuration.authorization]
    matches = [
        scheme.lower() == "bearer" and hmac.compare_digest(rest.strip().encode(), token.encode())
        for scheme, _, rest in sent
    ]
    return any(matches)


def _posts_to_us(configuration: EndpointConfiguration) -> bool:
    try:
        return urlsplit(configuration.url).path.rstrip("/").endswith("/notifications")
    except ValueError:
        return False

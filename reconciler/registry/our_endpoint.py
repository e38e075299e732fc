"""Which of a registry's endpoints posts to us. Pure.

The one that sends our token; else one that posts to a path ``/notifications``; else, if Prometheus shows counters
without configuration, the only endpoint.
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
    """Return the endpoint that posts to us; None: none does, or it is not certain which."""
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
    """Return whether one of its Authorization headers has our Bearer token; the case of the scheme is ignored."""
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

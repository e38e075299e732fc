"""Reads the counters of notifications at a registry's debug address (``http.debug.addr``).

``/debug/vars`` (expvar) exists on 2.8 and 3.x, and has each endpoint's configuration beside its counters. ``/metrics``
(Prometheus) has the counters on 3.x alone, without configuration, and only of endpoints that had an event. So expvar is
read first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from indexer.common.errors import RegistryMisbehaved, RegistryUnavailable
from reconciler.registry.endpoint_counters import (
    DebugReading,
    DebugSource,
    parse_expvar,
    parse_expvar_process,
    parse_prometheus,
    parse_prometheus_process,
)

if TYPE_CHECKING:
    import httpx

EXPVAR_PATH: Final = "/debug/vars"
PROMETHEUS_PATH: Final = "/metrics"
LIMIT_BYTES: Final = 16 * 1024 * 1024
"""A registry's metrics are some 100 kB; so much is no registry's."""

DEADLINE_SECONDS: Final = 10.0
"""For one whole reading: httpx's own time-outs begin anew with every byte received."""

_OK: Final = 200
_NOT_FOUND: Final = 404


async def read_debug(
    client: httpx.AsyncClient,
    address: str,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    deadline_seconds: float = DEADLINE_SECONDS,
) -> DebugReading:
    """Read the counters at a debug address, which may end in one of the two paths.

    Raises ``RegistryUnavailable`` if there is no complete answer within the deadline, ``RegistryMisbehaved`` if it is
    no registry's.
    """
    base = address.rstrip("/").removesuffix(EXPVAR_PATH).removesuffix(PROMETHEUS_PATH)
    try:
        async with asyncio.timeout(deadline_seconds):
            return await _read(client, base, clock())
    except TimeoutError as error:
        raise RegistryUnavailable(f"{base}: no whole answer within {deadline_seconds:g} s") from error


async def _read(client: httpx.AsyncClient, base: str, read_at: datetime) -> DebugReading:
    content = await _get(client, base + EXPVAR_PATH)
    if content is not None:
        endpoints, source = parse_expvar(content, url=base + EXPVAR_PATH), DebugSource.EXPVAR
        process = parse_expvar_process(content)
    else:
        content = await _get(client, base + PROMETHEUS_PATH)
        if content is None:
            raise RegistryMisbehaved(f"{base}: neither {EXPVAR_PATH} nor {PROMETHEUS_PATH} is there")
        endpoints, source = parse_prometheus(content, url=base + PROMETHEUS_PATH), DebugSource.PROMETHEUS
        process = parse_prometheus_process(content)
    return DebugReading(address=base, read_at=read_at, source=source, endpoints=endpoints, process=process)


async def _get(client: httpx.AsyncClient, url: str) -> bytes | None:
    """Return the body of a 200, None for a 404."""
    import httpx  # noqa: PLC0415 - loaded by whoever reads a debug address

    try:
        async with client.stream("GET", url, follow_redirects=False) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > LIMIT_BYTES:
                    raise RegistryMisbehaved(f"{url}: more than {LIMIT_BYTES} bytes")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise RegistryMisbehaved(f"{url}: not an address ({error})") from error
    except httpx.HTTPError as error:
        raise RegistryUnavailable(f"{url}: {str(error) or type(error).__name__}") from error
    if response.status_code == _NOT_FOUND:
        return None
    if response.status_code != _OK:
        raise RegistryMisbehaved(f"{url}: {response.status_code}, so it is no registry's debug address")
    return bytes(content)

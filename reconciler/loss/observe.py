"""Reads the debug addresses: our endpoint's counters, or why there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.common.errors import RegistryError
from reconciler.loss.decide import Sample
from reconciler.registry.debug_counters import DEADLINE_SECONDS, read_debug
from reconciler.registry.endpoint_counters import DebugSource, EndpointCounters
from reconciler.registry.our_endpoint import find_ours

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """An address without a reading, and why."""

    because: str


def shown_address(url: str) -> str:
    """Return an address as it may be stored and shown: without a user and password."""
    scheme, separator, rest = url.rstrip("/").rpartition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path


async def sample_all(
    client: httpx.AsyncClient,
    addresses: Sequence[str],
    *,
    token: str | None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> dict[str, Sample | Unread]:
    """Read every address; the keys are the addresses as they are shown.

    One that fails, or answers without end, does not affect the others.
    """
    found = await asyncio.gather(
        *(_sample(client, address, token, deadline_seconds) for address in addresses)
    )
    return dict(zip(map(shown_address, addresses), found, strict=True))


async def _sample(
    client: httpx.AsyncClient, address: str, token: str | None, deadline_seconds: float
) -> Sample | Unread:
    try:
        reading = await read_debug(client, address, deadline_seconds=deadline_seconds)
    except RegistryError as error:
        return Unread(because=str(error).replace(address.rstrip("/"), shown_address(address)))
    ours = find_ours(reading, token=token)
    if ours is not None:
        return Sample(at=reading.read_at, counters=ours.counters, process=reading.process)
    if reading.source is DebugSource.PROMETHEUS and not reading.endpoints:
        return Sample(at=reading.read_at, counters=EndpointCounters(), process=reading.process, blank=True)
    return Unread(because=f"{shown_address(address)}: none of its endpoints is known to be ours")

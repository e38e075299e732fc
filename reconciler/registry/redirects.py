"""Where a redirect of the registry may lead.

With S3, GCS or Azure storage the registry redirects reads of a blob to the storage. Somebody who can change that answer
could direct us into networks that he cannot reach himself: our own loopback, a cloud's metadata service, private
addresses. So a redirect may lead at most as far inward as the registry itself is, by the addresses of its name. Hosts
that the operator configures are not checked.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from enum import IntEnum, unique
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from indexer.common.errors import RegistryMisbehaved

Address = IPv4Address | IPv6Address
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")


@unique
class Reach(IntEnum):
    """How far inward an address lies."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    LINK_LOCAL = 3
    """Also unspecified, multicast and reserved addresses. Metadata services of clouds are here."""


def reach_of(address: Address) -> Reach:
    """Return how far inward an address lies; an IPv4 address embedded in an IPv6 address counts as itself."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _translated(address) or address
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_link_local or address.is_unspecified or address.is_multicast:
        return Reach.LINK_LOCAL
    if address.is_global:
        return Reach.PUBLIC
    return Reach.PRIVATE


def _translated(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address to which NAT64 translates (RFC 6052, the well-known prefix)."""
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _TRANSLATED else None


def parse_host(host: str) -> Address | None:
    """Return the address of a URL's host; None: the host is a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def may_lead(*, registry: Iterable[Address], target: Address) -> bool:
    """Return whether a registry at these addresses may redirect us to ``target``."""
    furthest = max(map(reach_of, registry), default=Reach.PUBLIC)
    return reach_of(target) <= furthest


class GuardedResolver(AbstractResolver):
    """Resolves the hosts of redirects, and returns only addresses that they may lead to.

    The connection uses exactly these addresses, so a name that changes its address in between has no effect.
    """

    def __init__(self, registry_host: str, *, allowed: Sequence[str] = ()) -> None:
        self._registry_host = registry_host
        self._allowed: Final = frozenset(host.lower() for host in allowed)
        self._resolving: AbstractResolver | None = None

    @property
    def _resolver(self) -> AbstractResolver:
        """The system's resolver; made at its first use, since it belongs to a running event loop."""
        if self._resolving is None:
            self._resolving = DefaultResolver()
        return self._resolving

    async def check(self, host: str) -> None:
        """Raise ``RegistryMisbehaved`` for an address that is not permitted; names are checked in ``resolve``."""
        address = parse_host(host)
        if address is not None and not self._is_allowed(host):
            self._refuse_unless(await self._permitted([address]), host)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name; raise ``RegistryMisbehaved`` if none of its addresses is permitted."""
        found = await self._resolver.resolve(host, port, family)
        if self._is_allowed(host):
            return found
        addresses = {each["host"]: parse_host(each["host"]) for each in found}
        permitted = await self._permitted([address for address in addresses.values() if address is not None])
        self._refuse_unless(permitted, host)
        return [each for each in found if addresses[each["host"]] in permitted]

    async def close(self) -> None:
        """Close the system's resolver."""
        if self._resolving is not None:
            await self._resolving.close()

    def _is_allowed(self, host: str) -> bool:
        return host.lower() == self._registry_host.lower() or host.lower() in self._allowed

    async def _permitted(self, targets: Sequence[Address]) -> list[Address]:
        if all(reach_of(target) is Reach.PUBLIC for target in targets):
            return list(targets)
        registry = await self._registry_addresses()
        return [target for target in targets if may_lead(registry=registry, target=target)]

    async def _registry_addresses(self) -> list[Address]:
        literal = parse_host(self._registry_host)
        if literal is not None:
            return [literal]
        found = await self._resolver.resolve(self._registry_host, 0, socket.AF_UNSPEC)
        return [address for each in found if (address := parse_host(each["host"])) is not None]

    @staticmethod
    def _refuse_unless(permitted: Sequence[Address], host: str) -> None:
        if not permitted:
            raise RegistryMisbehaved(
                f"the registry redirects to {host[:200]!r}, an address further inside than its own; if its storage "
                "is there, add the host to RECONCILER_REGISTRY_REDIRECT_HOSTS"
            )

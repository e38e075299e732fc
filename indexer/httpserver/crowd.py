"""All connections of the server: their number, by client, and which one is closed for a new one."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Protocol

from prometheus_client import Counter, Gauge

from indexer.httpserver.limits import Limits

OPEN = Gauge("indexer_connections", "Connections of clients that are open.")
CLOSED = Counter(
    "indexer_connections_closed_total",
    "Connections of clients that the server closed before they were done, by reason.",
    ["reason"],
)
_SUBNET_BITS = 64


class Member(Protocol):
    """A connection."""

    group: str

    @property
    def is_idle(self) -> bool:
        """True while nothing is being answered on it."""
        ...

    def give_way(self) -> None:
        """Close it at once."""
        ...


class Crowd:
    """Connections by address, the one of an address on which nothing arrived for longest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._groups: dict[str, dict[Member, None]] = {}
        self._heads: dict[Member, int] = {}
        self._whole: dict[Member, int] = {}
        self._count = 0
        self._heads_bytes = 0
        self._whole_bytes = 0

    def join(self, member: Member) -> bool:
        """Add a new connection; False where the bound is reached and no connection is idle that could be closed."""
        group = self._groups.get(member.group, {})
        if len(group) >= self._limits.connections_per_address:
            room = self._make_room(group)
        elif self._count >= self._limits.connections:
            room = self._make_room(max(self._groups.values(), key=len))
        else:
            room = True
        if not room:
            CLOSED.labels("crowded").inc()
            return False
        self._groups.setdefault(member.group, {})[member] = None
        self._count += 1
        OPEN.inc()
        return True

    def leave(self, member: Member) -> None:
        """Remove a connection that is closed; one that is not known is no error."""
        self.finish_head(member)
        self._whole_bytes -= self._whole.pop(member, 0)
        group = self._groups.get(member.group, {})
        if member not in group:
            return
        del group[member]
        if not group:
            del self._groups[member.group]
        self._count -= 1
        OPEN.dec()

    def moved(self, member: Member) -> None:
        """Note that something arrived on a connection."""
        group = self._groups.get(member.group)
        if group is not None and member in group:
            del group[member]
            group[member] = None

    def hold_head(self, member: Member, size: int) -> None:
        """Note the bytes of an unfinished head; beyond the bound for all, the connections of the oldest are closed."""
        self._heads_bytes += size - self._heads.get(member, 0)
        self._heads[member] = size  # a known one keeps its place: they are in the order in which they began
        while self._heads_bytes > self._limits.heads_bytes:
            oldest = next(iter(self._heads))
            CLOSED.labels("heads_together_too_large").inc()
            self.leave(oldest)
            oldest.give_way()

    def finish_head(self, member: Member) -> None:
        """Note that a connection has no unfinished head."""
        self._heads_bytes -= self._heads.pop(member, 0)

    def keep_head(self, member: Member, size: int) -> bool:
        """Note a complete long head, kept in memory as long as its connection; False beyond the bound for all."""
        more = size - self._whole.get(member, 0)
        if self._whole_bytes + more > self._limits.heads_bytes:
            return False
        self._whole_bytes += more
        self._whole[member] = size
        return True

    def _make_room(self, group: dict[Member, None]) -> bool:
        for member in group:
            if member.is_idle:
                CLOSED.labels("gave_way").inc()
                self.leave(member)
                member.give_way()
                return True
        return False


def group_of(peername: object) -> str:
    """Return the client of a connection: its address, or of IPv6 its /64, the network of one customer."""
    host = peername[0] if isinstance(peername, tuple) and peername else ""
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return str(host)
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> _SUBNET_BITS:x}/64"

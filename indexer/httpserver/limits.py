"""The limits before authentication, and how many connections the process may open."""

from __future__ import annotations

import resource
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

RESERVED_FILES = 128
"""Open files other than clients' connections: database, spool, log files, feeds."""

FEWEST_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on heads and connections in one process.

    A head is the request line and all header fields. Trailers of a chunked body count as a head.
    """

    head_bytes: int = 64 * KIB
    """Of a head without its ``Authorization`` fields; more is answered with 431."""
    authorization_bytes: int = MIB + 16 * KIB
    """Of its ``Authorization`` fields: the registry takes tokens of 1 MiB, and one that is a little longer gets
    a refusal that says so."""
    head_fields: int = 64
    """Header fields of a request; more are answered with 400."""
    head_seconds: float = 10.0
    """From the first byte of a head to its last; 408 after that. nginx forwards only complete heads."""
    heads_bytes: int = 16 * MIB
    """Of all unfinished heads together; beyond it the connection of the oldest one is closed."""
    connections: int = 4096
    """Open at a time. Beyond it an idle one is closed for a new one."""
    connections_per_address: int = 3072
    """Of one address (of IPv6: one /64), so that no client has them all. A proxy has one address, too."""
    lasting_head_bytes: int = 8 * KIB
    """After a longer head the connection is closed: aiohttp keeps a request in memory until the next one comes."""
    linger_seconds: float = 1.0
    """How long the rest of a request is still read after it was answered, so that the client gets the answer."""


def limits_for(connections: int) -> Limits:
    """Return the limits for so many connections, or fewer where the process may not open as many files.

    First raises the soft limit on open files to the hard one; nothing here uses ``select``, which could not take it.
    """
    possible = max(_open_files() - RESERVED_FILES, FEWEST_CONNECTIONS)
    most = min(connections, possible)
    return Limits(connections=most, connections_per_address=max(most * 3 // 4, 1))


def _open_files() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
        soft = hard
    return 2**31 if soft == resource.RLIM_INFINITY else soft

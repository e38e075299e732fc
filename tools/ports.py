"""Free ports of 127.0.0.1 for servers whose port is chosen before they listen: the demo's, the tests', the benchmarks'.

A port that was given out stays this process's until it ends, so that its server may go away and come back while test
processes run beside each other: the same number is held for UDP, which nobody here speaks. Ports lie below those that
the system gives to clients, which would otherwise take one while its server is away.
"""

from __future__ import annotations

import contextlib
import random
import socket

FIRST, LAST, TRIES = 10240, 32000, 1000
"""Linux gives 32768 and above to clients, macOS and BSD 49152 and above."""

_held: list[socket.socket] = []


def free_port() -> int:
    """Find a port that nobody uses and nobody else will be given while this process runs."""
    for port in random.SystemRandom().sample(range(FIRST, LAST), TRIES):
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if _binds(held, port) and _is_free(port):
            _held.append(held)
            return port
        held.close()
    raise OSError("no port of 127.0.0.1 is free")


def free_ports(count: int) -> list[int]:
    """Find so many of them; no two are the same."""
    return [free_port() for _ in range(count)]


def release_ports() -> None:
    """Let go of all that were given out."""
    while _held:
        _held.pop().close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what has ended is free
        return _binds(probe, port)


def _binds(probe: socket.socket, port: int) -> bool:
    with contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False

"""Free ports of 127.0.0.1 for servers that are told theirs before they listen: the demo's, the tests', the benchmarks'.

A port that was given out stays this process's until it ends, so that it can be let go and taken again (a server that
restarts) while test processes run beside each other. Ports lie below those that the system gives to clients, which
would otherwise take one while its server is away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

FIRST, LAST, TRIES = 10240, 32000, 1000
"""Linux gives 32768 and above to clients, macOS and BSD 49152 and above."""

_held: list[int] = []
"""Descriptors of the lock files; closed, and so unlocked, when the process ends."""


def free_port() -> int:
    """Find a port that nobody uses and nobody else will be given while this process runs."""
    directory = Path(tempfile.gettempdir()) / f"registry-indexer-ports-{os.geteuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    for port in random.SystemRandom().sample(range(FIRST, LAST), TRIES):
        lock = os.open(directory / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        if _is_free(port):
            _held.append(lock)
            return port
        os.close(lock)
    raise OSError("no port of 127.0.0.1 is free")


def free_ports(count: int) -> list[int]:
    """Find so many of them; no two are the same."""
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: what has ended counts as free
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False

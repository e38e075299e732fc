"""Logs of a daemon, written by a thread of their own.

A write to standard error waits for whoever reads it: a container's log driver, a terminal, a disk that is busy. On the
event loop everything waited with it, ``/readyz`` and deliveries included, for as long as nobody read (seen: 64 KiB of
lines fill a pipe).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, Final

import structlog
from prometheus_client import Counter

MAX_WAITING_BYTES: Final = 1024 * 1024
"""Lines beyond it are dropped, and counted."""

FLUSH_SECONDS: Final = 2.0
"""How long the end waits for lines to be written."""

DROPPED = Counter(
    "indexer_log_lines_dropped_total",
    "Log lines that were dropped, since standard error was not read in time.",
)


@contextmanager
def logs_in_a_thread() -> Iterator[None]:
    """Write logs in a thread while the block runs; ``configure_logs`` has set them up before."""
    root = logging.getLogger()
    direct = next(each for each in root.handlers if type(each) is logging.StreamHandler)
    threaded = _ThreadedHandler(direct)
    root.removeHandler(direct)
    root.addHandler(threaded)
    try:
        yield
    finally:
        root.removeHandler(threaded)
        root.addHandler(direct)
        threaded.close()


class _ThreadedHandler(logging.Handler):
    """Formats records as another handler does, and has a thread write them to its stream."""

    def __init__(self, direct: logging.StreamHandler[Any]) -> None:
        super().__init__()
        self._direct = direct
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_lines, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and queue the line unless too much waits."""
        try:
            line = (self._direct.format(record) + "\n").encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)
            return
        # ``handle`` holds the handler's lock.
        if self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self._dropped += 1
            DROPPED.inc()
            return
        self._waiting_bytes += len(line)
        self._lines.put(line)

    def close(self) -> None:
        """Write what waits, for ``FLUSH_SECONDS`` at most."""
        self._lines.put(None)
        self._thread.join(FLUSH_SECONDS)
        super().close()

    def _write_lines(self) -> None:
        # Not through the stream's own buffer: its lock, held in a write that waits, would stop the interpreter's end.
        descriptor = self._direct.stream.fileno()
        while (line := self._lines.get()) is not None:
            with suppress(OSError):  # nobody can be told
                _write(descriptor, line)
            if dropped := self._written(line):
                structlog.get_logger().warning("log_lines_dropped", lines=dropped)

    def _written(self, line: bytes) -> int:
        """Count a line no longer; return how many were dropped, once there is room again to say so."""
        self.acquire()
        try:
            self._waiting_bytes -= len(line)
            if self._waiting_bytes > MAX_WAITING_BYTES / 2:
                return 0
            dropped, self._dropped = self._dropped, 0
            return dropped
        finally:
            self.release()


def _write(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]

"""Logs of a daemon, written by a thread of their own.

A write to standard error waits for whoever reads it: a container's log driver, a terminal, a disk that is busy. On the
event loop everything waited with it, ``/readyz`` and deliveries included, for as long as nobody read (64 KiB of lines
fill a pipe).

Lines keep their order. At most ``MAX_WAITING_BYTES`` wait; of what comes beyond, the lines are counted, and the
count is logged once there is room again. A process that was forked writes its own lines by a thread of its own; those
that waited at the fork are its parent's.
"""

from __future__ import annotations

import io
import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

import structlog
from prometheus_client import Counter

MAX_WAITING_BYTES: Final = 1024 * 1024
"""Lines beyond it are dropped, and counted."""

FLUSH_SECONDS: Final = 2.0
"""How long the end waits for lines to be written."""

DROPPED = Counter(
    "indexer_log_lines_dropped_total",
    "Log lines that were dropped, since standard error was not read in time or could not be written.",
)


@contextmanager
def logs_in_a_thread() -> Iterator[None]:
    """Write logs in a thread while the block runs; ``configure_logs`` has set them up before.

    If what waits cannot be written at the end, later lines are dropped: they would wait for ever, too.
    """
    root = logging.getLogger()
    direct = next(each for each in root.handlers if type(each) is logging.StreamHandler)
    descriptor = _descriptor(direct)
    if descriptor is None:  # not a file: nobody to wait for
        yield
        return
    threaded = _ThreadedHandler(direct, descriptor)
    root.removeHandler(direct)
    root.addHandler(threaded)
    try:
        yield
    finally:
        written = threaded.finish()
        root.removeHandler(threaded)
        root.addHandler(direct if written else logging.NullHandler())
        if written:
            threaded.write_rest()


def _descriptor(handler: logging.StreamHandler[Any]) -> int | None:
    try:
        handler.flush()
        return int(handler.stream.fileno())
    except (AttributeError, io.UnsupportedOperation):
        return None


class _ThreadedHandler(logging.Handler):
    """Formats records as another handler does, and has a thread write them to its stream's file.

    Not through the stream's own buffer: its lock, held in a write that waits, would stop the interpreter's end.
    """

    def __init__(self, direct: logging.StreamHandler[Any], descriptor: int) -> None:
        super().__init__()
        self._direct = direct
        self._descriptor = descriptor
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._dropped = 0
        # A daemon: where nobody reads, it must not keep the process from ending.
        self._thread = threading.Thread(target=self._write_lines, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and queue the line unless too much waits."""
        # ``handle`` holds the handler's lock, which the standard library makes anew in a forked process.
        if self._process != os.getpid():
            self._start()
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)
            return
        if self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self._dropped += 1
            DROPPED.inc()
            return
        self._waiting_bytes += len(line)
        self._lines.put(line)

    def finish(self) -> bool:
        """Write what waits, for ``FLUSH_SECONDS`` at most; return whether all of it was written."""
        if self._process != os.getpid():
            return True  # forked, and nothing was logged since
        self._lines.put(None)
        self._thread.join(FLUSH_SECONDS)
        return not self._thread.is_alive()

    def write_rest(self) -> None:
        """Write what was queued behind the end: the last report, and lines of other threads."""
        with suppress(Empty):
            while True:
                self._write(self._lines.get_nowait() or b"")

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self._direct.format(record) + "\n").encode("utf-8", "backslashreplace")

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            self._report(self._written(line))
        self._report(self._written(b""))
        self.write_rest()

    def _write(self, line: bytes) -> None:
        try:
            _write_all(self._descriptor, line)
        except (
            OSError
        ):  # a full disk, a closed pipe: counted, but not reported, since that would fail as well
            DROPPED.inc()

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

    def _report(self, dropped: int) -> None:
        if dropped:
            structlog.get_logger().warning("log_lines_dropped", lines=dropped)


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        try:
            line = line[os.write(descriptor, line) :]
        except BlockingIOError:  # whoever shares the pipe or terminal made it non-blocking
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()

"""A syslog sink: RFC 5424 messages over TLS (RFC 5425) or TCP, each with its length before it (octet counting).

Syslog has no acknowledgement. So a batch counts as delivered only when the receiver's kernel has all of it (on Linux;
elsewhere, when ours has), and where a connection broke the batch before is sent once more, since the receiver may
not have read it. What it read and then lost, no sender can know.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import suppress

from indexer import __version__
from indexer.audit.cloudevents import DeliveredEvent
from indexer.common.errors import SinkUnavailable
from indexer.common.one_thread import OneThread
from indexer.common.values import parse_address
from indexer.feeds.config import SyslogFeed
from indexer.feeds.tls import tls_context
from indexer.store.pool import describe

INFORMATIONAL = 6
POLL_AGAIN_SECONDS = 0.002
COUNTED_BY_LINUX = sys.platform == "linux"
"""TIOCOUTQ on a TCP socket is what the other side has not acknowledged (tcp(7)); no other system has it."""


def open_sink(feed: SyslogFeed) -> SyslogSink:
    """Return the sink of a feed; raise ``ConfigurationError`` where its files cannot be used."""
    return SyslogSink(feed, tls_context(feed) if feed.transport == "tls" else None)


class SyslogSink:
    """The sink of one feed. Blocking sockets in a thread: only there can be asked what has been acknowledged."""

    def __init__(self, feed: SyslogFeed, context: ssl.SSLContext | None) -> None:
        self.largest_batch = feed.batch
        self._feed = feed
        self._context = context
        self._seconds = feed.timeout.total_seconds()
        self._thread = OneThread(f"feed {feed.name}")  # a cancelled delivery still runs to its end
        self._socket: socket.socket | None = None
        self._before = b""

    async def deliver(self, events: Sequence[DeliveredEvent], *, replay: int) -> None:  # noqa: ARG002 - receivers do not tell
        """Send a batch, and wait until the other side has it."""
        data = b"".join(framed(message(event, self._feed)) for event in events)
        await self._thread.run(self._deliver, data)

    async def begin_replay(self, replay: int) -> None:
        """Nothing to prepare: a receiver does not know what it had."""

    async def close(self) -> None:
        """Close the connection."""
        await self._thread.run(self._close)

    def _deliver(self, data: bytes) -> None:
        until = time.monotonic() + self._seconds
        try:
            if self._socket is not None and _is_closed(self._socket):
                self._shut()
            if self._socket is None:
                self._socket = self._connect()
                _send(self._socket, self._before, until)
            _send(self._socket, data, until)
        except OSError as error:
            self._shut()
            raise SinkUnavailable(f"the receiver does not take it: {describe(error)}") from error
        self._before = data

    def _connect(self) -> socket.socket:
        host, port = parse_address(self._feed.address)
        plain = socket.create_connection((host, port), timeout=self._seconds)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.settimeout(self._seconds)
                if isinstance(self._socket, ssl.SSLSocket):
                    self._socket.unwrap()  # close_notify: the receiver knows that it has everything
        self._shut()
        self._before = b""

    def _shut(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def message(event: DeliveredEvent, feed: SyslogFeed) -> bytes:
    """Return an event as an RFC 5424 message: action as MSGID, the CloudEvent as MSG."""
    priority = feed.facility * 8 + INFORMATIONAL
    header = " ".join(
        (
            f"<{priority}>1",
            event.entry["occurred_at"],
            socket.gethostname()[:255] or "-",
            feed.app_name,
            "-",
            event.entry["action"][:32],
            f'[origin software="registry-indexer" swVersion="{__version__}"]',
        )
    )
    return header.encode("ascii", "replace") + b" " + event.body


def framed(data: bytes) -> bytes:
    """Return a message with its length before it (RFC 6587 section 3.4.1, RFC 5425 section 4.3)."""
    return f"{len(data)} ".encode() + data


def _send(connected: socket.socket, data: bytes, until: float) -> None:
    view = memoryview(data)
    while view:
        connected.settimeout(_left(until))
        view = view[connected.send(view) :]
    while COUNTED_BY_LINUX and _unacknowledged(connected):
        _left(until)
        time.sleep(POLL_AGAIN_SECONDS)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("it takes too long")
    return left


def _unacknowledged(connected: socket.socket) -> int:
    answer = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])


def _is_closed(connected: socket.socket) -> bool:
    """Tell whether the receiver has closed: nothing else ever comes from it."""
    connected.settimeout(0)
    try:
        return connected.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True

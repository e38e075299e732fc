"""A file sink: NDJSON, one CloudEvent a line, synced to the disk before the cursor moves.

The last whole line says how far the file is: after a crash between the write and the cursor's move the file goes
on behind it, and what was begun and not ended of a line is cut off. So the file has each entry once, in order. It
is rotated before a batch is written, never after: an empty or missing file holds nothing that the cursor lacks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from glob import escape
from pathlib import Path

import orjson

from indexer.audit.cloudevents import DeliveredEvent
from indexer.common.errors import SinkUnavailable
from indexer.common.one_thread import OneThread
from indexer.feeds.config import FileFeed

MODE = 0o640
TAIL_BYTES = 64 * 1024


def open_sink(feed: FileFeed) -> FileSink:
    """Return the sink of a feed."""
    return FileSink(feed.path, rotate_bytes=feed.rotate_bytes, keep=feed.keep, batch=feed.batch)


class FileSink:
    """The sink of one feed. At most one process writes to a file: it holds a lock on ``<path>.lock``."""

    def __init__(self, path: Path, *, rotate_bytes: int, keep: int | None, batch: int) -> None:
        self.largest_batch = batch
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._thread = OneThread(f"feed file {path}")  # a cancelled delivery still runs to its end
        self._lock: int | None = None
        self._file: int | None = None
        self._bytes = 0
        self._last: tuple[str, str] | None = None

    async def deliver(self, events: Sequence[DeliveredEvent], *, replay: int) -> None:  # noqa: ARG002 - see begin_replay
        """Append what the file does not have yet, and sync it."""
        await self._thread.run(self._translated, lambda: self._append(events))

    async def begin_replay(self, replay: int) -> None:  # noqa: ARG002 - which one it is makes no difference
        """Begin a new file, so that each is in the log's order."""
        await self._thread.run(self._translated, self._begin_anew)

    async def close(self) -> None:
        """Let another process write."""
        await self._thread.run(self._translated, self._close)

    def _translated(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._close()
            raise SinkUnavailable(f"{error.filename or self._path}: {error.strerror or error}") from error

    def _append(self, events: Sequence[DeliveredEvent]) -> None:
        self._open()
        new = [event for event in events if self._is_new(event)]
        if not new:
            return
        lines = b"".join(event.body + b"\n" for event in new)
        if self._bytes and self._bytes + len(lines) > self._rotate_bytes:
            self._rotate()
            self._open()
        assert self._file is not None  # noqa: S101 - opened above
        try:
            _write_all(self._file, lines)
            os.fsync(self._file)
        except OSError:
            with suppress(
                OSError
            ):  # what could not be written whole is taken back, or cut off when next opened
                os.ftruncate(self._file, self._bytes)
            raise
        self._bytes += len(lines)
        self._last = _mark(new[-1].id)

    def _is_new(self, event: DeliveredEvent) -> bool:
        log, sequence = _mark(event.id)
        return self._last is None or self._last[0] != log or sequence > self._last[1]

    def _open(self) -> None:
        """Open the file, unless it is open and still the one at the path: others may rotate it, too."""
        if self._lock is None:
            self._lock = _locked(self._path.with_name(self._path.name + ".lock"))
        if self._file is not None and _same(self._file, self._path):
            return
        self._close_file()
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, MODE)
        _sync_directory(self._path.parent)
        self._bytes, last = _whole(self._file)
        if self._bytes != os.fstat(self._file).st_size:
            os.ftruncate(self._file, self._bytes)
            os.fsync(self._file)
        self._last = None if last is None else _mark_of_line(last)

    def _begin_anew(self) -> None:
        self._open()
        if self._bytes:
            self._rotate()

    def _rotate(self) -> None:
        self._close_file()
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self._path.rename(self._path.with_name(f"{self._path.name}.{stamp}"))
        _sync_directory(self._path.parent)
        if self._keep is not None:
            for old in rotated(self._path)[: -self._keep]:
                old.unlink(missing_ok=True)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file, self._last, self._bytes = None, None, 0

    def _close(self) -> None:
        self._close_file()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def rotated(path: Path) -> list[Path]:
    """Return the rotated files of a path, the oldest first."""
    stamped = f"{escape(path.name)}.[0-9]*T[0-9]*Z"
    return sorted(path.parent.glob(stamped))


def _mark(event: str) -> tuple[str, str]:
    log, _, sequence = event.rpartition("/")
    return log, sequence


def _mark_of_line(line: bytes) -> tuple[str, str] | None:
    try:
        return _mark(str(orjson.loads(line)["id"]))
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None  # not a line of ours: nothing is known of what the file has


def _whole(file: int) -> tuple[int, bytes | None]:
    """Return how many bytes of a file are whole lines, and the last of them."""
    end = os.fstat(file).st_size
    tail = b""
    at = end
    while at > 0 and tail.count(b"\n") < 2:  # noqa: PLR2004 - the ends of the last whole line and of the one before
        size = min(TAIL_BYTES, at)
        at -= size
        tail = os.pread(file, size, at) + tail
    whole = tail[: tail.rfind(b"\n") + 1]
    if not whole:
        return 0, None
    return at + len(whole), whole[:-1].rpartition(b"\n")[2]


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SinkUnavailable(f"another process holds {path}") from error
    return lock


def _sync_directory(directory: Path) -> None:
    held = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)

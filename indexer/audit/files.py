"""Files that hold entries: what exists is never lost, and what is written has its name only once it is whole.

Entries name people, so these files are for their owner and group, like those of the file sink.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from indexer.common.errors import ConfigurationError

MODE = 0o640
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStanding:
    """What an export holds: positions of its first and last entry; the entries themselves where it is NDJSON."""

    first: int
    last: int
    first_entry: dict[str, Any] | None = None
    last_entry: dict[str, Any] | None = None

    @property
    def provable(self) -> bool:
        """Whether its entries have what a verifier needs."""
        entries = (self.first_entry, self.last_entry)
        return all(entry is not None and "commitments" in entry and "salts" in entry for entry in entries)


def create(path: Path) -> BinaryIO:
    """Open a file for writing that is not there yet, for owner and group; what is left of an earlier try is removed."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb")


@contextmanager
def whole(target: Path) -> Iterator[BinaryIO]:
    """Write a file that appears under its name, or takes the place of what has it, once it is whole and on disk.

    A device or a pipe is written to as it is. Raises ``ConfigurationError`` where it cannot be written.
    """
    if target.exists() and not target.is_file():
        with _told(target), target.open("wb") as file:
            yield file
        return
    target = target.resolve()  # through a link, to what it names
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        with _told(target):
            with create(unfinished) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def appended(target: Path) -> Iterator[BinaryIO]:
    """Write behind what a file holds; what was not written whole is taken back. Raises ``ConfigurationError``."""
    with _told(target), target.open("ab") as file:
        size = file.tell()
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                file.flush()
            os.ftruncate(file.fileno(), size)
            raise


def find_standing(path: Path, *, format: Literal["ndjson", "csv"]) -> FileStanding | None:  # noqa: A002 - the flag's name
    """Return what an export holds; None: no entry. Raises ``ConfigurationError`` where it is no export."""
    with _told(path, "read"), path.open("rb") as file:
        head = file.readline()
        if format == "csv" and head.startswith(b"position,"):
            head = file.readline()
        if not head:
            return None
        last = _last_line(file)
    if not last.endswith(b"\n"):
        raise ConfigurationError(f"{path} ends within a line, which was not written whole: take it out first")
    return standing_of(head, last, format=format, path=path)


def standing_of(first: bytes, last: bytes, *, format: Literal["ndjson", "csv"], path: Path) -> FileStanding:  # noqa: A002 - the flag's name
    """Return what an export holds by its first and its last line. Raises ``ConfigurationError`` where they are none."""
    entries = [None, None] if format == "csv" else [_entry(first), _entry(last)]
    positions = (
        [_number(line) for line in (first, last)]
        if format == "csv"
        else [None if entry is None else entry.get("position") for entry in entries]
    )
    begin, end = positions
    if not isinstance(begin, int) or not isinstance(end, int) or not 0 < begin <= end:
        raise ConfigurationError(f"{path} holds something else than an export as {format}")
    return FileStanding(first=begin, last=end, first_entry=entries[0], last_entry=entries[1])


def _last_line(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    tail, start = b"", size
    while start > 0 and b"\n" not in tail[:-1]:
        start = max(0, start - TAIL_BYTES)
        file.seek(start)
        tail = file.read(size - start)
    return tail[tail[:-1].rfind(b"\n") + 1 :]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _number(line: bytes) -> int | None:
    text = line.partition(b",")[0]
    return int(text) if text.isdigit() else None


@contextmanager
def _told(path: Path, what: str = "written") -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has gone, which is no fault of the file
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be {what}: {error.strerror or error}") from None

"""Files of an older history, line by line, in bounded memory: plain or gzip, by content."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from indexer.common.errors import ConfigurationError
from indexer.ingest.envelope import parse_json

MAX_LINE_BYTES = 16 * 1024 * 1024
"""As for a delivery at the endpoint."""

GZIP = b"\x1f\x8b"

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Of a file that is one JSON document; a file of lines may be of any length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """A JSON value and the line it began on; or why there is none."""

    number: int
    value: Any = None
    refused: str | None = None


def read_lines(file: BinaryIO, *, name: str) -> Iterator[HistoryLine]:
    """Read one JSON value a line; or, where the first line is no JSON by itself, the whole file as one document.

    Raises ``ConfigurationError`` where the file cannot be read to its end.
    """
    try:
        yield from _values(_decompressed(file))
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{name} cannot be read: {error}") from error


def _decompressed(file: BinaryIO) -> io.BufferedIOBase:
    head = file.read(len(GZIP))
    whole = io.BufferedReader(_Again(head, file), buffer_size=1 << 16)
    return gzip.GzipFile(fileobj=whole) if head == GZIP else whole


class _Again(io.RawIOBase):
    """A stream whose first bytes were read already: standard input cannot be rewound."""

    def __init__(self, head: bytes, rest: BinaryIO | io.BufferedIOBase) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._head or self._rest.read(len(buffer))
        taken, self._head = part[: len(buffer)], part[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _values(file: io.BufferedIOBase) -> Iterator[HistoryLine]:
    number = 0
    while first := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if first.strip():
            break
    if not first:
        return
    begins = _line(number, first)
    if begins.refused is None:
        yield from _after(begins, first, file)
        return
    rest = file.read(MAX_DOCUMENT_BYTES - len(first))
    try:
        whole = parse_json(first + rest) if not file.peek(1) else None  # type: ignore[attr-defined]  # both have it
    except ValueError:
        whole = None
    if whole is not None:
        for value in whole if isinstance(whole, list) else [whole]:
            yield HistoryLine(number=number, value=value)
        return
    again = io.BufferedReader(_Again(rest, file))
    yield from _after(begins, first, again)


def _after(begins: HistoryLine, first: bytes, file: io.BufferedIOBase) -> Iterator[HistoryLine]:
    """Yield a line that was read, and all that follow it."""
    number, line, read = begins.number, first, begins
    while True:
        if len(line) > MAX_LINE_BYTES:
            yield HistoryLine(number=number, refused=f"longer than {MAX_LINE_BYTES} bytes")
            _skip(line, file)
        elif line.strip():
            yield read
        line = file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        number += 1
        read = _line(number, line)


def _skip(line: bytes, file: io.BufferedIOBase) -> None:
    """Read on to the end of a line that is too long."""
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_LINE_BYTES)


def _line(number: int, line: bytes) -> HistoryLine:
    if len(line) > MAX_LINE_BYTES:
        return HistoryLine(number=number, refused="too long")
    if not line.strip():
        return HistoryLine(number=number)
    try:
        return HistoryLine(number=number, value=parse_json(line))
    except ValueError as error:
        return HistoryLine(number=number, refused=str(error))

"""Counts the bytes of a head while it arrives: those of its ``Authorization`` fields, and all others."""

from __future__ import annotations

from collections.abc import Iterable

_AUTHORIZATION = b"authorization:"
_FIELD = b"\n" + _AUTHORIZATION


class HeadWeight:
    """Bytes of a head that have arrived. Pieces may be cut anywhere."""

    __slots__ = ("_line", "authorization", "others")

    def __init__(self) -> None:
        self.authorization = 0
        self.others = 0
        self._line = b""  # the beginning of the current line, long enough to know the field

    @property
    def total(self) -> int:
        """All bytes."""
        return self.authorization + self.others

    def add(self, piece: bytes) -> None:
        """Count a piece: the rest of a line, whole lines, the beginning of another."""
        first = piece.find(b"\n") + 1
        self._count(piece, 0, first or len(piece))
        if first:
            last = piece.rfind(b"\n") + 1
            self._count_lines(piece[first:last])
            self._line = b""
            self._count(piece, last, len(piece))

    def _count_lines(self, lines: bytes) -> None:
        """Count whole lines, without going through them: there may be 64 Ki of them in a piece, and nothing else."""
        text = b"\n" + lines.lower()
        authorization, found = 0, text.find(_FIELD)
        while found >= 0:
            end = text.find(b"\n", found + 1)
            authorization += end - found
            found = text.find(_FIELD, end)
        self.authorization += authorization
        self.others += len(lines) - authorization

    def _count(self, piece: bytes, begin: int, end: int) -> None:
        """Count a part of one line."""
        missing = len(_AUTHORIZATION) - len(self._line)
        if missing > 0:
            self._line += piece[begin : min(end, begin + missing)]
        if self._line.lower() == _AUTHORIZATION:
            self.authorization += end - begin
        else:
            self.others += end - begin


def weight_of(fields: Iterable[tuple[bytes, bytes]]) -> HeadWeight:
    """Return the bytes of header fields by name and value, as they were sent but for spaces."""
    weight = HeadWeight()
    for name, value in fields:
        size = len(name) + len(value) + len(b": \r\n")
        if name.lower() + b":" == _AUTHORIZATION:
            weight.authorization += size
        else:
            weight.others += size
    return weight

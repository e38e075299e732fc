"""Counts the bytes of a head while it arrives: those of its ``Authorization`` fields, and all others."""

from __future__ import annotations

from collections.abc import Iterable

_AUTHORIZATION = b"authorization:"


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
        """Count a piece."""
        begin = 0
        while begin < len(piece):
            end = piece.find(b"\n", begin) + 1
            self._count(piece, begin, end or len(piece))
            if not end:
                return
            self._line = b""
            begin = end

    def _count(self, piece: bytes, begin: int, end: int) -> None:
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

"""The tag names of one repository, packed so that a million take little more memory than their text.

A Python set of a million short strings takes about 100 MB, their text a tenth of that. Tag names contain no line break,
so they are kept as blocks of lines, sorted by byte as PostgreSQL sorts them (``COLLATE "C"``).
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final

from indexer.oci.reference import TagName, parse_tag_name

BLOCK: Final = 1000
INVALID_KEPT: Final = 1000
"""Invalid names that are kept; real storage has a few (``@eaDir``, ``.DS_Store``)."""
SHOWN: Final = 5
SHOWN_LENGTH: Final = 80
_LINE: Final = re.compile(rb"[^\n]+")


class TagNames(Collection[TagName]):
    """Sorted names, each once; made by :meth:`of` or by a :class:`Collector`."""

    __slots__ = ("_blocks", "_firsts", "_length")

    def __init__(self, blocks: Iterable[list[str]] = ()) -> None:
        self._blocks: list[bytes] = []
        self._firsts: list[str] = []
        self._length = 0
        for block in blocks:
            self._blocks.append("\n".join(block).encode())
            self._firsts.append(block[0])
            self._length += len(block)

    @classmethod
    def of(cls, names: Iterable[TagName]) -> TagNames:
        """Pack names that are few enough to be sorted at once."""
        return cls(_in_blocks(iter(sorted(set(names)))))

    def __len__(self) -> int:
        """Return how many there are."""
        return self._length

    def __iter__(self) -> Iterator[TagName]:
        """Yield the names in order."""
        for block in self._blocks:
            for name in block.decode().split("\n"):
                yield TagName(name)

    def __contains__(self, name: object) -> bool:
        """Return whether a name is one of them."""
        if not isinstance(name, str):
            return False
        at = bisect_right(self._firsts, name) - 1
        return at >= 0 and name.encode() in self._blocks[at].split(b"\n")

    def __repr__(self) -> str:
        """Show a few."""
        shown = ", ".join(islice(self, 5))
        return f"TagNames({shown}{', …' if len(self) > 5 else ''})"  # noqa: PLR2004 - as many as above


class Collector:
    """Collects names as a registry lists them: in any order, some twice, some invalid."""

    def __init__(self) -> None:
        self._runs: list[bytes] = []
        self._taken = set[int]()
        self._size_bytes = 0
        self._invalid: set[str] = set()
        self._invalid_count = 0

    def add(self, texts: Iterable[str]) -> bool:
        """Add names, few enough to be sorted at once; return False if exactly these were added before."""
        names: set[TagName] = set()
        invalid_before = self._invalid_count
        for text in texts:
            self._size_bytes += len(text)
            try:
                names.add(parse_tag_name(text))
            except ValueError:
                self._leave_out(text)
        if not names:
            return self._invalid_count > invalid_before
        run = "\n".join(sorted(names)).encode()
        if hash(run) in self._taken and run in self._runs:
            return False
        self._taken.add(hash(run))
        self._runs.append(run)
        return True

    def _leave_out(self, text: str) -> None:
        """Count a stray file or directory of the storage; the first ones are kept, so that a repeat counts once."""
        if text in self._invalid:
            return
        self._invalid_count += 1
        if len(self._invalid) < INVALID_KEPT:
            self._invalid.add(text)

    @property
    def size_bytes(self) -> int:
        """The length of all names added, repeats included."""
        return self._size_bytes

    @property
    def invalid(self) -> int:
        """The number of invalid names."""
        return self._invalid_count

    @property
    def invalid_examples(self) -> tuple[str, ...]:
        """The first few of them, sorted, each cut to a length that can be shown."""
        return tuple(text[:SHOWN_LENGTH] for text in sorted(self._invalid)[:SHOWN])

    def names(self) -> TagNames:
        """Return the valid names, packed."""
        return TagNames(_in_blocks(_without_repeats(heapq.merge(*map(_lines, self._runs)))))


def _lines(run: bytes) -> Iterator[str]:
    """Yield the lines one by one: all at once as strings they would take ten times the memory."""
    return (line.group().decode() for line in _LINE.finditer(run))


def _without_repeats(ordered: Iterable[str]) -> Iterator[str]:
    last = ""
    for name in ordered:
        if name != last:
            yield name
        last = name


def _in_blocks(ordered: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(ordered, BLOCK)):
        yield block

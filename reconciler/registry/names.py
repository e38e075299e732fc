"""The tags of one repository, so packed that a million take little more than their text.

A set of a million short texts takes about 100 MB of a process, their text a tenth of it. Names of tags hold no line
break, so they are kept in blocks of lines, sorted by byte as PostgreSQL sorts them (``COLLATE "C"``).
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
ODD_KEPT: Final = 1000
"""Names that are no tags' and are remembered; real storage has a handful (``@eaDir``, ``.DS_Store``)."""
SHOWN: Final = 5
SHOWN_LENGTH: Final = 80
_LINE: Final = re.compile(rb"[^\n]+")


class TagNames(Collection[TagName]):
    """Names sorted, each once; made by :meth:`of` or by a :class:`Collector`."""

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
        """Give the names in order."""
        for block in self._blocks:
            for name in block.decode().split("\n"):
                yield TagName(name)

    def __contains__(self, name: object) -> bool:
        """Tell whether a name is one of them."""
        if not isinstance(name, str):
            return False
        at = bisect_right(self._firsts, name) - 1
        return at >= 0 and name.encode() in self._blocks[at].split(b"\n")

    def __repr__(self) -> str:
        """Show a few."""
        shown = ", ".join(islice(self, 5))
        return f"TagNames({shown}{', …' if len(self) > 5 else ''})"  # noqa: PLR2004 - as many as above


class Collector:
    """Takes texts as a registry lists them, in any order, some twice, some no tags."""

    def __init__(self) -> None:
        self._runs: list[bytes] = []
        self._taken = set[int]()
        self._size_bytes = 0
        self._odd: set[str] = set()
        self._odd_count = 0

    def add(self, texts: Iterable[str]) -> bool:
        """Take some more, few enough to be sorted at once; tell whether they were not all taken before as they are."""
        names: set[TagName] = set()
        odd_before = self._odd_count
        for text in texts:
            self._size_bytes += len(text)
            try:
                names.add(parse_tag_name(text))
            except ValueError:
                self._leave_out(text)
        if not names:
            return self._odd_count > odd_before
        run = "\n".join(sorted(names)).encode()
        if hash(run) in self._taken and run in self._runs:
            return False
        self._taken.add(hash(run))
        self._runs.append(run)
        return True

    def _leave_out(self, text: str) -> None:
        """Count a stray file or directory in the storage; the first ones are kept, so that a repeat counts once."""
        if text in self._odd:
            return
        self._odd_count += 1
        if len(self._odd) < ODD_KEPT:
            self._odd.add(text)

    @property
    def size_bytes(self) -> int:
        """How much text was taken, repeats included."""
        return self._size_bytes

    @property
    def odd(self) -> int:
        """How many texts were no tags."""
        return self._odd_count

    @property
    def odd_examples(self) -> tuple[str, ...]:
        """The first few of them in order, each cut to a length that can be shown."""
        return tuple(text[:SHOWN_LENGTH] for text in sorted(self._odd)[:SHOWN])

    def names(self) -> TagNames:
        """Pack everything that was taken."""
        return TagNames(_in_blocks(_without_repeats(heapq.merge(*map(_lines, self._runs)))))


def _lines(run: bytes) -> Iterator[str]:
    """Give the lines one at a time: as texts, all of them at once would take ten times as much."""
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

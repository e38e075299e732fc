"""The Merkle tree of RFC 6962 (RFC 9162 section 2.1): hashes, roots, proofs and their verification. Pure.

A *node* is the root of a complete subtree: ``(level, index)`` covers the leaves ``[index·2^level, (index+1)·2^level)``.
A proof is asked for in two steps, so that whoever holds the hashes need not hold them all: which ranges of leaves
it names (:func:`inclusion_ranges`, :func:`consistency_ranges`), and which nodes a range is folded from
(:func:`nodes_of`). Leaves are numbered from 0 here; the log's positions begin at 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

HASH_BYTES = 32

Node = tuple[int, int]
Range = tuple[int, int]
"""Leaves from the first, inclusive, to the second, exclusive."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an interior node (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of hashes of one level."""
    level = list(hashes)
    while len(level) > 1:
        level = [node_hash(level[n], level[n + 1]) for n in range(0, len(level), 2)]
    return level[0]


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees of falling size, as :func:`nodes_of` names them for a whole tree."""
    if not hashes:
        return hashlib.sha256().digest()
    *left, root = hashes
    for one in reversed(left):
        root = node_hash(one, root)
    return root


def nodes_of(begin: int, end: int) -> Iterator[Node]:
    """Cut a range of leaves into the fewest complete subtrees, from left to right."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        yield level, begin >> level
        begin += 1 << level


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the ranges whose hashes prove that leaf ``index`` is in the tree (RFC 9162 section 2.1.3.1)."""
    begin, end = 0, size
    path: list[Range] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    return path[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """Return the ranges whose hashes prove that a tree grew from ``first`` leaves (RFC 9162 section 2.1.4.1)."""
    if not 0 < first < second:
        return []
    begin, end = 0, second
    path: list[Range] = []
    while first < end:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    if begin:
        path.append((begin, end))
    return path[::-1]


def range_hash(span: Range, hash_of: Callable[[Node], bytes]) -> bytes:
    """Return the hash over a range that a proof names."""
    return fold([hash_of(node) for node in nodes_of(*span)])


def is_consistent(
    *, first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Tell whether a path proves that the second tree begins with the first (RFC 9162 section 2.1.4.2)."""
    if first == second:
        return not path and first_root == second_root
    if not 0 < first < second or not path:
        return False
    steps = [first_root, *path] if first & (first - 1) == 0 else list(path)
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and (old, new) == (first_root, second_root)


class Frontier:
    """The right edge of a tree that grows: what its root is made from, and no more."""

    def __init__(self) -> None:
        self.size = 0
        self._nodes: list[tuple[int, bytes]] = []

    def add(self, digest: bytes, level: int = 0) -> None:
        """Append a leaf, or a complete subtree of ``2^level`` leaves; raises ``ValueError`` where it cannot stand."""
        if self.size & ((1 << level) - 1):
            raise ValueError(f"a subtree of {1 << level} leaves cannot begin behind leaf {self.size}")
        self.size += 1 << level
        nodes = self._nodes
        while nodes and nodes[-1][0] == level:
            digest = node_hash(nodes.pop()[1], digest)
            level += 1
        nodes.append((level, digest))

    def root(self) -> bytes:
        """Return the root over everything appended."""
        return fold([digest for _, digest in self._nodes])


def _split(size: int) -> int:
    """Return the largest power of two that is smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)

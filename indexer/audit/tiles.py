"""How the tree is kept: in tiles of 256 hashes, as C2SP's tlog-tiles cuts them. Pure.

Tile ``(level, index)`` holds the hashes of the complete subtrees of ``256^level`` leaves from number ``256·index``
on, one behind the other. Only the last tile of a level grows; what it held stays at its place, so a tree of any
earlier size can be read from the same tiles. The tile of level 0 holds the leaves' own hashes: they are on record
apart from the entries, and outlive them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from indexer.audit.merkle import HASH_BYTES, Node, Range, complete_root, fold, nodes_of, range_hash
from indexer.common.errors import StoreError

WIDTH = 256
_LEVELS = 8
"""Levels of the tree within one tile: 2^8 = 256."""

TileKey = tuple[int, int]
"""Level and index of a tile."""


class TreeDamaged(StoreError):  # noqa: N818 - a state, read as "tree damaged"
    """The stored hashes are not those of one tree."""


@dataclass(slots=True, kw_only=True)
class Tiles:
    """Some tiles of a tree."""

    held: dict[TileKey, bytes] = field(default_factory=dict)

    def hash_of(self, node: Node) -> bytes:
        """Return the hash of a complete subtree; raises ``TreeDamaged`` where its tile lacks it."""
        key, place, count = _place(node)
        hashes = self.held.get(key, b"")[place * HASH_BYTES : (place + count) * HASH_BYTES]
        if len(hashes) != count * HASH_BYTES:
            raise TreeDamaged(
                f"the tree lacks hashes: tile {key[1]} of level {key[0]} is missing or too short"
            )
        return complete_root(split(hashes))

    def root(self, size: int) -> bytes:
        """Return the root of the tree of the first ``size`` leaves."""
        return fold([self.hash_of(node) for node in nodes_of(0, size)])

    def ranges(self, wanted: Iterable[Range]) -> list[bytes]:
        """Return the hash of each range of a proof."""
        return [range_hash(span, self.hash_of) for span in wanted]


def split(hashes: bytes) -> list[bytes]:
    """Return the hashes of a tile, one by one."""
    return [hashes[n : n + HASH_BYTES] for n in range(0, len(hashes), HASH_BYTES)]


def keys_of(ranges: Iterable[Range]) -> set[TileKey]:
    """Return the tiles that hold what ranges of leaves are folded from."""
    return {_place(node)[0] for span in ranges for node in nodes_of(*span)}


def edge_of(size: int) -> list[TileKey]:
    """Return the tiles that are not full in a tree of ``size`` leaves, by level."""
    keys = []
    level, hashes = 0, size
    while hashes:
        if hashes % WIDTH:
            keys.append((level, hashes // WIDTH))
        level, hashes = level + 1, hashes // WIDTH
    return keys


def grow(size: int, edge: Mapping[TileKey, bytes], leaves: Sequence[bytes]) -> dict[TileKey, bytes]:
    """Append leaf hashes to a tree of ``size`` leaves; return the tiles that changed.

    ``edge`` are the tiles that :func:`edge_of` names. Raises ``TreeDamaged`` where one is not as long as it must be.
    """
    changed: dict[TileKey, bytes] = {}
    level, held, new = 0, size, list(leaves)
    while new:
        index, filled = divmod(held, WIDTH)
        hashes = edge.get((level, index), b"") if filled else b""
        if len(hashes) != filled * HASH_BYTES:
            raise TreeDamaged(
                f"tile {index} of level {level} holds {len(hashes) // HASH_BYTES} hashes instead of {filled}"
            )
        hashes += b"".join(new)
        above = []
        for start in range(0, len(hashes), WIDTH * HASH_BYTES):
            tile = hashes[start : start + WIDTH * HASH_BYTES]
            changed[level, index] = tile
            index += 1
            if len(tile) == WIDTH * HASH_BYTES:
                above.append(complete_root(split(tile)))
        level, held, new = level + 1, held // WIDTH, above
    return changed


def _place(node: Node) -> tuple[TileKey, int, int]:
    """Return the tile of a node, where in it the node begins, and how many of its hashes it is made from."""
    level, index = node
    tile_level, above = divmod(level, _LEVELS)
    first = index << above
    return (tile_level, first // WIDTH), first % WIDTH, 1 << above

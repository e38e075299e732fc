"""Proofs made from the stored tree: each reads the few tiles it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from indexer.audit.merkle import Range, consistency_ranges, inclusion_ranges, nodes_of
from indexer.audit.proofs import EntryRange, encode_leaves, encode_part
from indexer.audit.tiles import WIDTH, Tiles, TreeDamaged, keys_of, split
from indexer.common.errors import CallerError
from indexer.store.checkpoints import checkpoint_of, newest_checkpoint
from indexer.store.listing.audit import head_position
from indexer.store.pool import Connection
from indexer.store.tiles import find_tiles

TILES_AT_A_TIME = 64

Out = Callable[[bytes], Awaitable[object]]
Open = Callable[[], AbstractAsyncContextManager[Connection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """That a leaf is in a tree: its hash, the hashes on its way, and the root they lead to."""

    size: int
    leaf: bytes
    path: list[bytes]
    root: bytes


async def root_at(held: Connection, *, size: int) -> bytes:
    """Return the root of the tree of the first ``size`` entries."""
    return (await _tiles(held, [(0, size)])).root(size)


async def prove_inclusion(held: Connection, *, position: int, size: int | None) -> Inclusion:
    """Prove that an entry is in the log of the first ``size``, None: of the newest checkpoint."""
    part = await part_to_prove(held, after=position - 1, until=position, size=size)
    leaf = part.first - 1
    ranges = inclusion_ranges(leaf, part.size)
    tiles = await _tiles(held, [*ranges, (leaf, position), (0, part.size)])
    return Inclusion(
        size=part.size,
        leaf=tiles.hash_of((0, leaf)),
        path=tiles.ranges(ranges),
        root=tiles.root(part.size),
    )


async def prove_consistency(held: Connection, *, first: int, second: int) -> list[bytes]:
    """Prove that the log of the first ``second`` entries begins with that of ``first``."""
    head = await head_position(held)
    if not 0 < first <= second <= head:
        raise _not_provable(f"the log has {head} entries: it did not grow from {first} to {second}")
    ranges = consistency_ranges(first, second)
    return (await _tiles(held, ranges)).ranges(ranges)


async def part_to_prove(held: Connection, *, after: int, until: int | None, size: int | None) -> EntryRange:
    """Return the part of the log behind a position that can be proven, up to ``until`` or as far as it is signed.

    ``size`` of the log that it is proven against; None: the newest checkpoint's. Raises ``CallerError``.
    """
    head = await head_position(held)
    if size is None:
        newest = await newest_checkpoint(held)
        if newest is None:
            raise _not_provable("no checkpoint was signed yet, so nothing can be proven")
        size = newest.size
    if not 0 < size <= head:
        raise _not_provable(f"the log has {head} entries: there is no proof against {size}")
    last = size if until is None else min(until, size)
    if not 0 <= after < last:
        raise _not_provable(f"there is no entry behind {after} and up to {last} in a log of {size}")
    return EntryRange(first=after + 1, last=last, size=size)


def _not_provable(why: str) -> CallerError:
    """Return the refusal of what the log does not have, or what was not signed yet."""
    return CallerError(why, status=404, code="not_provable")


async def leaves_of(held: Connection, *, first: int, last: int) -> list[bytes | None]:
    """Return the leaf hashes of entries, by position; None where the tree lacks one."""
    begin, end = (first - 1) // WIDTH, (last - 1) // WIDTH
    found = await find_tiles(held, keys=[(0, index) for index in range(begin, end + 1)])
    hashes: list[bytes | None] = []
    for index in range(begin, end + 1):
        tile = split(found.get((0, index), b""))
        hashes += [*tile, *[None] * (WIDTH - len(tile))]
    start = first - 1 - begin * WIDTH
    return hashes[start : start + last - first + 1]


async def leaf_at(held: Connection, position: int) -> bytes | None:
    """Return the leaf hash of an entry; None where there is none."""
    return (await leaves_of(held, first=position, last=position))[0] if position > 0 else None


async def write_part(open_connection: Open, part: EntryRange, out: Out) -> None:
    """Write the proof of a part of the log, with the checkpoint of that size where one was signed."""
    async with open_connection() as held:
        tiles = await _tiles(held, [part.before, part.behind])
        signed = await checkpoint_of(held, size=part.size)
    await out(
        encode_part(
            part,
            before=[tiles.hash_of(node) for node in nodes_of(*part.before)],
            behind=[tiles.hash_of(node) for node in nodes_of(*part.behind)],
            note=None if signed is None else signed.note,
        )
    )
    step = WIDTH * TILES_AT_A_TIME
    for first in range(part.first, part.last + 1, step):
        async with open_connection() as held:
            hashes = await leaves_of(held, first=first, last=min(first + step - 1, part.last))
        leaves = [leaf for leaf in hashes if leaf is not None]
        if len(leaves) < len(hashes):
            raise TreeDamaged(f"the tree lacks leaf hashes between the entries {first} and {part.last}")
        await out(encode_leaves(b"".join(leaves)))


async def _tiles(held: Connection, ranges: list[Range]) -> Tiles:
    return Tiles(held=await find_tiles(held, keys=keys_of(ranges)))

"""The Merkle tree against public vectors (RFC 6962, as Certificate Transparency publishes them) and a naive model."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audit.merkle import (
    HASH_BYTES,
    Frontier,
    consistency_ranges,
    inclusion_ranges,
    is_consistent,
    leaf_hash,
    node_hash,
    nodes_of,
    range_hash,
)
from indexer.audit.tiles import Tiles, TreeDamaged, edge_of, grow, keys_of
from tests.fixtures.merkle import root_from_inclusion, root_of

ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]  # fmt: skip
CONSISTENCY = [
    (6, 8, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 5, [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip


def naive_root(data: list[bytes]) -> bytes:
    """MTH as RFC 6962 section 2.1 writes it, by recursion over the data."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    half = 1
    while half * 2 < len(data):
        half *= 2
    return hashlib.sha256(b"\x01" + naive_root(data[:half]) + naive_root(data[half:])).digest()


def data_of(size: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(size)]


def tiles_of(data: list[bytes], batches: list[int]) -> Tiles:
    """The tree, appended in batches of these sizes over and over."""
    held: dict[tuple[int, int], bytes] = {}
    done = turn = 0
    while done < len(data):
        batch = data[done : done + batches[turn % len(batches)]]
        edge = {key: held[key] for key in edge_of(done)}
        held |= grow(done, edge, [leaf_hash(one) for one in batch])
        done += len(batch)
        turn += 1
    return Tiles(held=held)


@pytest.mark.parametrize("size", range(9))
def test_root__is_that_of_the_vectors(size: int) -> None:
    """The roots of the published trees are ours."""
    assert ROOTS[size] == root_of(map(leaf_hash, ENTRIES[:size])).hex()


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_inclusion__is_that_of_the_vectors(index: int, size: int, path: list[str]) -> None:
    """The published inclusion proofs are ours, and lead to the published roots."""
    tiles = tiles_of(ENTRIES, [8])
    made = tiles.ranges(inclusion_ranges(index, size))
    assert path == [one.hex() for one in made]
    root = root_from_inclusion(index=index, size=size, leaf=leaf_hash(ENTRIES[index]), path=made)
    assert root is not None
    assert ROOTS[size] == root.hex()


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY)
def test_consistency__is_that_of_the_vectors(first: int, second: int, path: list[str]) -> None:
    """The published consistency proofs are ours, and hold between the published roots."""
    made = tiles_of(ENTRIES, [8]).ranges(consistency_ranges(first, second))
    assert path == [one.hex() for one in made]
    roots = {"first_root": bytes.fromhex(ROOTS[first]), "second_root": bytes.fromhex(ROOTS[second])}
    assert is_consistent(first=first, second=second, path=made, **roots)
    assert not is_consistent(first=first, second=second, path=made[:-1], **roots)


def test_consistency__of_a_path_that_is_cut_or_goes_on() -> None:
    """The roots it leads to are those of trees of these sizes, and of no others."""
    tiles, beside = tiles_of(data_of(8), [8]), leaf_hash(b"beside")
    old, new = tiles.root(4), tiles.root(8)
    path = tiles.ranges(consistency_ranges(4, 8))
    assert is_consistent(first=4, second=8, first_root=old, second_root=new, path=path)
    assert not is_consistent(first=4, second=1000, first_root=old, second_root=new, path=path)
    old, path = tiles.root(3), tiles.ranges(consistency_ranges(3, 8))
    assert is_consistent(first=3, second=8, first_root=old, second_root=new, path=path)
    assert not is_consistent(
        first=3,
        second=8,
        first_root=node_hash(beside, old),
        second_root=node_hash(beside, new),
        path=[*path, beside],
    )


def test_consistency__of_trees_of_one_size() -> None:
    """They are the same tree, which nothing needs to prove; of what did not grow there is no proof."""
    one, other = leaf_hash(b"one"), leaf_hash(b"other")
    assert is_consistent(first=5, second=5, first_root=one, second_root=one, path=[])
    assert not is_consistent(first=5, second=5, first_root=one, second_root=other, path=[])
    assert not is_consistent(first=5, second=5, first_root=one, second_root=one, path=[other])
    for first, second in ((3, 5), (4, 5), (5, 3), (0, 5)):
        assert not is_consistent(first=first, second=second, first_root=one, second_root=one, path=[])
        if first > second or not first:
            assert not is_consistent(first=first, second=second, first_root=one, second_root=one, path=[one])


def test_frontier__takes_no_subtree_where_none_can_stand() -> None:
    """A tree of one leaf is not gone on with by a subtree of two: its root would be that of another tree."""
    frontier = Frontier()
    frontier.add(leaf_hash(b"one"))
    with pytest.raises(ValueError, match="2 leaves cannot begin behind leaf 1"):
        frontier.add(leaf_hash(b"two"), 1)


@given(st.integers(1, 1400), st.lists(st.integers(1, 600), min_size=1, max_size=4), st.data())
def test_tree__grown_in_batches_agrees_with_the_model(
    size: int, batches: list[int], data: st.DataObject
) -> None:
    """However a tree grew, roots of any earlier size, inclusion and consistency are those of the naive model."""
    entries = data_of(size)
    tiles = tiles_of(entries, batches)
    first = data.draw(st.integers(1, size))
    index = data.draw(st.integers(0, first - 1))
    old, new = naive_root(entries[:first]), naive_root(entries)
    assert (old, new) == (tiles.root(first), tiles.root(size))
    assert keys_of([(0, size), (0, first)]) <= tiles.held.keys()
    path = tiles.ranges(inclusion_ranges(index, first))
    assert old == root_from_inclusion(index=index, size=first, leaf=leaf_hash(entries[index]), path=path)
    grown = tiles.ranges(consistency_ranges(first, size))
    assert is_consistent(first=first, second=size, first_root=old, second_root=new, path=grown)


@given(st.integers(1, 200), st.data())
def test_proof__of_something_else_is_refused(size: int, data: st.DataObject) -> None:
    """A proof holds for its leaf, its place and its root, and for no other."""
    entries = data_of(size)
    tiles = tiles_of(entries, [size])
    index = data.draw(st.integers(0, size - 1))
    path = tiles.ranges(inclusion_ranges(index, size))
    root = naive_root(entries)
    assert root != root_from_inclusion(index=index, size=size, leaf=leaf_hash(b"another"), path=path)
    assert root != root_from_inclusion(
        index=index, size=size, leaf=leaf_hash(entries[index]), path=[*path, root]
    )
    other = data.draw(st.integers(-1, size).filter(lambda number: number != index))
    assert root != root_from_inclusion(index=other, size=size, leaf=leaf_hash(entries[index]), path=path)


@given(st.integers(0, 500), st.integers(0, 500))
def test_frontier__takes_whole_subtrees_for_leaves(one: int, other: int) -> None:
    """A tree may be folded from the subtrees of any cut: what a proof of a period relies on."""
    begin, end = sorted((one, other))
    entries = data_of(end)
    tiles = tiles_of(entries, [100])
    frontier = Frontier()
    for span in ((0, begin), (begin, end)):
        for node in nodes_of(*span):
            frontier.add(tiles.hash_of(node), node[0])
    assert (end, naive_root(entries)) == (frontier.size, frontier.root())
    assert range_hash((0, end), tiles.hash_of) == frontier.root()


def test_tiles__that_lack_hashes_are_said_to() -> None:
    """A tree whose tiles were cut does not grow and gives no roots."""
    tiles = tiles_of(data_of(300), [300])
    cut = tiles.held[0, 1][:-HASH_BYTES]
    with pytest.raises(TreeDamaged):
        grow(300, {(0, 1): cut, (1, 0): tiles.held[1, 0]}, [leaf_hash(b"next")])
    tiles.held[0, 1] = cut
    with pytest.raises(TreeDamaged):
        tiles.root(300)

"""A million names of tags in little more than their text, and read from a listing in slices."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry import tags
from reconciler.registry.names import Collector, TagNames

TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,5}", fullmatch=True).map(TagName)
NEVER = TagName("never-pushed")


@given(pages=st.lists(st.lists(TAGS)), others=st.lists(TAGS))
def test_collector__any_pages(pages: list[list[TagName]], others: list[TagName]) -> None:
    """Pages in any order, with repeats, become the sorted set of their names; it tells what it holds."""
    collector = Collector()
    for page in pages:
        collector.add(page)
    truth = {name for page in pages for name in page}
    names = collector.names()
    assert sorted(truth) == list(names)
    assert len(truth) == len(names)
    assert [name in truth for name in others] == [name in names for name in others]
    assert list(TagNames.of(truth)) == list(names)


def test_tag_names__many_blocks() -> None:
    """Where there are several blocks, each name is found in its own, and no other."""
    truth = sorted({TagName(f"v{number}") for number in range(5000)})
    names = TagNames.of(truth)
    assert truth == list(names)
    assert all(name in names for name in truth)
    assert not any(TagName(f"{name}x") in names for name in truth)
    assert NEVER not in names


def test_collector__names_that_are_no_tags() -> None:
    """What no tag can be called is counted, each once, and left out."""
    collector = Collector()
    collector.add(["a", ".b", "c d"])
    collector.add([".b", "c"])
    assert (["a", "c"], 2) == (list(collector.names()), collector.invalid)


@pytest.mark.full
def test_tag_names__a_million() -> None:
    """A million names are packed into less than twice their text, whatever order they came in."""
    collector = Collector()
    text = 0
    for start in range(1000):
        page = [f"tag-{number:07}" for number in range(start, 1_000_000, 1000)]
        text += sum(map(len, page))
        collector.add(page)
    names = collector.names()
    assert 1_000_000 == len(names)
    packed = sum(map(sys.getsizeof, names._blocks)) + sum(map(sys.getsizeof, names._firsts))
    assert packed < 2 * text


@given(
    names=st.lists(st.one_of(TAGS, st.sampled_from([",", '","', "[", "]", "\\", '\\","', "é"])), max_size=60),
    end=st.sampled_from(["]}", "]}\n", '],"x":["b","c","d"]}']),
)
def test_slices__same_names(names: list[str], end: str) -> None:
    """Read in slices of a few bytes, a listing has the names it has when it is read at once."""
    content = json.dumps({"name": "a", "tags": names}, separators=(",", ":")).removesuffix("]}") + end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tags, "SLICE_BYTES", 8)
        read = [
            name
            for piece in tags._read_names(content.encode(), "asked", RepositoryName("a"))
            for name in piece
        ]
    assert set(names) == set(read)

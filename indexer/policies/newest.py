"""``newest``: which tags are among the newest of their group.

A tag is kept unless ``count`` others of its group are certainly newer. So tags whose times are not known push out
nobody: where nothing is certain more are kept than ``count``, never fewer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.inventory.semver import parse_version
from indexer.policies.facts import TagFacts
from indexer.policies.intervals import Between
from indexer.policies.rules import By, CountAs, Keep, Newest, Prereleases
from indexer.policies.selectors import Regexes, Selector, Without

Clock = Callable[[TagFacts], Between]
Group = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """That a tag is among the newest: of which group, and whether only since nothing newer is certain."""

    group: tuple[str, ...]
    uncertain: bool


def newest(
    rule: Keep, newest: Newest, chosen: Sequence[TagFacts], among: Iterable[TagFacts], clock: Clock
) -> Mapping[str, Kept]:
    """Return which of the tags that a rule chose are the newest, counted among others; ``clock`` tells their times."""
    group_of = _grouping(rule.tags, newest)
    groups: dict[Group, list[TagFacts]] = defaultdict(list)
    for tag in among:
        group = group_of(tag.name)
        if group is not None:
            groups[group].append(tag)
    counts = {group: _Count(newest, tags, clock) for group, tags in groups.items()}
    kept = {}
    for tag in chosen:
        group = group_of(tag.name)
        if group is None:  # chosen, and of no group: an expression whose group took no part
            kept[tag.name] = Kept((), uncertain=True)
            continue
        count = counts.get(group)
        if count is None or count.certainly_newer(tag) < newest.count:
            shown = tuple(map(str, group[: len(newest.per)]))
            kept[tag.name] = Kept(shown, count is not None and count.possibly_newer(tag) >= newest.count)
    return kept


class _Count:
    """How many of a group are newer than one tag."""

    def __init__(self, newest: Newest, tags: Sequence[TagFacts], clock: Clock) -> None:
        self._clock = clock
        self._by_version = newest.by is By.SEMVER
        self._count_as = newest.count_as
        self._lows, self._low_of = self._ordered(tags, self._low)
        self._highs, self._high_of = self._ordered(tags, self._high)

    def certainly_newer(self, tag: TagFacts) -> int:
        """Return how many are newer, whenever they were."""
        return self._above(self._lows, self._low_of.get(self._what(tag)), self._high(tag))

    def possibly_newer(self, tag: TagFacts) -> int:
        """Return how many may be newer."""
        return self._above(self._highs, self._high_of.get(self._what(tag)), self._low(tag))

    def _ordered(
        self, tags: Sequence[TagFacts], age: Callable[[TagFacts], Any]
    ) -> tuple[list[Any], dict[Hashable, Any]]:
        """Return the age of each thing that counts, in order, and by what it is: of several tags the newest."""
        best: dict[Hashable, Any] = {}
        for tag in tags:
            what = self._what(tag)
            if what not in best or best[what] < age(tag):
                best[what] = age(tag)
        return sorted(best.values()), best

    def _above(self, ordered: list[Any], own: Any, bound: Any) -> int:
        above = len(ordered) - bisect_right(ordered, bound)
        return above - (own is not None and own > bound)

    def _what(self, tag: TagFacts) -> Hashable:
        match self._count_as:
            case CountAs.TAGS:
                return tag.name
            case CountAs.DIGESTS:
                return tag.digest
            case CountAs.VERSIONS:
                return _version_key(tag.name)

    def _low(self, tag: TagFacts) -> Any:
        return _version_key(tag.name) if self._by_version else self._clock(tag).earliest

    def _high(self, tag: TagFacts) -> Any:
        return _version_key(tag.name) if self._by_version else self._clock(tag).latest


def _version_key(tag: str) -> bytes:
    version = parse_version(tag)
    return b"" if version is None else version.key


def _grouping(selector: Selector, newest: Newest) -> Callable[[str], Group | None]:
    """Return what tells a tag's group: None is none."""
    while isinstance(selector, Without):
        selector = selector.chosen
    if newest.by is By.SEMVER or not isinstance(selector, Regexes):
        separate = newest.by is By.SEMVER and newest.prereleases is Prereleases.SEPARATE
        if not newest.per and newest.by is not By.SEMVER:
            return lambda _: ()

        def by_version(tag: str) -> Group | None:
            version = parse_version(tag)
            if version is None:
                return None
            parts = tuple(getattr(version, part) for part in newest.per)
            return (*parts, version.prerelease) if separate else parts

        return by_version
    if not newest.per:
        return lambda _: ()
    expression = selector

    def by_groups(tag: str) -> Group | None:
        found = expression.groups(tag, newest.per)
        return None if found is None or None in found else found

    return by_groups

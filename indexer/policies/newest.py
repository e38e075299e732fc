"""``newest``: which tags are among the newest of their group.

A tag is kept unless ``count`` others of its group are certainly newer. So tags whose times are not known push out
nobody: where nothing is certain more are kept than ``count``, never fewer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from indexer.inventory.semver import parse_version
from indexer.policies.facts import TagFacts
from indexer.policies.intervals import Between
from indexer.policies.rules import By, CountAs, Keep, Newest, Prereleases
from indexer.policies.selectors import Regexes, Selector, Versions, Without

Clock = Callable[[TagFacts], Between]
Group = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """That a tag is among the newest: of which group, and whether only since nothing newer is certain."""

    group: tuple[str, ...]
    uncertain: bool


class _Entry(NamedTuple):
    """A tag as it is counted: its group, what it counts as, and its age from ``low`` to ``high``."""

    group: Group
    what: Hashable
    low: Any
    high: Any


def newest(
    rule: Keep, newest: Newest, chosen: Sequence[TagFacts], among: Sequence[TagFacts], clock: Clock
) -> Mapping[str, Kept]:
    """Return which of the tags that a rule chose are the newest, counted among others; ``clock`` tells their times."""
    entry_of = _entries(rule.tags, newest, clock)
    counted = {tag.name: entry_of(tag) for tag in among}
    groups: dict[Group, list[_Entry]] = defaultdict(list)
    for entry in counted.values():
        if entry is not None:
            groups[entry.group].append(entry)
    counts = {group: _Count(entries) for group, entries in groups.items()}
    kept = {}
    for tag in chosen:
        entry = counted[tag.name] if tag.name in counted else entry_of(tag)
        if entry is None:  # chosen, and of no group: an expression whose group took no part
            kept[tag.name] = Kept((), uncertain=True)
            continue
        count = counts.get(entry.group)
        if count is None or count.certainly_newer(entry) < newest.count:
            shown = tuple(map(str, entry.group[: len(newest.per)]))
            kept[tag.name] = Kept(shown, count is not None and count.possibly_newer(entry) >= newest.count)
    return kept


class _Count:
    """How many of a group are newer than one of them. Of several tags that count as one the newest counts."""

    def __init__(self, entries: Iterable[_Entry]) -> None:
        self._low_of: dict[Hashable, Any] = {}
        self._high_of: dict[Hashable, Any] = {}
        for entry in entries:
            what, low, high = entry.what, entry.low, entry.high
            if what not in self._low_of:
                self._low_of[what], self._high_of[what] = low, high
                continue
            self._low_of[what] = max(low, self._low_of[what])
            self._high_of[what] = max(high, self._high_of[what])
        self._lows = sorted(self._low_of.values())
        self._highs = sorted(self._high_of.values())

    def certainly_newer(self, entry: _Entry) -> int:
        """Return how many are newer, whenever they were."""
        return _above(self._lows, self._low_of.get(entry.what), entry.high)

    def possibly_newer(self, entry: _Entry) -> int:
        """Return how many may be newer."""
        return _above(self._highs, self._high_of.get(entry.what), entry.low)


def _above(ordered: Sequence[Any], own: Any, bound: Any) -> int:
    """Return how many are above a bound, without one's own."""
    above = len(ordered) - bisect_right(ordered, bound)
    return above - (own is not None and own > bound)


def _entries(selector: Selector, newest: Newest, clock: Clock) -> Callable[[TagFacts], _Entry | None]:
    """Return what makes a tag's entry; None: it is of no group."""
    if newest.by is By.SEMVER:
        return _by_version(newest)
    while isinstance(selector, Without):
        selector = selector.chosen
    group_of = _by_part(selector, newest.per)
    by_digest = newest.count_as is CountAs.DIGESTS

    def entry_of(tag: TagFacts) -> _Entry | None:
        group = group_of(tag.name)
        if group is None:
            return None
        at = clock(tag)
        return _Entry(group, tag.digest if by_digest else tag.name, at.earliest, at.latest)

    return entry_of


def _by_version(newest: Newest) -> Callable[[TagFacts], _Entry | None]:
    separate = newest.prereleases is Prereleases.SEPARATE

    def entry_of(tag: TagFacts) -> _Entry | None:
        version = parse_version(tag.name)
        if version is None:
            return None
        group = tuple(getattr(version, part) for part in newest.per)
        counts_as = {CountAs.DIGESTS: tag.digest, CountAs.VERSIONS: version.key, CountAs.TAGS: tag.name}
        what = counts_as[newest.count_as]
        return _Entry((*group, version.prerelease) if separate else group, what, version.key, version.key)

    return entry_of


def _by_part(selector: Selector, per: Sequence[str]) -> Callable[[str], Group | None]:
    """Return what tells the group of a tag: what the named groups of an expression match."""
    if isinstance(selector, Regexes) and per:
        expression = selector

        def group_of(tag: str) -> Group | None:
            found = expression.groups(tag, per)
            return None if found is None or None in found else found

        return group_of
    if isinstance(selector, Versions) and per:

        def version_of(tag: str) -> Group | None:
            version = parse_version(tag)
            return None if version is None else tuple(getattr(version, part) for part in per)

        return version_of
    return lambda _: ()

"""When a tag or manifest was used last: pulls that count, with what may have been missed.

A pull counts unless the policy ignores its actor or its address. A pull of a digest counts for every tag of it, and a
pull of a child for its indexes, unless the policy says otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

from indexer.policies.facts import Coverage, Gap, Pull
from indexer.policies.families import Families
from indexer.policies.intervals import LONG_AGO, Between
from indexer.policies.rules import Use


@dataclass(frozen=True, slots=True)
class Ignored:
    """Pulls that a policy left out of account: how many, the last, and by whom."""

    times: int
    last_at: datetime
    by: tuple[str, ...]


class LastUse(NamedTuple):
    """When something was used last. ``gap`` is the newest interval in which a use may have been missed.

    ``seen_at``: the newest pull that is known, None if there is none.
    """

    at: Between
    seen_at: datetime | None
    gap: Gap
    ignored: Ignored | None = None

    @property
    def ends(self) -> bool:
        """Tell whether its latest instant is fixed: no gap is open."""
        return self.gap.to_at is not None


class Uses:
    """The last uses of a repository's tags and manifests."""

    def __init__(
        self,
        pulls: Iterable[Pull],
        families: Families,
        use: Use,
        coverage: Coverage,
        now: datetime,
        *,
        points: bool,
    ) -> None:
        self._families = families
        self._use = use
        self._gap = coverage.latest_gap
        self._floor = LONG_AGO if points else coverage.unknown_until(now)
        self._in_ignored: dict[str, bool] = {}
        self._by_digest: dict[str, datetime] = {}
        self._by_tag: dict[tuple[str, str], datetime] = {}
        ignored: dict[str, list[Pull]] = defaultdict(list)
        for pull in pulls:
            if self._is_ignored(pull):
                ignored[pull.digest].append(pull)
                continue
            _raise_to(self._by_digest, pull.digest, pull.last_at)
            if pull.tag is not None:
                _raise_to(self._by_tag, (pull.tag, pull.digest), pull.last_at)
        self._ignored: Mapping[str, Ignored] = {digest: _ignored(each) for digest, each in ignored.items()}
        self._known: dict[str, LastUse] = {}
        self._never = LastUse(Between(LONG_AGO, max(LONG_AGO, self._floor)), None, self._gap)

    def of_manifest(self, digest: str) -> LastUse:
        """Return the last use of a manifest, by any name."""
        found = self._known.get(digest)
        if found is None:
            seen_at = self._by_digest.get(digest)
            manifest = self._families.manifests.get(digest)
            if manifest is not None and manifest.children and self._use.child_pulls_count_for_index:
                below = (self._by_digest.get(each) for each in self._families.descendants(digest))
                seen_at = max((each for each in (seen_at, *below) if each is not None), default=None)
            found = self._known[digest] = self._last(seen_at, self._ignored.get(digest))
        return found

    def of_tag(self, tag: str, digest: str) -> LastUse:
        """Return the last use of a tag that points to a digest."""
        if self._use.digest_pulls_count_for_tags:
            return self.of_manifest(digest)
        return self._last(self._by_tag.get((tag, digest)), self._ignored.get(digest))

    def _last(self, seen_at: datetime | None, ignored: Ignored | None) -> LastUse:
        if seen_at is None and ignored is None:
            return self._never
        earliest = seen_at or LONG_AGO
        return LastUse(Between(earliest, max(earliest, self._floor)), seen_at, self._gap, ignored)

    def _is_ignored(self, pull: Pull) -> bool:
        if pull.actor is not None and pull.actor in self._use.ignored_actors:
            return True
        if pull.address is None or not self._use.ignored_addresses:
            return False
        known = self._in_ignored.get(pull.address)
        if known is None:
            known = self._in_ignored[pull.address] = self._is_in_ignored(pull.address)
        return known

    def _is_in_ignored(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._use.ignored_addresses)


Key = TypeVar("Key")


def _raise_to(last: dict[Key, datetime], key: Key, at: datetime) -> None:
    if key not in last or last[key] < at:
        last[key] = at


def _ignored(pulls: list[Pull]) -> Ignored:
    by = sorted({pull.actor or pull.address or "" for pull in pulls})
    return Ignored(sum(pull.times for pull in pulls), max(pull.last_at for pull in pulls), tuple(by))

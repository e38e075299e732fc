"""Which tags a caller wants, and what an index can do for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.oci.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFilter:
    """Which tags a caller wants; None: any. All conditions must hold; of several values of one, any.

    Times are exclusive bounds, sizes inclusive. ``name_matches`` is a test in Python (a regular expression). A tag
    whose value is not known matches no bound on it, except ``not_pulled_since`` and ``not_checked_since``: a tag that
    was never pulled was not pulled since then.
    """

    name: str | None = None
    name_prefix: str | None = None
    name_glob: str | None = None
    name_matches: Callable[[str], bool] | None = None
    digest: Digest | None = None
    media_types: Sequence[str] | None = None
    artifact_types: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    platforms: Sequence[str] | None = None
    pushed_by: str | None = None
    published_after: datetime | None = None
    published_before: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    pulled_after: datetime | None = None
    pulled_before: datetime | None = None
    checked_after: datetime | None = None
    checked_before: datetime | None = None
    never_pulled: bool | None = None
    not_pulled_since: datetime | None = None
    not_checked_since: datetime | None = None
    size_min: int | None = None
    size_max: int | None = None
    broken: bool | None = None
    verified: bool | None = None
    in_use: bool | None = None
    expires_before: datetime | None = None

    @property
    def time_tables(self) -> frozenset[str]:
        """The times in other tables that must be joined."""
        bounds = (
            ("last_pulled_at", self.pulled_after),
            ("last_pulled_at", self.pulled_before),
            ("last_checked_at", self.checked_after),
            ("last_checked_at", self.checked_before),
        )
        return frozenset(column for column, bound in bounds if bound is not None)

    @property
    def has_index(self) -> bool:
        """True if an index finds the few tags that can match, so that no search needs a bound."""
        return self.digest is not None or self.name_prefix is not None

    @property
    def searches(self) -> bool:
        """True if a scan may read many tags that do not match."""
        tested = (
            self.name,
            self.name_glob,
            self.name_matches,
            self.media_types,
            self.artifact_types,
            self.kinds,
            self.platforms,
            self.pushed_by,
            self.broken,
            self.verified,
            self.never_pulled,
            self.not_pulled_since,
            self.not_checked_since,
            self.in_use,
            self.expires_before,
        )
        return bool(self.time_tables) or any(value is not None for value in tested)

    @property
    def searches_everywhere(self) -> bool:
        """The same across repositories, where only the sort key and the digest have an index."""
        others = (
            self.name_prefix,
            self.created_after,
            self.created_before,
            self.size_min,
            self.size_max,
        )
        return self.searches or any(value is not None for value in others)

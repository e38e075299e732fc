"""The parameters of GitLab's requests, in the fork's order of checks (contract sections 1.4, 1.5 and 1.7). Pure.

Unlike in our own API, unknown parameters are ignored, and of a repeated one the first counts, as in the fork.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from multidict import MultiMapping

from indexer.api.gitlab.markers import read_marker
from indexer.api.gitlab.refusals import exclusive, no_match, not_one_of, out_of_range, wrong_type
from indexer.store.gitlab import Key, Place

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
SIZES = ("self", "self_with_descendants")
SORTS: dict[str, tuple[Key, bool]] = {
    "name": ("name", False),
    "-name": ("name", True),
    "published_at": ("published_at", False),
    "-published_at": ("published_at", True),
}

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}\Z")
_MARKER = "[\\w][\\w.-]{0,127}"
_MARKER_SOMEWHERE = re.compile(_MARKER, re.ASCII)
_NAME = "^[a-zA-Z0-9._-]{1,128}$"
_WHOLE_NAME = re.compile("[a-zA-Z0-9._-]{1,128}\\Z")
_REPOSITORY_NAME = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*"
_REPOSITORY_SOMEWHERE = re.compile(_REPOSITORY_NAME)
LONGEST_TAG = 128
"""No tag is longer: a longer ``name_exact`` finds none, and is no error in the fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsQuestion:
    """A requested page of tags. ``sort`` is as given, or ''; ``referrer_types`` None: any."""

    limit: int
    before: Place | None
    after: Place | None
    name: str
    name_exact: str
    sort: str
    referrers: bool
    referrer_types: tuple[str, ...] | None

    @property
    def order(self) -> tuple[Key, bool]:
        """The key, and True for descending."""
        return SORTS[self.sort or "name"]


def read_tags_question(query: MultiMapping[str]) -> TagsQuestion:
    """Read the parameters of a list of tags; raise the error of the first that is wrong (section 1.5)."""
    limit = read_limit(query)
    if "before" in query and "last" in query:
        raise exclusive("before", "last")
    before = _read_place(query, "before")
    after = _read_place(query, "last")
    name, name_exact = query.get("name", ""), query.get("name_exact", "")
    if name and "name_exact" in query:  # even an empty one, as the fork has it
        raise exclusive("name", "name_exact")
    for parameter, value in (("name", name), ("name_exact", name_exact[:LONGEST_TAG])):
        if value and not _WHOLE_NAME.match(value):
            raise no_match(parameter, _NAME)
    return TagsQuestion(
        limit=limit,
        before=before,
        after=after,
        name=name,
        name_exact=name_exact,
        sort=_read_sort(query),
        referrers=wants_referrers(query),
        referrer_types=_read_types(query.get("referrer_type")),
    )


def wants_referrers(query: MultiMapping[str]) -> bool:
    """Return whether a list of tags shows the referrers of each."""
    return query.get("referrers") == "true"


def read_limit(query: MultiMapping[str]) -> int:
    """Read ``n``: 1 to 1000, 100 where it is not given."""
    text = query.get("n")
    if text is None:
        return DEFAULT_LIMIT
    if not _NUMBER.match(text):
        raise wrong_type("n", "integer")
    if not 1 <= int(text) <= MAX_LIMIT:
        raise out_of_range("n", 1, MAX_LIMIT)
    return int(text)


def read_size(query: MultiMapping[str]) -> str | None:
    """Read ``size``: None where it is not given, or empty."""
    size = query.get("size") or None
    if size is not None and size not in SIZES:
        raise not_one_of("size", SIZES)
    return size


def read_last_repository(query: MultiMapping[str]) -> str:
    """Read ``last`` of a list of repositories: '' where it is not given."""
    last = query.get("last")
    if last is None:
        return ""
    # The fork's pattern is not anchored: any text that contains a match is accepted.
    if not _REPOSITORY_SOMEWHERE.search(last) or not last.isprintable():
        raise no_match("last", _REPOSITORY_NAME)
    return last


def _read_place(query: MultiMapping[str], name: str) -> Place | None:
    text = query.get(name)
    if text is None:
        return None
    # The fork's pattern is not anchored; what PostgreSQL cannot store is refused nevertheless.
    if not _MARKER_SOMEWHERE.search(text) or not text.isprintable():
        raise no_match(name, _MARKER)
    try:
        place = read_marker(text)
    except ValueError:
        raise no_match(name, _MARKER) from None
    if not place.name.isprintable():
        raise no_match(name, _MARKER)
    return place


def _read_sort(query: MultiMapping[str]) -> str:
    sort = query.get("sort", "").strip().lower()
    if sort and sort not in SORTS:
        raise not_one_of("sort", tuple(SORTS))
    return sort


def _read_types(text: str | None) -> tuple[str, ...] | None:
    """Read a comma list; None: any. An empty list, or values that cannot be artifact types, match none."""
    if text is None:
        return None
    return tuple(part.lower() for part in text.split(",") if part and part.isprintable())

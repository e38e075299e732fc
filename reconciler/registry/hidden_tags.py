"""Tags that a registry leaves out of ``tags/list``, and how the API finds them. Pure.

3.1.0 and 3.1.1 on S3 (distribution issue 4891): after ``build-1`` the listing leaves out every tag that continues that
name with a letter, a digit or ``_``, like ``build-10`` and ``build-1a``, in pages and without. Tags that continue it
with ``-`` or ``.`` sort before the directory ``build-1/`` and are listed. A page with ``last=build-1/z`` begins behind
that directory, so it has the hidden tags, except those that one of them hides in turn.

What shows whether a registry hides tags; none of it is a version:

- A listing with both ``build-1`` and ``build-10``: it hides none. This costs no request.
- NAME_UNKNOWN for a repository that never existed: it reads directories, and hides none. An empty list instead (3.1 on
  S3, measured): it may hide tags. This costs one request.
- A page longer than requested, or one that begins before ``last``: a registry without pages (2.8), which hides none.
- A page that begins behind a listed tag and has names that the listing lacks: it hides tags.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.names import TagNames

NEVER_THERE: Final = RepositoryName("registry-indexer-doctor/never-there")
"""A repository that never existed: the answer for its tags shows whether listings are complete."""

PAGE: Final = 100
"""Names in one page behind a tag. Most tags hide nothing, so larger pages would cost more than they find."""

LONGEST_TAG: Final = 128
_DIRECTORY: Final = "/"


def behind(tag: TagName) -> str:
    """Return the ``last`` that begins after a tag's directory, and before the tags that it hides."""
    return f"{tag}{_DIRECTORY}z"


def is_hidden_by(name: str, tag: str) -> bool:
    """Return whether a registry that hides tags would list ``tag`` and leave out ``name`` because of it."""
    return len(name) > len(tag) and name.startswith(tag) and name[len(tag)] > _DIRECTORY


def shows_what_could_hide(names: Iterable[TagName]) -> bool:
    """Return whether names sorted by byte include one that another would hide: then the registry hides none."""
    prefixes: list[TagName] = []
    for name in names:
        while prefixes and not name.startswith(prefixes[-1]):
            prefixes.pop()
        if any(is_hidden_by(name, prefix) for prefix in prefixes):
            return True
        prefixes.append(name)
    return False


def ignores_last(page: Sequence[TagName], *, last: str) -> bool:
    """Return whether a page comes from a registry without pages."""
    return len(page) > PAGE or any(name <= last for name in page)


def hidden_in(page: Sequence[TagName], *, tag: TagName, listed: TagNames) -> list[TagName]:
    """Return the names of a page that ``tag`` hides: those that continue it and that the listing lacks."""
    return [name for name in page if is_hidden_by(name, tag) and name not in listed]


def next_behind(page: Sequence[TagName], *, tag: TagName) -> str | None:
    """Return the ``last`` of the next page if ``tag`` may hide more names than this page has, else None."""
    if len(page) < PAGE or not is_hidden_by(page[-1], tag):
        return None
    return page[-1]


def worth_asking(names: TagNames, *, most: int, chance: random.Random) -> list[TagName]:
    """Choose at most ``most`` tags that may hide others.

    All, if they are few enough. Otherwise half of them are the shortest, since more names continue a short one, and
    half are random, so that over many runs every tag is asked about.
    """
    if len(names) <= most:
        return sorted((name for name in names if len(name) < LONGEST_TAG), key=lambda name: (len(name), name))
    shortest = heapq.nsmallest(most // 2, names, key=len)
    chosen = set(shortest)
    others: list[TagName] = []
    wanted = most - len(shortest)
    for number, name in enumerate(name for name in names if name not in chosen and len(name) < LONGEST_TAG):
        if len(others) < wanted:
            others.append(name)
        elif (place := chance.randrange(number + 1)) < wanted:
            others[place] = name
    return shortest + others


def merged(listed: TagNames, found: Iterable[TagName]) -> TagNames:
    """Return the listed names and those found, sorted."""
    return TagNames.of(chain(listed, found))

"""Tags that a registry leaves out of its own ``tags/list``, and how they are found over the API.

3.1.0 and 3.1.1 on S3 (distribution issue 4891): once ``build-1`` is listed, everything that goes on after it with a
letter, a digit or ``_`` is passed over, ``build-10`` and ``build-1a``, in pages and without. What goes on with ``-`` or
``.`` sorts before the directory ``build-1/`` and is listed. ``last=build-1/z`` begins behind that directory, so a page
from there names what it hid, up to what the first of these hides in turn.

Evidence, none of which is a version:

- A listing that has both ``build-1`` and ``build-10`` comes from a registry that hides nothing. This costs nothing.
- A registry that says NAME_UNKNOWN for a repository that never was reads directories, and hides nothing. One that
  has "no tags" there (3.1 on S3, measured) may hide tags. This costs one request.
- A page that is longer than asked for, or begins before ``last``, comes from a registry without pages (2.8): it
  hides nothing.
- A page that begins behind a listed tag and has names that the listing has not: it hides tags.

Here is what follows from names and answers, without I/O but for one page.
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
"""A repository that nobody has: what a registry lists of it tells how it lists."""

PAGE: Final = 100
"""Names of one page behind a tag. Most tags hide nothing, and then the page is read for nothing."""

LONGEST_TAG: Final = 128
_DIRECTORY: Final = "/"


def behind(tag: TagName) -> str:
    """Return the ``last`` that begins behind everything a tag's directory holds, and before what the tag hides."""
    return f"{tag}{_DIRECTORY}z"


def is_hidden_by(name: str, tag: str) -> bool:
    """Tell whether a listing that hides would show ``tag`` and pass over ``name`` because of it."""
    return len(name) > len(tag) and name.startswith(tag) and name[len(tag)] > _DIRECTORY


def shows_what_could_hide(names: Iterable[TagName]) -> bool:
    """Tell whether names sorted by byte hold one that another would hide: then the registry hides nothing."""
    beginnings: list[TagName] = []
    for name in names:
        while beginnings and not name.startswith(beginnings[-1]):
            beginnings.pop()
        if any(is_hidden_by(name, beginning) for beginning in beginnings):
            return True
        beginnings.append(name)
    return False


def ignores_last(page: Sequence[TagName], *, last: str) -> bool:
    """Tell whether a page is that of a registry without pages."""
    return len(page) > PAGE or any(name <= last for name in page)


def hidden_in(page: Sequence[TagName], *, tag: TagName, listed: TagNames) -> list[TagName]:
    """Return the names of a page behind ``tag`` that the listing has not; what comes after its own is not its doing."""
    return [name for name in page if is_hidden_by(name, tag) and name not in listed]


def next_behind(page: Sequence[TagName], *, tag: TagName) -> str | None:
    """Return where to go on if a page may not hold everything that ``tag`` hides, else None."""
    if len(page) < PAGE or not is_hidden_by(page[-1], tag):
        return None
    return page[-1]


def worth_asking(names: TagNames, *, most: int, chance: random.Random) -> list[TagName]:
    """Choose at most ``most`` tags that something may be hidden behind.

    All where they are few enough. Else half of them are the shortest, since more goes on from a short name, and half
    are left to chance, so that one walk after the other reaches every tag.
    """
    if len(names) <= most:
        return sorted((name for name in names if len(name) < LONGEST_TAG), key=lambda name: (len(name), name))
    shortest = heapq.nsmallest(most // 2, names, key=len)
    chosen = set(shortest)
    others: list[TagName] = []
    room = most - len(shortest)
    for number, name in enumerate(name for name in names if name not in chosen and len(name) < LONGEST_TAG):
        if len(others) < room:
            others.append(name)
        elif (place := chance.randrange(number + 1)) < room:
            others[place] = name
    return shortest + others


def merged(listed: TagNames, found: Iterable[TagName]) -> TagNames:
    """Return what was listed and what was found."""
    return TagNames.of(chain(listed, found))

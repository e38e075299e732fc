"""Which of the things that could not be decided leave a walk complete. Pure.

A walk that is complete says: everything was compared after it began, but for what it names. What a repetition may
decide must keep it incomplete; what no repetition can decide must not keep it so for ever, or nobody looks any more.
The rules:

1. Names that no tag or repository can have are no part of what is compared. They never count.
2. What the operator said is closed to us (``RECONCILER_ACCEPT_DENIED``) does not count either.
3. A repository that is denied to us while others are compared is closed to us alone: GitLab's token server grants
   nothing for a deleted project. A manifest that answers 500 while others are served is damaged in the storage. A few
   of these leave the walk complete; more than the brake's share of what was compared, and more than a handful, do not.
   A repository that was compared not long ago and is denied now is another matter: somebody changed rights.
4. All else keeps the walk incomplete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from indexer.oci.reference import RepositoryName
from reconciler.drift.decide import HANDFUL
from reconciler.observing.tags import DENIED, MANIFEST_UNREADABLE

NOT_A_TAG: Final = "not_a_tag"
NOT_A_REPOSITORY: Final = "not_a_repository"
DENIED_ALONE: Final = "denied_alone"
DENIED_ACCEPTED: Final = "denied_accepted"
CATALOG: Final = "_catalog"
"""Stands for the catalog among repositories that may be closed to us: no repository can be called so."""

RECENTLY: Final = timedelta(days=7)
"""A repository that was compared within it and is denied now was closed to us: that is news."""

_NEVER: Final = frozenset({NOT_A_TAG, NOT_A_REPOSITORY, DENIED_ACCEPTED})
_OF_WHAT: Final = {DENIED_ALONE: "repositories", MANIFEST_UNREADABLE: "manifests"}
"""Kinds of which a few are let pass, and what they are few of, as counted by the walk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What is denied: ``accepted`` are the operator's patterns of names, of which ``_catalog`` is one."""

    accepted: Sequence[str] = ()

    def accepts(self, name: str) -> bool:
        """Tell whether the operator said that this is closed to us; ``*`` is any repository, not the catalog."""
        if name == CATALOG:
            return CATALOG in self.accepted
        return any(fnmatchcase(name, pattern) for pattern in self.accepted)

    def kind_of(self, name: RepositoryName, *, compared_at: datetime | None, now: datetime) -> str:
        """Return what it is that a repository is denied to us, last compared at some instant or never."""
        if self.accepts(name):
            return DENIED_ACCEPTED
        if compared_at is not None and now - compared_at < RECENTLY:
            return DENIED
        return DENIED_ALONE


def may_pass(kind: str) -> bool:
    """Tell whether a few of a kind leave a walk complete."""
    return kind in _NEVER or kind in _OF_WHAT


def spoiling(
    undecided: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int], *, share: float
) -> frozenset[str]:
    """Return the kinds that keep a walk incomplete. ``counts``: what was compared; ``share``: the brake's."""
    return frozenset(
        kind
        for kind, what in undecided.items()
        if kind not in _NEVER and not _are_few(kind, what["count"], counts, share)
    )


def _are_few(kind: str, count: int, counts: Mapping[str, int], share: float) -> bool:
    resource = _OF_WHAT.get(kind)
    if resource is None or not counts.get("repositories", 0):
        return False
    return count <= max(HANDFUL, (counts.get(resource, 0) + count) * share)

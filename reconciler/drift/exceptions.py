"""Which undecided items leave a reconcile complete. Pure.

A complete run says: everything was compared after it began, except what it names. An item that the next run may decide
keeps the run incomplete. An item that no run can decide must not keep it incomplete for ever, or operators stop reading
the outcome. The rules:

1. Names that are no valid tag or repository names are not part of the comparison. They never count.
2. What the operator accepts as denied (``RECONCILER_ACCEPT_DENIED``) never counts.
3. A repository that is denied while others are compared: GitLab's token server grants nothing for a deleted project. A
   manifest that answers 500 while others are served: its content in the storage is damaged. Up to ``HANDFUL`` of these,
   or up to the brake's share of what was compared, leave the run complete. A repository that was compared within
   ``RECENTLY`` and is denied now is no such exception: somebody changed permissions.
4. Everything else keeps the run incomplete.
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
"""Stands for the catalog in ``RECONCILER_ACCEPT_DENIED``: no repository name begins with an underscore."""

RECENTLY: Final = timedelta(days=7)
"""A repository that was compared within this time and is denied now lost a permission it had."""

_NEVER: Final = frozenset({NOT_A_TAG, NOT_A_REPOSITORY, DENIED_ACCEPTED})
_OF_WHAT: Final = {DENIED_ALONE: "repositories", MANIFEST_UNREADABLE: "manifests"}
"""Kinds of which a few leave a run complete, and the count of the run that they are a share of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What the operator accepts as denied: patterns of repository names, and ``_catalog``."""

    accepted: Sequence[str] = ()

    def accepts(self, name: str) -> bool:
        """Return whether this may be denied; ``*`` matches any repository, not the catalog."""
        if name == CATALOG:
            return CATALOG in self.accepted
        return any(fnmatchcase(name, pattern) for pattern in self.accepted)

    def kind_of(self, name: RepositoryName, *, compared_at: datetime | None, now: datetime) -> str:
        """Return the kind of a denied repository; ``compared_at``: when it was last compared, None: never."""
        if self.accepts(name):
            return DENIED_ACCEPTED
        if compared_at is not None and now - compared_at < RECENTLY:
            return DENIED
        return DENIED_ALONE


def is_tolerable(kind: str) -> bool:
    """Return whether a few of a kind leave a run complete."""
    return kind in _NEVER or kind in _OF_WHAT


def blocking_kinds(
    undecided: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int], *, share: float
) -> frozenset[str]:
    """Return the kinds that keep a run incomplete. ``counts``: what was compared; ``share``: the brake's, 0 to 1."""
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

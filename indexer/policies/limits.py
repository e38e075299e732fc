"""What bounds a plan as a whole: the budget, the share of a repository, the brake. Pure, like everything here.

A budget gives back some of the deletions that rules nominated; the share of a repository holds one repository; the
brake stops the plan, all of it. The brake counts what the rules would delete, held by a repository's share or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from indexer.policies.families import Families
from indexer.policies.freed import blobs_of
from indexer.policies.rules import Brake

FEWEST_OF_A_REPOSITORY = 10
"""A repository is not held for fewer deletions, whatever share of it they are."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the brake that a plan is beyond: which, what the plan has, and what is allowed; shares from 0 to 1."""

    name: str
    found: float
    allowed: float

    @property
    def text(self) -> str:
        """In words."""
        if self.name == "share":
            shares = f"{self.found:.1%} of the scope's tags would be deleted, {self.allowed:.1%}"
            return f"{shares} are allowed (brake.share)"
        if self.name == "tags":
            return f"{self.found:.0f} tags would be deleted, {self.allowed:.0f} are allowed (brake.tags)"
        return f"{self.found:.0f} bytes would be freed, {self.allowed:.0f} are allowed (brake.bytes)"


def braked(brake: Brake, *, deleted: int, tags: int, freed_bytes: int) -> tuple[Limit, ...]:
    """Return the limits that a plan is beyond; any of them stops all of it. ``tags``: in the scope."""
    found = []
    if deleted > brake.tags:
        found.append(Limit("tags", deleted, brake.tags))
    if tags and deleted / tags > brake.share:
        found.append(Limit("share", deleted / tags, brake.share))
    if brake.bytes is not None and freed_bytes > brake.bytes:
        found.append(Limit("bytes", freed_bytes, brake.bytes))
    return tuple(found)


def holds_repository(brake: Brake, *, deleted: int, tags: int) -> bool:
    """Tell whether a repository would lose so much that it is held, and the rest of the plan goes on."""
    return deleted >= FEWEST_OF_A_REPOSITORY and deleted / tags > brake.repository_share


class Nominated(NamedTuple):
    """A tag that a rule would delete: whose it is, and when it was used or pushed last."""

    repository: str
    tag: str
    digest: str
    last_used_at: datetime


def within_budget(
    budget_bytes: int,
    nominated: Iterable[Nominated],
    tags: Mapping[str, Sequence[str]],
    families: Mapping[str, Families],
) -> set[tuple[str, str]]:
    """Return the nominated tags, as (repository, tag), that stay, since what is left is within the budget with them.

    ``tags``: the digest of every tag, by repository. What tags hold is their families' blobs, each counted once. Those
    that were used longest ago go first; of two equal ones that with the smaller name.
    """
    held = _Held(tags, families)
    if held.bytes <= budget_bytes:
        return {(each.repository, each.tag) for each in nominated}
    stay: set[tuple[str, str]] = set()
    for each in sorted(nominated, key=lambda one: (one.last_used_at, one.repository, one.tag)):
        if held.bytes <= budget_bytes:
            stay.add((each.repository, each.tag))
        else:
            held.remove(each.repository, each.digest)
    return stay


class _Held:
    """The bytes that some tags hold, while tags go."""

    def __init__(self, tags: Mapping[str, Sequence[str]], families: Mapping[str, Families]) -> None:
        self._families = families
        self._tags_of = Counter(
            (repository, manifest)
            for repository, digests in tags.items()
            for digest in digests
            for manifest in self._family(repository, digest)
        )
        sizes: dict[str, int] = {}
        self._owners: Counter[str] = Counter()
        for repository, manifest in self._tags_of:
            blobs = dict(blobs_of(families[repository].manifests[manifest]))
            sizes.update(blobs)
            self._owners.update(blobs.keys())
        self.bytes = sum(sizes.values())

    def remove(self, repository: str, digest: str) -> None:
        """Let a tag of a digest go."""
        for manifest in self._family(repository, digest):
            self._tags_of[repository, manifest] -= 1
            if self._tags_of[repository, manifest]:
                continue
            for blob, size in blobs_of(self._families[repository].manifests[manifest]):
                self._owners[blob] -= 1
                self.bytes -= 0 if self._owners[blob] else size

    def _family(self, repository: str, digest: str) -> Sequence[str]:
        families = self._families[repository]
        if digest not in families.manifests:
            return ()
        return (digest,) if families.is_alone(digest) else tuple(families.family(digest))

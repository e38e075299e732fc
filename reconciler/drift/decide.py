"""The brake: when a walk must not believe what it sees. Pure.

An empty mount looks like an empty registry, and so does another registry's URL. The rules:

1. What went with a whole repository that the registry no longer knows is the suspicious kind: storage that is
   not mounted looks so, while deleting through the API leaves the repository known (2.8.2 and 3.1.1 on a
   filesystem). More than the configured share of all tags (or manifests) going that way pulls the brake.
2. What is missing from repositories that still answer is ordinary drift (lost delete notifications); a handful
   is always believed, beyond it the same share counts.

A pulled brake holds back every deletion of the walk, says what it would have done, and is released once by
``reconciler once --release-brake``.
"""

from __future__ import annotations

from dataclasses import dataclass

HANDFUL = 10
"""Ordinary deletions that are believed in an inventory of any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How many of one noun (tags or manifests) are on record, and how many a walk would delete."""

    resource: str
    on_record: int
    vanished: int
    """With repositories that the registry no longer knows."""
    missing: int
    """From repositories that still answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakePulled:
    """The brake is pulled, and why."""

    reason: str


def brake(losses: Losses, *, share: float) -> BrakePulled | None:
    """Decide whether deleting ``losses`` must be asked for first."""
    allowed = losses.on_record * share
    if losses.vanished > allowed:
        return BrakePulled(
            reason=f"{losses.vanished} of {losses.on_record} {losses.resource} are in repositories that the registry "
            f"no longer knows (allowed: {share:.0%})"
        )
    if losses.missing > max(allowed, HANDFUL):
        return BrakePulled(
            reason=f"{losses.missing} of {losses.on_record} {losses.resource} are gone from the registry "
            f"(allowed: {share:.0%})"
        )
    return None

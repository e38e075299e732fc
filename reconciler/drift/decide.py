"""The brake: the limit on deletions that a reconcile believes at once. Pure.

Storage that is not mounted, or a wrong registry URL, answers as an empty registry does. The rules:

1. Tags (or manifests) of repositories that the registry no longer knows: more than the configured share of all on
   record pulls the brake. Storage that is not mounted answers so; deletes through the API leave the repository known
   (2.8.2 and 3.1.1 on a filesystem).
2. Tags (or manifests) missing from repositories that the registry still knows are ordinary drift: delete events were
   lost. ``HANDFUL`` of them are always believed; beyond that the same share is the limit.

A pulled brake holds back every deletion of the run. The report lists them; ``reconciler once --release-brake`` makes
them once.
"""

from __future__ import annotations

from dataclasses import dataclass

HANDFUL = 10
"""Deletions in repositories that still answer which are believed whatever the size of the inventory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How many tags, or manifests, are on record, and how many of them a run would delete."""

    resource: str
    on_record: int
    vanished: int
    """In repositories that the registry no longer knows."""
    missing: int
    """In repositories that the registry still knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakePulled:
    """The brake is pulled, and why."""

    reason: str


def brake(losses: Losses, *, share: float) -> BrakePulled | None:
    """Return why the brake is pulled; None: the deletions are made. ``share``: of what is on record, 0 to 1."""
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

"""The settings of a reconcile run, its progress, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from indexer.common.rfc3339 import format_time
from indexer.inventory.changes import Finding
from indexer.oci.reference import RepositoryName
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.operators import Operator
from indexer.store.reconcile_runs import Undecided
from reconciler.drift.exceptions import Closed

EXAMPLES: Final = 5
"""Undecided items that are kept in full for each kind of reason."""

ALWAYS_COUNTED: Final = (
    "repositories",
    "tags",
    "manifests",
    "found",
    "changed",
    "held_back",
    "undecided",
    "repositories_undecided",
)
"""What a report for machines counts even where there was none."""

CATALOG_INCOMPLETE: Final = "catalog_incomplete"
CATALOG_DENIED: Final = "catalog_denied"
UNKNOWN_REPOSITORY: Final = "unknown_repository"
NOT_READ: Final = "not_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: repositories compared of ``total``, and tags compared."""

    repositories: int
    total: int
    tags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The result of a run.

    ``counts``: among others ``repositories``, ``tags`` and ``manifests`` compared; ``found``: tags entered by the first
    reconcile of their repository; ``changed``: records repaired; ``held_back``: deletions not made.
    ``undecided``: items by kind of reason, counted, the first few in full. ``blocking``: the kinds that keep the run
    incomplete (``exceptions``). ``held_back``: the first tags that the brake kept, ``held_back_by_repository``: the
    repositories with most of them. ``resumed_from``: when the run began that this process continued.
    """

    outcome: RunOutcome
    counts: Counter[str]
    undecided: Undecided = field(default_factory=dict)
    blocking: frozenset[str] = frozenset()
    brake: str | None = None
    held_back: Sequence[Finding] = ()
    held_back_by_repository: Mapping[str, int] = field(default_factory=dict)
    resumed_from: datetime | None = None
    of_cache: bool = False
    """The registry is a pull-through cache, and nothing was compared."""

    def show(self) -> dict[str, Any]:
        """Return it for machines: what is counted even where there was none, the reasons, and what the brake held."""
        return {
            "outcome": self.outcome,
            "counts": {name: self.counts[name] for name in ALWAYS_COUNTED} | dict(self.counts),
            "undecided": self.reasons,
            "left_out": self.left_out,
            "brake": self.brake,
            "of_cache": self.of_cache,
            "resumed_from": None if self.resumed_from is None else format_time(self.resumed_from),
            "held_back": [
                {"repository": finding.repository, "tag": finding.tag} for finding in self.held_back
            ],
            "held_back_by_repository": dict(self.held_back_by_repository),
        }

    @property
    def reasons(self) -> list[str]:
        """Examples of what keeps the run incomplete."""
        return examples({kind: what for kind, what in self.undecided.items() if kind in self.blocking})

    @property
    def left_out(self) -> list[str]:
        """Examples of what was left out of a comparison that is complete without it."""
        return examples({kind: what for kind, what in self.undecided.items() if kind not in self.blocking})

    @property
    def undecided_count(self) -> int:
        """The number of items that keep the run incomplete."""
        return sum(what["count"] for kind, what in self.undecided.items() if kind in self.blocking)

    @property
    def left_out_count(self) -> int:
        """The number of items that were left out."""
        return sum(what["count"] for kind, what in self.undecided.items() if kind not in self.blocking)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How to reconcile.

    ``reread_after``: manifests that were read longer ago are read again. ``brake_share``: 0 to 1. ``scope``: only these
    repositories; None: all. ``concurrency``: requests under way at once.
    """

    mode: RunMode
    concurrency: int
    brake_share: float
    reread_after: timedelta
    hidden_tag_requests: int = 0
    """How many requests a run may send to find tags that the registry does not list; 0: none."""
    scope: Sequence[RepositoryName] | None = None
    release_brake: bool = False
    operator: Operator | None = None
    """Who asked for the run; None: it began by itself."""
    closed: Closed = Closed()  # noqa: RUF009 - frozen
    """What the operator accepts as denied."""
    resume: bool = False
    """Continue an interrupted run, or take part in one under way, instead of beginning another."""
    resume_since: datetime | None = None
    """With ``resume``: only one that began no earlier, and at which nobody works. A process that was stopped seems to
    work, and nobody can take what it has: then another run is begun."""

    @property
    def thorough(self) -> bool:
        """Whether every manifest is read again."""
        return self.reread_after == timedelta(0)


def one_undecided(kind: str, example: str) -> Undecided:
    """Return one undecided item."""
    return {kind: {"count": 1, "examples": [example]}}


def left_out(kind: str, count: int, what: str, shown: Sequence[str], *, where: str = "") -> Undecided:
    """Return names that were left out: how many (``count``) of what, the first few, and a prefix of the sentence."""
    named = ", ".join(map(repr, shown)) + (", …" if count > len(shown) else "")
    return {kind: {"count": count, "examples": [f"{where}{count} {what} were left out: {named}"]}}


def add_undecided(into: Undecided, more: Undecided) -> None:
    """Add ``more`` to ``into``; of the examples the first ``EXAMPLES`` stay."""
    for kind, what in more.items():
        kept = into.setdefault(kind, {"count": 0, "examples": []})
        kept["count"] += what["count"]
        kept["examples"] = [*kept["examples"], *what["examples"]][:EXAMPLES]


def examples(undecided: Undecided) -> list[str]:
    """Return the examples of all kinds."""
    return [example for what in undecided.values() for example in what["examples"]]

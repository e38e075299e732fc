"""How a walk is to be made, and what it says while it goes and when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from indexer.inventory.changes import Finding
from indexer.oci.reference import RepositoryName
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.operators import Operator
from indexer.store.reconcile_runs import Undecided
from reconciler.drift.exceptions import Closed

EXAMPLES: Final = 5
"""Of what could not be decided, kept in full for each kind of reason."""

CATALOG_INCOMPLETE: Final = "catalog_incomplete"
CATALOG_DENIED: Final = "catalog_denied"
UNKNOWN_REPOSITORY: Final = "unknown_repository"
NOT_READ: Final = "not_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a walk is."""

    repositories: int
    total: int
    tags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a walk did.

    ``undecided`` counts by kind of reason what could not be decided, with the first few in full; ``spoiling`` are the
    kinds that keep the walk incomplete (``exceptions``). ``held_back`` are the first tags that the brake saved,
    ``held_back_by_repository`` the repositories of most of them, with how many of each.
    ``resumed_from``: when the walk began that this one went on with.
    """

    outcome: RunOutcome
    counts: Counter[str]
    undecided: Undecided = field(default_factory=dict)
    spoiling: frozenset[str] = frozenset()
    brake: str | None = None
    held_back: Sequence[Finding] = ()
    held_back_by_repository: Mapping[str, int] = field(default_factory=dict)
    resumed_from: datetime | None = None
    of_cache: bool = False
    """The registry is a pull-through cache, and nothing was compared."""

    @property
    def reasons(self) -> list[str]:
        """The examples of what keeps the walk incomplete."""
        return examples({kind: what for kind, what in self.undecided.items() if kind in self.spoiling})

    @property
    def left_out(self) -> list[str]:
        """The examples of what was left out of a comparison that is complete without it."""
        return examples({kind: what for kind, what in self.undecided.items() if kind not in self.spoiling})

    @property
    def undecided_count(self) -> int:
        """How much keeps the walk incomplete."""
        return sum(what["count"] for kind, what in self.undecided.items() if kind in self.spoiling)

    @property
    def left_out_count(self) -> int:
        """How much was left out."""
        return sum(what["count"] for kind, what in self.undecided.items() if kind not in self.spoiling)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How to walk."""

    mode: RunMode
    concurrency: int
    brake_share: float
    reread_after: timedelta
    hidden_tag_requests: int = 0
    """How many requests may be made for tags that the registry does not list; 0: none."""
    scope: Sequence[RepositoryName] | None = None
    release_brake: bool = False
    operator: Operator | None = None
    """Who asked for it; None: nobody did, it began by itself."""
    closed: Closed = Closed()  # noqa: RUF009 - frozen
    """What the operator said is denied to us."""
    resume: bool = False
    """Go on with a walk that was interrupted, or take part in one under way, rather than begin another."""

    @property
    def thorough(self) -> bool:
        """Every manifest is read again."""
        return self.reread_after == timedelta(0)


def one_undecided(kind: str, example: str) -> Undecided:
    """Return one thing that could not be decided."""
    return {kind: {"count": 1, "examples": [example]}}


def left_out(kind: str, count: int, what: str, shown: Sequence[str], *, where: str = "") -> Undecided:
    """Return names that were left out: how many, of what, the first few, and in which repository."""
    named = ", ".join(map(repr, shown)) + (", …" if count > len(shown) else "")
    return {kind: {"count": count, "examples": [f"{where}{count} {what} were left out: {named}"]}}


def add_undecided(into: Undecided, more: Undecided) -> None:
    """Add counts; the first examples stay."""
    for kind, what in more.items():
        kept = into.setdefault(kind, {"count": 0, "examples": []})
        kept["count"] += what["count"]
        kept["examples"] = [*kept["examples"], *what["examples"]][:EXAMPLES]


def examples(undecided: Undecided) -> list[str]:
    """Return the examples of all kinds."""
    return [example for what in undecided.values() for example in what["examples"]]

"""The full reconciles: the last complete one, and what the newest found."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from indexer.api.models import Shown
from indexer.common.rfc3339 import format_time
from indexer.store.listing import status as store
from indexer.store.listing.page_query import Row


class Reconcile(Shown):
    """A full reconcile that ended complete."""

    id: int
    started_at: datetime
    finished_at: datetime
    counts: dict[str, Any]


class ReconcileFindings(Shown):
    """What one full reconcile found."""

    id: int
    started_at: datetime
    finished_at: datetime
    outcome: Literal["complete", "incomplete", "braked"]
    repositories: int = Field(description="Repositories compared, completely or in part.")
    tags: int = Field(description="Tags compared.")
    found: int = Field(
        description="Tags entered by the first reconcile of their repository: they were there before the indexer."
    )
    repaired: int = Field(description="Records that differed from the registry and were corrected.")
    held_back: int = Field(description="Deletions that the brake did not allow.")
    undecided: dict[str, int] = Field(description="How much could not be decided, by kind of reason.")


def show_reconcile(found: store.StatusRows) -> dict[str, Any] | None:
    """Return the last :class:`Reconcile` for the response; None before the first."""
    row = found.last_walk
    if row is None:
        return None
    return {
        "id": row["id"],
        "started_at": format_time(row["started_at"]),
        "finished_at": format_time(row["finished_at"]),
        "counts": row["counts"],
    }


def show_found(row: Row) -> dict[str, Any]:
    """Return a :class:`ReconcileFindings` for the response."""
    counts = row["counts"]
    return {
        "id": row["id"],
        "started_at": format_time(row["started_at"]),
        "finished_at": format_time(row["finished_at"]),
        "outcome": row["outcome"],
        "repositories": counts.get("repositories", 0),
        "tags": counts.get("tags", 0),
        "found": counts.get("found", 0),
        "repaired": counts.get("changed", 0),
        "held_back": counts.get("held_back", 0),
        "undecided": {kind: what["count"] for kind, what in row["undecided"].items()},
    }

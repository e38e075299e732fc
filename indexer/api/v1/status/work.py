"""Work items that wait, and the loops of all processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.api.v1.status.ages import age
from indexer.common.rfc3339 import format_time
from indexer.inventory.changes import WorkKind
from indexer.store.listing import status as store


class Backlog(Shown):
    """Work items of one kind that wait."""

    waiting: int
    due: int = Field(description="Of these, how many may be taken now.")
    failing: int = Field(description="Of these, how many have failed before.")
    since: datetime | None
    age_seconds: float | None


class LoopStatus(Shown):
    """A background loop of one process."""

    loop: str
    process: str
    started_at: datetime
    last_run_at: datetime | None
    last_good_at: datetime | None
    last_error: str | None
    outcome: str | None


def show_backlog(found: store.StatusRows, kind: WorkKind, now: datetime) -> dict[str, Any]:
    """Return a :class:`Backlog` for the response."""
    row = found.backlog.get(kind)
    if row is None:
        return {"waiting": 0, "due": 0, "failing": 0, "since": None, "age_seconds": None}
    return {
        "waiting": row["waiting"],
        "due": row["due"],
        "failing": row["failing"],
        "since": format_time(row["since"]),
        "age_seconds": age(row["since"], now),
    }


def show_loops(found: store.StatusRows) -> Sequence[dict[str, Any]]:
    """Return every :class:`LoopStatus` for the response."""
    times = ("started_at", "last_run_at", "last_good_at")
    texts = ("loop", "process", "last_error", "outcome")
    return [
        {name: row[name] for name in texts} | {name: format_time(row[name]) for name in times}
        for row in found.loops
    ]

"""Jobs, and whether anything may act."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.common.rfc3339 import format_time
from indexer.jobs.job import JobState
from indexer.jobs.pauses import Pause
from indexer.store.jobs import JobCount


class PauseShown(Shown):
    """Why nothing acts."""

    code: str = Field(description="`maintenance`, `blocked_window` or `policies_unreadable`.")
    text: str
    until: datetime | None = Field(description="Null: not known.")


class JobCountShown(Shown):
    """The jobs of one kind that are in one state."""

    kind: str
    state: JobState
    jobs: int
    since: datetime = Field(description="When the oldest of them was asked for.")


class ActingShown(Shown):
    """Jobs, and whether anything may act."""

    paused: PauseShown | None = Field(description="Null: everything may act that was switched on.")
    jobs: list[JobCountShown] = Field(description="The jobs on record, by kind and state.")


def show_acting(pause: Pause | None, counts: Sequence[JobCount]) -> dict[str, Any]:
    """Return an :class:`ActingShown` for the response."""
    return {
        "paused": None
        if pause is None
        else {"code": pause.code, "text": pause.text, "until": format_time(pause.until)},
        "jobs": [
            {"kind": each.kind, "state": each.state, "jobs": each.jobs, "since": format_time(each.since)}
            for each in counts
        ],
    }

"""Jobs, whether anything may act, and what an operator must see of our own deletions."""

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
from indexer.store.tag_actions import Alarming


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


class DeletionsShown(Shown):
    """What an operator must see of deletions, restores and their checks."""

    on_dummy: int = Field(
        description="Tags that may still point to a dummy manifest, since a deletion was interrupted."
    )
    uncertain: int = Field(description="Tags of which it is not known whether a push was lost.")
    put_back_in_the_last_day: int = Field(
        description="Pushes that fell between a deletion of ours and were put back."
    )
    examples: list[str] = Field(description="Tags that may point to a dummy manifest; at most 5.")


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


def show_deletions(found: Alarming) -> dict[str, Any]:
    """Return a :class:`DeletionsShown` for the response."""
    return {
        "on_dummy": found.on_dummy,
        "uncertain": found.uncertain,
        "put_back_in_the_last_day": found.put_back,
        "examples": list(found.examples),
    }

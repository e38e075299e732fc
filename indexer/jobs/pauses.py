"""Whether anything may act now, else why not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from indexer.common.rfc3339 import format_time
from indexer.policies.grammar import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """A time in which nothing acts because an operator said so. ``until`` None: until it is ended."""

    begun_at: datetime
    until: datetime | None
    ended_at: datetime | None
    begun_by: str
    reason: str | None

    def holds(self, now: datetime) -> bool:
        """Whether it has begun and not ended."""
        return self.ended_at is None and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Why nothing acts: a word for programs, and a sentence. ``until`` None: not known."""

    code: str
    text: str
    until: datetime | None = None


def pause_of(
    *, maintenance: Maintenance | None, blocked: Iterable[Window] = (), now: datetime
) -> Pause | None:
    """Return why nothing may act at an instant; None: it may. Maintenance is named first: an operator asked for it."""
    if maintenance is not None and maintenance.holds(now):
        end = "until `reconciler maintenance end`"
        if maintenance.until is not None:
            end = f"until {format_time(maintenance.until)} or `reconciler maintenance end`"
        why = f": {maintenance.reason}" if maintenance.reason else ""
        return Pause(
            code="maintenance",
            text=f"{maintenance.begun_by} began maintenance, nothing acts {end}{why}",
            until=maintenance.until,
        )
    for window in blocked:
        if window.contains(now):
            return Pause(
                code="blocked_window",
                text=f"nothing acts in the blocked window {window.text!r} of the policies file",
            )
    return None

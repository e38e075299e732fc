"""When a part of the log is closed, and which closed ones may leave it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

LARGEST = 5_000_000
"""Entries of a part: closing one reads it once to prove its bounds, while the sealer waits (about a second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """A part of the log: positions from ``first`` to ``last``, which is None while it is open."""

    first: int
    last: int | None
    opened_at: datetime
    closed_at: datetime | None = None
    dropped_at: datetime | None = None
    file: str | None = None

    @property
    def month(self) -> date:
        """The month it is of, in UTC: that in which it was opened."""
        return month_of(self.opened_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Whether a closed part may leave the log; ``held_by`` says what keeps it, None: nothing."""

    part: LogPart
    held_by: str | None


def month_of(at: datetime) -> date:
    """Return the first day of an instant's month, in UTC."""
    return at.astimezone(UTC).date().replace(day=1)


def closes(part: LogPart, *, head: int, now: datetime) -> bool:
    """Tell whether the open part ends with position ``head``: its month is over, or it is large; never an empty one."""
    entries = head - part.first + 1
    return entries > 0 and (part.month < month_of(now) or entries >= LARGEST)


def leaving(
    parts: Iterable[LogPart],
    *,
    before: date | None,
    cut: datetime | None,
    waiting: Iterable[tuple[str, int]],
    signed: int | None = None,
) -> list[Leaving]:
    """Return the closed parts that are old enough to leave, oldest first.

    Of a month before ``before``, or closed before ``cut``. The log loses its beginning only: what is held keeps all
    that follow it. ``waiting`` are readers by name, with the last position each has read. ``signed``: how many entries
    the newest checkpoint counts, where an archive needs one; None: it does not matter.
    """
    readers = sorted(waiting, key=lambda reader: reader[1])
    found: list[Leaving] = []
    for part in sorted(parts, key=lambda part: part.first):
        if part.dropped_at is not None:
            continue
        if part.last is None or part.closed_at is None or not _is_old(part, before=before, cut=cut):
            break
        behind = [name for name, position in readers if position < part.last]
        held_by = f"not yet delivered to: {', '.join(behind)}" if behind else None
        if held_by is None and signed is not None and signed < part.last:
            held_by = f"not yet signed: the newest checkpoint counts {signed} entries"
        found.append(Leaving(part=part, held_by=held_by))
        if held_by is not None:
            break
    return found


def _is_old(part: LogPart, *, before: date | None, cut: datetime | None) -> bool:
    by_month = before is not None and part.month < before
    by_age = cut is not None and part.closed_at is not None and part.closed_at < cut
    return by_month or by_age


def cut_of(keep: timedelta | None, now: datetime) -> datetime | None:
    """Return the instant before which a part must be closed to be older than ``keep``; None: kept for ever."""
    return None if keep is None else now - keep

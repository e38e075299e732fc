"""Instants as text: RFC 3339, UTC, always with microseconds and ``Z``; so equal instants are equal texts.

Callers may name an instant in shorter ways, too: ``parse_moment``.

An instant that comes from outside lies between ``EARLIEST`` and ``LATEST``: the first and last that Python can name are
how the database driver writes its infinities, which mean "never" and "for ever" in our columns.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import orjson

_TIME = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})[Tt ](?P<time>\d{2}:\d{2}:)(?P<second>\d{2})(?:\.(?P<fraction>\d{1,18}))?"
    r"(?:(?P<zulu>[Zz])|(?P<sign>[+ -])(?P<hours>\d{2}):(?P<minutes>\d{2}))\Z",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
_AGE = re.compile(r"(?P<number>\d{1,9})(?P<unit>[smhdw])\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LAST_SECOND = 59
_LEAP_SECOND = 60
_MICROSECOND = timedelta(microseconds=1)
EARLIEST = datetime.min.replace(tzinfo=UTC) + _MICROSECOND
LATEST = datetime.max.replace(tzinfo=UTC) - _MICROSECOND


def format_time(at: datetime | None) -> str | None:
    """Return ``2026-01-31T12:00:00.000000Z``; None for None. ``at`` must be in UTC."""
    if at is None:
        return None
    text = orjson.dumps(at).decode()  # a third of isoformat()'s time, and a page has hundreds; in quotes
    return f"{text[1:27]}Z" if at.microsecond else f"{text[1:20]}.000000Z"


def parse_time(text: str) -> datetime:
    """Return the instant ``text`` names; raise ``ValueError`` where it is not RFC 3339 with a time zone.

    Finer than a microsecond is cut off, a leap second is the next second (as POSIX clocks have it), and what
    lies beyond ``EARLIEST`` and ``LATEST`` is the nearer of them. A space for the sign ``+`` is taken: it is what a
    ``+`` becomes that was not escaped in a URL.
    """
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time with a time zone: {text[:60]!r}")
    leap = int(match["second"]) == _LEAP_SECOND
    second = _LAST_SECOND if leap else int(match["second"])
    at = datetime.fromisoformat(f"{match['date']}T{match['time']}{second:02d}").replace(tzinfo=UTC)
    at = at.replace(microsecond=int((match["fraction"] or "").ljust(6, "0")[:6]))
    shift = timedelta(seconds=1) if leap else timedelta()
    if not match["zulu"]:
        minutes = _offset_minutes(match["hours"], match["minutes"])
        shift += timedelta(minutes=minutes if match["sign"] == "-" else -minutes)
    try:
        return clamp(at + shift)
    except OverflowError:
        return EARLIEST if shift < timedelta() else LATEST


def clamp(at: datetime) -> datetime:
    """Return an aware instant within ``EARLIEST`` and ``LATEST``: itself, but for the two beyond them."""
    return min(max(at, EARLIEST), LATEST)


def parse_moment(text: str, *, now: datetime) -> datetime:
    """Return the instant a caller names: RFC 3339, a date (its first instant in UTC), or an age before ``now``.

    Ages are a whole number of ``s``, ``m``, ``h``, ``d`` or ``w``: ``7d`` is 168 hours before ``now``; what lies before
    the year 1 is its first instant. Raises ``ValueError`` for anything else.
    """
    age = _AGE.match(text)
    if age is not None:
        try:
            return clamp(now - timedelta(seconds=int(age["number"]) * _SECONDS[age["unit"]]))
        except OverflowError:
            return EARLIEST
    if _DATE.match(text):
        return clamp(datetime.fromisoformat(text).replace(tzinfo=UTC))
    try:
        return parse_time(text)
    except ValueError as error:
        if _TIME.match(text):
            raise
        raise ValueError(f"not a time, a date or an age: {text[:60]!r}") from error


def _offset_minutes(hours: str, minutes: str) -> int:
    if int(hours) > 23 or int(minutes) > 59:  # noqa: PLR2004 - hours of a day, minutes of an hour
        raise ValueError(f"not a time zone: {hours}:{minutes}")
    return int(hours) * 60 + int(minutes)

"""What the short texts of the file mean: durations, rates, shares, sizes, windows. One grammar for every section.

Each reader takes what YAML gave and returns what it means, or raises ``ValueError`` that says what would be right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from indexer.common import values

LONGEST = timedelta(days=36500)
"""No period is longer: every instant that is computed with one can be named."""

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_OF_DAY = 24 * 60

_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)/(s|m|h)\Z", re.ASCII)
_RATE_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%\Z", re.ASCII)
_WINDOW = re.compile(
    r"(?P<days>[A-Za-z]+(?:[,-][A-Za-z]+)*) (?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)"
    r"(?P<zone>Z| [A-Za-z][A-Za-z0-9_+/-]*)\Z",
    re.ASCII,
)
_WINDOW_SHAPE = (
    'a window is like "Sat 02:00-06:00Z", "Mon-Fri 22:00-04:00 Europe/Berlin" or "daily 03:00-04:00Z"'
)


def parse_period(value: object) -> timedelta:
    """Return ``30s``, ``15m``, ``24h``, ``7d`` or ``2w`` as a timedelta of at most 100 years; ``0s`` is one."""
    period = values.parse_duration(value)
    if period > LONGEST:
        raise ValueError(f"longer than 100 years; got {value!r}")
    return period


def parse_rate(value: object) -> float:
    """Return ``5/s``, ``90/m`` or ``100/h`` as a number a second, above 0."""
    match = _RATE.match(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError(f"a rate is a number and a unit of time, like 5/s, 90/m or 100/h; got {value!r}")
    return float(match[1]) / _RATE_SECONDS[match[2]]


def parse_share(value: object) -> float:
    """Return ``10%`` as 0.1; a number without the sign is refused, since 1 might be meant as all or as a hundredth."""
    match = _SHARE.match(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:  # noqa: PLR2004 - percent
        raise ValueError(f"a share is a percentage from 0% to 100%, like 10% or 0.5%; got {value!r}")
    return float(match[1]) / 100


def parse_size(value: object) -> int:
    """Return ``512MiB``, ``200GiB``, ``1TiB`` or a number of bytes as an int."""
    return values.parse_size(value)


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week, by the clocks of one zone.

    ``days`` are those on which it begins, 0 is Monday. It lasts from minute ``from_minute`` of such a day to
    ``to_minute`` (not included); where that is not later, it ends on the day after.
    """

    text: str
    days: frozenset[int]
    from_minute: int
    to_minute: int
    zone: tzinfo

    def contains(self, at: datetime) -> bool:
        """Tell whether an instant lies in it. An hour that clocks show twice is in it twice, one they skip never."""
        local = at.astimezone(self.zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.from_minute < self.to_minute:
            return day in self.days and self.from_minute <= minute < self.to_minute
        began_today = day in self.days and minute >= self.from_minute
        return began_today or ((day - 1) % 7 in self.days and minute < self.to_minute)


def parse_window(value: object) -> Window:
    """Return a window: days, a time of day from and to, and ``Z`` or the name of a time zone.

    Days are a list (``Sat,Sun``), a range (``Mon-Fri``, ``Fri-Mon``) or ``daily``.
    """
    match = _WINDOW.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_WINDOW_SHAPE}; got {value!r}")
    text = match.string
    begin, end = _minute(match["from"], text), _minute(match["to"], text)
    if begin == MINUTES_OF_DAY:
        raise ValueError(f"a window begins at 23:59 at the latest; got {value!r}")
    if begin == end:
        raise ValueError(
            f"a window that ends when it begins is empty; a whole day is 00:00-24:00; got {value!r}"
        )
    return Window(text, _days(match["days"], text), begin, end, _zone(match["zone"].strip(), text))


def _minute(text: str, whole: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if minute > 59 or hour * 60 + minute > MINUTES_OF_DAY:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(f"there is no time of day {text}; got {whole!r}")
    return hour * 60 + minute


def _days(text: str, whole: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in DAYS:
                raise ValueError(f"days are {', '.join(DAYS)} or daily, not {name}; got {whole!r}")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + number) % 7 for number in range(length + 1)}
    return frozenset(found)


def _zone(name: str, whole: str) -> tzinfo:
    if name == "Z":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no name of a zone at all; the name of a directory
        raise ValueError(
            f"there is no time zone {name}: Z, or a name like Europe/Berlin; got {whole!r}"
        ) from None

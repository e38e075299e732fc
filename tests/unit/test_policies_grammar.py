"""The short texts of the file of policies: what each means, and what is refused with what would be right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from indexer.policies.grammar import parse_period, parse_rate, parse_share, parse_size, parse_window

MEANT: list[tuple[Callable[[object], object], object, object]] = [
    (parse_period, "0s", timedelta(0)),
    (parse_period, "500ms", timedelta(milliseconds=500)),
    (parse_period, "90d", timedelta(days=90)),
    (parse_period, "2w", timedelta(days=14)),
    (parse_period, "1.5h", timedelta(minutes=90)),
    (parse_rate, "5/s", 5.0),
    (parse_rate, "90/m", 1.5),
    (parse_rate, "0.5/s", 0.5),
    (parse_rate, "3600/h", 1.0),
    (parse_share, "10%", 0.1),
    (parse_share, "0%", 0.0),
    (parse_share, "0.5%", 0.005),
    (parse_share, "100%", 1.0),
    (parse_size, "200GiB", 200 * 2**30),
    (parse_size, "1TiB", 2**40),
    (parse_size, 17, 17),
]


@pytest.mark.parametrize(("read", "text", "expected"), MEANT)
def test_text__means(read: Callable[[object], object], text: object, expected: object) -> None:
    """Each text has one meaning."""
    assert expected == read(text)


REFUSED: list[tuple[Callable[[object], object], object, str]] = [
    (parse_period, 7, "needs a unit"),
    (parse_period, "7", "needs a unit"),
    (parse_period, "7 days", "needs a unit"),
    (parse_period, "-1d", "needs a unit"),
    (parse_period, "٣d", "needs a unit"),
    (parse_period, "36501d", "longer than 100 years"),
    (parse_period, "9999999999999d", "longer than"),
    (parse_period, None, "needs a unit"),
    (parse_rate, 5, "number and a unit of time"),
    (parse_rate, "5", "number and a unit of time"),
    (parse_rate, "0/s", "number and a unit of time"),
    (parse_rate, "5/d", "number and a unit of time"),
    (parse_share, 0.1, "percentage"),
    (parse_share, "10", "percentage"),
    (parse_share, "101%", "percentage"),
    (parse_share, "-1%", "percentage"),
    (parse_size, "5GB", "512MiB"),
    (parse_size, True, "512MiB"),
    (parse_window, "Sat 02:00-06:00", "a window is like"),
    (parse_window, "Sat 2:00-6:00Z", "a window is like"),
    (parse_window, "Saturday 02:00-06:00Z", "days are Mon"),
    (parse_window, "Sat-Funday 02:00-06:00Z", "not Funday"),
    (parse_window, "Sat 25:00-26:00Z", "no time of day 25:00"),
    (parse_window, "Sat 02:60-03:00Z", "no time of day 02:60"),
    (parse_window, "Sat 24:00-03:00Z", "at the latest"),
    (parse_window, "Sat 02:00-02:00Z", "is empty"),
    (parse_window, "Sat 02:00-03:00 Europe/Atlantis", "no time zone Europe/Atlantis"),
    (parse_window, "Sat 02:00-03:00 Europe", "no time zone Europe"),
    (parse_window, ["Sat"], "a window is like"),
]


@pytest.mark.parametrize(("read", "text", "said"), REFUSED)
def test_text__refused(read: Callable[[object], object], text: object, said: str) -> None:
    """What has no meaning is refused, and the refusal says what would have one."""
    with pytest.raises(ValueError, match=said):
        read(text)


INSTANTS = [
    ("Sat 02:00-06:00Z", "2026-11-28T02:00", True),  # a Saturday
    ("Sat 02:00-06:00Z", "2026-11-28T05:59", True),
    ("Sat 02:00-06:00Z", "2026-11-28T06:00", False),
    ("Sat 02:00-06:00Z", "2026-11-27T03:00", False),
    ("Mon-Fri 22:00-04:00Z", "2026-11-27T23:00", True),  # Friday
    ("Mon-Fri 22:00-04:00Z", "2026-11-28T03:59", True),  # began on Friday
    ("Mon-Fri 22:00-04:00Z", "2026-11-28T23:00", False),
    ("Mon-Fri 22:00-04:00Z", "2026-11-30T01:00", False),  # would have begun on Sunday
    ("Fri-Mon 00:00-24:00Z", "2026-11-29T12:00", True),
    ("Fri-Mon 00:00-24:00Z", "2026-12-01T00:00", False),
    ("daily 03:00-04:00Z", "2026-12-01T03:30", True),
    ("Sat,Sun 03:00-04:00Z", "2026-11-29T03:30", True),
    ("Sat 02:00-06:00 Europe/Berlin", "2026-11-28T01:00", True),  # winter: one hour before UTC
    ("Sat 02:00-06:00 Europe/Berlin", "2026-11-28T05:00", False),
    ("Sat 02:00-06:00 Europe/Berlin", "2026-07-04T00:00", True),  # summer: two
    ("Sun 02:00-03:00 Europe/Berlin", "2026-03-29T01:00", False),  # the hour that clocks skip
    ("Sun 02:00-03:00 Europe/Berlin", "2026-10-25T00:30", True),  # the hour that they show twice
    ("Sun 02:00-03:00 Europe/Berlin", "2026-10-25T01:30", True),
]


@pytest.mark.parametrize(("window", "at", "inside"), INSTANTS)
def test_window__contains(window: str, at: str, inside: bool) -> None:
    """A window goes by the clocks of its zone, over midnight and through the change of the hour."""
    assert inside == parse_window(window).contains(datetime.fromisoformat(at).replace(tzinfo=UTC))

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.common.rfc3339 import EARLIEST, LATEST, clamp, format_time, parse_moment, parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.5z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.1234567899+02:30", datetime(2026, 1, 31, 9, 30, 0, 123_456, tzinfo=UTC)),
        ("2026-01-31T12:00:00-08:00", datetime(2026, 1, 31, 20, tzinfo=UTC)),
        ("2026-01-31T12:00:00 02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+01:00", EARLIEST),
        ("0001-01-01T00:00:00Z", EARLIEST),
        ("9999-12-31T23:59:59-01:00", LATEST),
        ("9999-12-31T23:59:60Z", LATEST),
        ("9999-12-31T23:59:59.999999Z", LATEST),
        ("9999-12-31T23:59:59.999999999Z", LATEST),
    ],
)
def test_parse_time__what_rfc_3339_allows(text: str, expected: datetime) -> None:
    """RFC 3339 in all its forms is one instant; an unescaped plus sign is forgiven; the edges are clamped."""
    assert expected == parse_time(text)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z",
     "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+02:60",
     "\uff12\uff10\uff12\uff16-01-31T12:00:00Z", "1767225600"],
)  # fmt: skip
def test_parse_time__refuses_what_is_no_instant(text: str) -> None:
    """No date alone, no local time, no number: nothing is guessed."""
    with pytest.raises(ValueError, match=r"RFC 3339|out of range|must be in|range|time zone"):
        parse_time(text)


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("0s", NOW),
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(days=14)),
        ("999999999w", EARLIEST),
        ("0001-01-01", EARLIEST),
    ],
)
def test_parse_moment__a_time_a_date_or_an_age(text: str, expected: datetime) -> None:
    """A date is its first instant in UTC, an age that long before now, and never before the first year."""
    assert expected == parse_moment(text, now=NOW)


@pytest.mark.parametrize(
    "text",
    ["", "now", "7", "d", "-7d", "7 d", "7D", "1.5h", "1h30m", "7y", "2026-02-30", "2026-1-1", "20260101",
     "2026-01-31T12:00:00", "2026-02-30T00:00:00Z", "\uff17d", "7d\n"],
)  # fmt: skip
def test_parse_moment__refuses_what_may_mean_several_things(text: str) -> None:
    """Months and years have no length, local times no zone: nothing is guessed."""
    with pytest.raises(ValueError, match=r"not a time, a date or an age|out of range|range|time zone"):
        parse_moment(text, now=NOW)


@given(st.datetimes(timezones=st.just(UTC)).map(clamp))
def test_format_time__is_read_back(at: datetime) -> None:
    """What is written has microseconds and Z, and is read back as the same instant."""
    text = format_time(at)
    assert text is not None
    assert len(text) == len("2026-01-31T12:00:00.000000Z")
    assert at == parse_time(text)
    other = at.astimezone(timezone(timedelta(minutes=90))) if at.year > 1 and at.year < 9999 else at
    assert at == parse_time(other.isoformat())
    assert format_time(None) is None

"""Dates, waits, links and error bodies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.common.retry_after import parse_http_date, parse_retry_after
from reconciler.registry.answers import Dated
from reconciler.registry.error_body import error_codes
from reconciler.registry.headers import next_page_marker

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fri, 02 Jan 2026 03:04:05 GMT", NOW),
        ("Fri, 02 Jan 2026 05:04:05 +0200", NOW),
        ("Fri, 02 Jan 2026 03:04:05 -0000", NOW),
        ("yesterday", None),
        ("Fri, 99 Jan 2026 03:04:05 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_http_date__table(text: str | None, expected: datetime | None) -> None:
    """HTTP dates are UTC; anything else is none."""
    assert parse_http_date(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("9" * 400, 86400.0),
        ("Fri, 02 Jan 2099 03:00:00 GMT", 86400.0),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_retry_after__table(text: str | None, expected: float | None) -> None:
    """Seconds or a date, never negative and never beyond a day; anything else is none."""
    assert parse_retry_after(text, now=NOW) == expected


DAYS = st.integers(-400, 400).map(lambda days: format_datetime(NOW + timedelta(days=days)))


@given(st.text(max_size=60) | st.integers().map(str) | DAYS)
def test_headers__are_read_within_bounds(text: str) -> None:
    """Whatever a header says: an instant is UTC and is read again as itself, a wait is no more than a day."""
    date = parse_http_date(text)
    assert date is None or (
        date.tzinfo is UTC and date == parse_http_date(format_datetime(date, usegmt=True))
    )
    wait = parse_retry_after(text, now=NOW)
    assert wait is None or 0 <= wait <= 86_400


@given(st.text(max_size=60))
def test_next_page_marker__is_read_as_it_was_written(marker: str) -> None:
    """Any name comes through a link's query as it is."""
    assert marker == next_page_marker([f"<?{urlencode({'last': marker}, errors='replace')}>; rel=next"])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        (['</v2/_catalog?last=a%2Fb&n=100>; rel="next"'], "a/b"),
        (['</v2/_catalog?n=100&last=a%2Fb>; rel="next"'], "a/b"),
        (['<https://other.test/v2/_catalog?last=a>; rel="next"'], "a"),
        (['<?last=a>; title="x"; REL=next'], "a"),
        (['<?last=x>; rel="prev", <?last=a>; rel="next"'], "a"),
        (["<?last=x>; rel=prev", '<?last=a>; rel="last next"'], "a"),
        (['<?last=x>; rel="prev"'], None),
        (['<?last=x>; rel="nextish"'], None),
        (["</v2/_catalog>; rel=next"], ""),
        (["<http://[?last=a>; rel=next"], ""),
        (["garbage"], None),
    ],
)
def test_next_page_marker__table(headers: list[str], expected: str | None) -> None:
    """Only the marker of the next page is taken, wherever the link points and however it is written."""
    assert next_page_marker(headers) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"errors":[{"code":"NAME_UNKNOWN","message":"x","detail":{}}]}', ("NAME_UNKNOWN",)),
        (b'{"errors":[{"code":"A"},{"code":"B"}]}', ("A", "B")),
        (b'{"errors":[]}', None),
        (b'{"errors":null}', None),
        (b'{"errors":[{"code":1}]}', None),
        (b'{"errors":["NAME_UNKNOWN"]}', None),
        (b'{"error":"not_found"}', None),
        (b"[]", None),
        (b"404 page not found\n", None),
        (b"", None),
    ],
)
def test_error_codes__table(content: bytes, expected: tuple[str, ...] | None) -> None:
    """Only the registry's own error body gives codes."""
    assert error_codes(content) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(-1, NOW - timedelta(seconds=1)), (1, NOW), (None, NOW)])
def test_as_of__the_clock_that_is_behind(seconds: int | None, expected: datetime) -> None:
    """An answer is dated by the earlier clock, in whatever zone the other is written."""
    clock = (
        None
        if seconds is None
        else (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=3)))
    )

    assert Dated(observed_at=NOW, registry_clock=clock).as_of == expected

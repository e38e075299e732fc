"""Dates and waits in the headers of an answer, whoever answers (RFC 9110 sections 5.6.7 and 10.2.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

_LONGEST_SECONDS: Final = 24 * 3600.0
_DIGITS: Final = 9


@lru_cache(maxsize=16)  # the answers of one second have one
def parse_http_date(text: str | None) -> datetime | None:
    """Read an HTTP date as UTC; None for anything else."""
    if not text:
        return None
    try:
        parsed = parsedate_to_datetime(text)
        # A date that says -0000 comes back without a zone; HTTP dates are always UTC.
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_retry_after(text: str | None, *, now: datetime) -> float | None:
    """Read ``Retry-After``, seconds or a date, as seconds from ``now``: 0 to a day; None for anything else."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:_DIGITS]), _LONGEST_SECONDS)
    moment = parse_http_date(text)
    if moment is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), _LONGEST_SECONDS)

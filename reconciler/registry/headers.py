"""Reading the response headers that every noun shares, pure: dates, waits, links."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL_NEXT = re.compile(r""";\s*rel\s*=\s*(?:"[^"]*\bnext\b[^"]*"|next\b)""", re.IGNORECASE)
_MAX_RETRY_AFTER_SECONDS: Final = 24 * 3600.0


def parse_http_date(text: str | None) -> datetime | None:
    """Read an HTTP date (RFC 9110 section 5.6.7) as UTC; None for anything else."""
    if not text:
        return None
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # A date that says -0000 comes back without a zone; HTTP dates are always UTC.
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def parse_retry_after(text: str | None, *, now: datetime) -> float | None:
    """Read ``Retry-After`` (RFC 9110 section 10.2.3), seconds or a date, as seconds from ``now``."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _MAX_RETRY_AFTER_SECONDS)
    moment = parse_http_date(text)
    if moment is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), _MAX_RETRY_AFTER_SECONDS)


def next_page_marker(headers: list[str]) -> str | None:
    """Return the ``last`` parameter of the RFC 8288 link to the next page; None where there is no such link.

    Only the marker is taken, never the address: the link's host, scheme and path come from whatever stands in
    front of the registry, and following them would send our credentials there. Distribution re-orders and
    re-encodes the query, so it is parsed, not matched.
    """
    for header in headers:
        for target, parameters in _LINK.findall(header):
            if _REL_NEXT.search(parameters):
                return _marker(target)
    return None


def _marker(target: str) -> str:
    """Return the ``last`` of a link's query, "" where the link has none or is no address."""
    try:
        query = urlsplit(target).query
    except ValueError:
        return ""
    return dict(parse_qsl(query)).get("last", "")

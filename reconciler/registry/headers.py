"""Parses ``Link`` headers. Pure. For dates and waits see ``indexer.common.retry_after``."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL_NEXT = re.compile(r""";\s*rel\s*=\s*(?:"[^"]*\bnext\b[^"]*"|next\b)""", re.IGNORECASE)


def next_page_marker(headers: list[str]) -> str | None:
    """Return the ``last`` parameter of the RFC 8288 link to the next page; None: there is no such link.

    Only the marker is used, never the address: the link's host, scheme and path may come from a proxy, and following
    them would send our credentials there. Distribution re-orders and re-encodes the query, so it is parsed.
    """
    for header in headers:
        for target, parameters in _LINK.findall(header):
            if _REL_NEXT.search(parameters):
                return _marker(target)
    return None


def _marker(target: str) -> str:
    """Return the ``last`` of a link's query; "" if the link has none or is no URL."""
    try:
        query = urlsplit(target).query
    except ValueError:
        return ""
    return dict(parse_qsl(query)).get("last", "")

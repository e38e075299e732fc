"""The Link header as the fork writes it and GitLab reads it (contract section 1.5). Pure.

``previous`` first, then ``next``; relative; parameters in alphabetical order. GitLab's client reads only URLs of at
most 500 characters without a comma, and of these only the parameters. So a longer URL is written without its path,
which means the same resource (RFC 3986 section 5.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

LONGEST = 500


def link_header(path: str, pages: Iterable[tuple[str, Mapping[str, str] | None]]) -> str | None:
    """Return the header for the relations and the parameters of their pages; None if there is no other page."""
    links = [
        f'<{_address(path, parameters)}>; rel="{relation}"'
        for relation, parameters in pages
        if parameters is not None
    ]
    return ", ".join(links) or None


def _address(path: str, parameters: Mapping[str, str]) -> str:
    query = f"?{urlencode(sorted(parameters.items()))}"
    return path + query if len(path) + len(query) <= LONGEST else query

"""Markers: where GitLab's pages begin (contract section 1.5). Pure.

In a list by name a marker is the tag. In one by publish time it is base64 of ``<time>|<tag>``, the time in UTC with six
digits: as exact as it is stored, or a page could skip or repeat tags.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime

from indexer.common.rfc3339 import format_time, parse_time
from indexer.store.gitlab import Place

_TIME = re.compile(r"\d+-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z", re.ASCII)
_PARTS = ("time", "tag")


def make_marker(tag: str, published_at: datetime | None) -> str:
    """Return the marker of a tag: plain, or with its publish time."""
    if published_at is None:
        return tag
    return base64.b64encode(f"{format_time(published_at)}|{tag}".encode()).decode()


def read_marker(text: str) -> Place:
    """Return the place of a marker; raise ``ValueError`` where its time or its tag is not valid.

    A text that does not decode to exactly a time and a tag is a tag: tags may look like base64.
    """
    parts = _decoded(text).split("|")
    if len(parts) != len(_PARTS) or not _TIME.match(parts[0]):
        return Place(name=text)
    if not parts[1]:
        raise ValueError("a time without a tag")
    return Place(name=parts[1], published_at=parse_time(parts[0]))


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""

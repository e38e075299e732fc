"""Shows items as a table for people: times in UTC to the second, sizes in powers of 1024, digests abbreviated.

With ``--fields`` the table has these columns, and every value is whole. Without, columns that a terminal has no room
for are left out, the least important first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indexer.common.terminal import printable

LONGEST_CELL = 60
SHORT_DIGEST = len("sha256:") + 12
ABSENT = "-"
STATE = "state"
"""A column that is no member: whether a tag is verified, or broken."""
WHO = "who"
"""A column that is no member: the name of who did it, else the address it came from."""

_HEADINGS = {
    "published_at_source": "KNOWN FROM",
    "from_source": "KNOWN FROM",
    "previous_digest": "PREVIOUS",
    "tag_count": "TAGS",
    "manifest_count": "MANIFESTS",
    "pull_count": "PULLS",
    "total_size_bytes": "SIZE",
}
_GAP = "  "
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_KEPT_TO_SECONDS = len("2026-01-31T12:00:00")


def table(items: Sequence[Mapping[str, Any]], columns: Sequence[str], *, whole: bool = False) -> list[str]:
    """Return the lines of a table; ``whole``: no value is abbreviated."""
    return _lines([_column(items, name, whole=whole) for name in columns])


def fitted(
    items: Sequence[Mapping[str, Any]], columns: Sequence[str], *, spare: Sequence[str], width: int
) -> tuple[list[str], list[str]]:
    """Return the lines of a table, and the headings of the columns that are left out so that it is not wider.

    Only columns of ``spare`` are, in that order, and as few as it takes.
    """
    found = {name: _column(items, name, whole=False) for name in columns}
    out: list[str] = []
    for name in spare:
        if sum(max(map(len, texts)) for texts in found.values()) + len(_GAP) * (len(found) - 1) <= width:
            break
        if name in found:
            out.append(found.pop(name)[0])
    return _lines(list(found.values())), out


def _column(items: Sequence[Mapping[str, Any]], name: str, *, whole: bool) -> list[str]:
    return [_heading(name), *(cell(item, name, whole=whole) for item in items)]


def _lines(columns: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, texts)) for texts in columns]
    return [
        _GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def cell(item: Mapping[str, Any], column: str, *, whole: bool = False) -> str:
    """Return the text of one cell, without characters that act on a terminal."""
    computed = _COMPUTED.get(column) if column not in item else None
    text = printable(computed(item) if computed else _text(column, item.get(column), whole=whole))
    return text if whole or len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def _heading(column: str) -> str:
    shown = column.removesuffix("_at").removesuffix("_bytes").replace("_", " ").upper()
    return _HEADINGS.get(column, shown)


def _text(column: str, value: Any, *, whole: bool) -> str:
    match value:
        case None | "" | []:
            return ABSENT
        case bool():
            return "yes" if value else "no"
        case list():
            return ",".join(_text("", each, whole=whole) for each in value)
        case dict():
            return _object(value, whole=whole)
        case _ if whole:
            return str(value)
        case _:
            return _short(column, value)


def _short(column: str, value: Any) -> str:
    """Return an abbreviated text or number."""
    if column.endswith("_bytes"):
        return _size(value)
    text = str(value)
    if column.endswith("digest") or column == "subject":
        return text[:SHORT_DIGEST]
    if column in ("from", "to", "at") or column.endswith(("_at", "not_before")):
        return text[:_KEPT_TO_SECONDS].replace("T", " ") + "Z"
    return text


def _object(value: Mapping[str, Any], *, whole: bool) -> str:
    """Return the name of who did it, or what another object has."""
    shown = value["name"] if "name" in value else _pairs(value, whole=whole)
    return shown or ABSENT


def _pairs(values: Mapping[str, Any], *, whole: bool) -> str:
    shown: Iterable[tuple[str, Any]] = ((key, value) for key, value in values.items() if value is not None)
    return " ".join(f"{key}={_text('', value, whole=whole)}" for key, value in shown)


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _state(tag: Mapping[str, Any]) -> str:
    if tag.get("broken"):
        return f"broken: {tag.get('broken_reason')}"
    return "verified" if tag.get("verified_at") else "unverified"


def _who(entry: Mapping[str, Any]) -> str:
    actor, request = entry.get("actor") or {}, entry.get("request") or {}
    return str(actor.get("name") or request.get("address") or ABSENT)


_COMPUTED = {STATE: _state, WHO: _who}

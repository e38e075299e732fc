"""Lists as CSV: a line for each item, safe to open in a spreadsheet.

Members that are objects become a column for each of their own members (``actor.name``); lists of texts are one cell,
divided by spaces; anything deeper is JSON. Nothing known and an empty text are the same empty cell. The columns are
those of the list, whatever this page has, so that pages can be joined.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin

import orjson
from pydantic import BaseModel

from indexer.common.spreadsheets import safe_cell


@cache
def columns_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the columns of a list whose items are of ``model``; members of objects follow a dot."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        shown = field.serialization_alias or field.alias or name
        inner = _object_in(field.annotation)
        if inner is None:
            found.append(shown)
        else:
            found += [f"{shown}.{column}" for column in columns_of(inner)]
    return tuple(found)


def to_csv(items: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Return a line of column names and a line per item (RFC 4180, UTF-8)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(_value(item, column)) for column in columns] for item in items)
    return text.getvalue().encode("utf-8", "replace")


def _object_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, where it holds one and may be null."""
    if get_origin(annotation) in (list, dict):
        return None
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _value(item: Mapping[str, Any], column: str) -> Any:
    value: Any = item
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() if all(isinstance(part, str) for part in value):
            return safe_cell(" ".join(value))
        case dict() | list():
            return safe_cell(orjson.dumps(value).decode())
        case _:
            return safe_cell(str(value))

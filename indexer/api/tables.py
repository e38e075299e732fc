"""Lists as CSV: a line for each item, safe to open in a spreadsheet.

A member that is an object becomes a column for each of its own members (``actor.name``). A list of texts is one cell,
separated by spaces; anything deeper is JSON. Null and an empty text are both an empty cell. The columns depend on the
list only, not on the page, so that pages can be joined.
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
    """Return the columns of a list of ``model``; members of an object come after a dot."""
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
    """Return the model of a field whose value is an object or null; None for any other field."""
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

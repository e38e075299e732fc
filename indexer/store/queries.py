"""Loads the statements of ``sql/<resource>.sql`` by name.

A statement begins with a line ``-- name: <name>`` and ends before the next one. The comment lines below the name say
what it is for and what each ``$n`` is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TypeVar

T = TypeVar("T")

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(resource: str) -> Mapping[str, str]:
    """Return the statements of one resource, by name."""
    text = (files("indexer.store") / "sql" / f"{resource}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a statement of {resource}.sql is named twice")
    return dict(zip(names, (body.strip() for body in bodies), strict=True))


def sparse(values: Sequence[T]) -> Sequence[T]:
    """Return one of several arrays that ``unnest`` takes together: empty, where it would hold nothing but nulls.

    ``unnest`` fills shorter arrays up with nulls. The driver looks at every element of an array, which takes longest.
    """
    return values if len(values) != values.count(None) else []


def statement_files() -> list[str]:
    """Return every resource that has statements. A test prepares them all against the schema."""
    return sorted(file.name.removesuffix(".sql") for file in (files("indexer.store") / "sql").iterdir())

"""The parameter ``sort``."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from pydantic import Field

_DESCRIPTION = (
    "Sort keys in order, `-` before one for descending; `name` breaks ties in the direction of the last one; "
    "unknown values come last."
)


SIZE_NAMES = ("size", "size_bytes")
"""Two names of one sort key: the name of the key of tags, and the name of the field."""


def sort_field(keys: Iterable[str], *, default: str) -> Any:
    """Return the field of a ``sort`` parameter: a comma list of ``keys``, ``-`` before one for descending.

    If one of the keys is a size, either of its names is accepted.
    """
    names = list(keys)
    key = f"-?({'|'.join([*names, *(name for name in SIZE_NAMES if _is_size(names, name))])})"
    allowed = f"a comma list of {', '.join(names)}; - before one for descending"
    return Field(
        default=default,
        max_length=200,
        pattern=f"^{key}(,{key})*$",
        description=_DESCRIPTION,
        json_schema_extra={"x-allowed": allowed},
    )


def _is_size(names: Sequence[str], name: str) -> bool:
    """Return whether ``name`` is another name of one of the keys."""
    return name not in names and any(size in names for size in SIZE_NAMES)


def parse_sort(text: str, keys: Container[str]) -> Sequence[tuple[str, bool]]:
    """Return sort keys in order, by their names in ``keys``, each with True for descending."""
    return [(_known(key.removeprefix("-"), keys), key.startswith("-")) for key in text.split(",")]


def _known(name: str, keys: Container[str]) -> str:
    if name in keys:
        return name
    return next(size for size in SIZE_NAMES if size in keys)

"""Reading ``sort``."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from pydantic import Field

_DESCRIPTION = (
    "Sort keys in order, `-` before one for descending; `name` breaks ties in the direction of the last one; "
    "what is not known comes last."
)


SIZE_NAMES = ("size", "size_bytes")
"""One key by two names: the first is how tags always were sorted, the second the name of the field."""


def sort_field(keys: Iterable[str], *, default: str) -> Any:
    """Return the field of a ``sort`` parameter: a comma list of ``keys``, ``-`` before one for descending.

    Where one of the keys is a size it may be called by either of its names.
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
    """Tell whether ``name`` is another name of one of the keys."""
    return name not in names and any(size in names for size in SIZE_NAMES)


def parse_sort(text: str, keys: Container[str]) -> Sequence[tuple[str, bool]]:
    """Return sort keys in order, each with True for descending; what is named again changes nothing.

    ``keys``: the names they are to be called by.
    """
    return [(_known(key.removeprefix("-"), keys), key.startswith("-")) for key in text.split(",")]


def _known(name: str, keys: Container[str]) -> str:
    if name in keys:
        return name
    return next(size for size in SIZE_NAMES if size in keys)

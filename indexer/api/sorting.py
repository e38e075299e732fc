"""Reading ``sort``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

_DESCRIPTION = (
    "Sort keys in order, `-` before one for descending; `name` breaks ties in the direction of the last one; "
    "what is not known comes last."
)


def sort_field(keys: Iterable[str], *, default: str) -> Any:
    """Return the field of a ``sort`` parameter: a comma list of ``keys``, ``-`` before one for descending."""
    names = list(keys)
    key = f"-?({'|'.join(names)})"
    allowed = f"a comma list of {', '.join(names)}; - before one for descending"
    return Field(
        default=default,
        max_length=200,
        pattern=f"^{key}(,{key})*$",
        description=_DESCRIPTION,
        json_schema_extra={"x-allowed": allowed},
    )


def parse_sort(text: str) -> Sequence[tuple[str, bool]]:
    """Return sort keys in order, each with True for descending; what is named again changes nothing."""
    return [(key.removeprefix("-"), key.startswith("-")) for key in text.split(",")]

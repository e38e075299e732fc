"""The options of the verbs that ask: the parameters of the API, as its description has them.

The description is the committed ``openapi.json``: reading it takes milliseconds, loading the API half a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts

DESCRIPTION = Path(__file__).parents[2] / "api" / "openapi.json"

BEGINS_WITH_MINUS = {"sort"}
"""Parameters whose values may begin with ``-``, as in ``--sort -published_at``."""


@dataclass(frozen=True, slots=True)
class Described:
    """One parameter of the API; ``only``: the path it belongs to, where a verb has several paths; None: to all."""

    name: str
    text: str
    schema: Mapping[str, Any]
    hidden: bool
    only: str | None = None

    @property
    def option(self) -> str:
        """The option's name."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name of the argument in Python, which cannot be ``from``."""
        return f"{self.name}_"

    @property
    def is_flag(self) -> bool:
        """Whether it is true or false."""
        return self.schema.get("type") == "boolean"

    def as_sent(self, value: object) -> str:
        """Return a value as it stands in the query."""
        return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _description() -> Mapping[str, Any]:
    paths: Mapping[str, Any] = json.loads(DESCRIPTION.read_bytes())["paths"]
    return paths


def parameters_of(path: str) -> list[Described]:
    """Return the query parameters of a path, in the order of the description."""
    return [
        Described(
            name=each["name"],
            text=each.get("description", ""),
            schema=each["schema"],
            hidden=each.get("deprecated", False),
        )
        for each in _description()[path]["get"].get("parameters", [])
        if each["in"] == "query"
    ]


def parameters_of_all(paths: Iterable[str]) -> dict[str, Described]:
    """Return the parameters of several paths by name: a parameter of one of them only says so."""
    each = {path: {found.name: found for found in parameters_of(path)} for path in paths}
    merged: dict[str, Described] = {}
    for path, found in each.items():
        for name, one in found.items():
            everywhere = all(name in other for other in each.values())
            only = None if everywhere else path
            merged.setdefault(name, Described(one.name, one.text, one.schema, one.hidden, only))
    return merged


def as_arguments(found: Iterable[Described]) -> Iterator[Parameter]:
    """Yield the parameters as keyword arguments of a function that cyclopts can read."""
    for one in found:
        given = cyclopts.Parameter(
            name=one.option,
            help=one.text,
            show=not one.hidden,
            show_default=False,
            allow_leading_hyphen=one.name in BEGINS_WITH_MINUS,
        )
        yield Parameter(
            one.variable,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[_type_of(one) | None, given],
        )


def _type_of(one: Described) -> Any:
    """Return the type of an option's value. Texts are sent as they are: the API says what is wrong with them."""
    if one.is_flag:
        return bool
    if one.schema.get("type") == "string" and "enum" in one.schema:
        return Literal[tuple(one.schema["enum"])]
    return str

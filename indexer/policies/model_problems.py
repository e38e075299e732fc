"""What the models refuse, in words: the line and place of each refusal, and what would be right."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from indexer.policies.parts import Tags
from indexer.policies.problems import Problem
from indexer.policies.yaml_tree import Node, shown

Place = tuple[str | int, ...]

_SHAPES = {
    "model_type": "a mapping: keys with values",
    "tuple_type": "a list: [a, b], or a line each that begins with -",
    "too_short": "a list that names at least one",
    "int_type": "a whole number",
    "bool_type": "true or false, without quotes",
}
_ID = "lower-case letters, digits, - and _, at most 64, like stale or keep-10"


def problems_of(error: ValidationError, tree: Node, model: type[BaseModel]) -> list[Problem]:
    """Return the refusals of a model as problems; nothing is blamed for two shapes that it could have had."""
    found = [(_place(detail["loc"], tree), detail) for detail in error.errors(include_url=False)]
    return [
        Problem(_line(place, tree), named(place, tree), _words(detail, place, tree, model))
        for place, detail in found
        if not _follows_from_another(detail, _node(place, tree))
    ]


def named(place: Sequence[str | int], tree: Node) -> str:
    """Return a place as text, ``cleanup.default.keep.builds``: entries have their id, or a number from 0."""
    node: Node | None = tree
    text = ""
    for part in place:
        node = None if node is None else node.child(part)
        if isinstance(part, str):
            text += f".{shown(part)}" if text else shown(part)
            continue
        name = None if node is None else node.child("id")
        known = name is not None and isinstance(name.value, str)
        text += f".{shown(str(name.value))}" if name is not None and known else f"[{part}]"
    return text


def line_at(place: Sequence[str | int], tree: Node) -> int:
    """Return the line of what stands at a place, or of the nearest thing above it."""
    return _line(tuple(place), tree)


def node_at(place: Sequence[str | int], tree: Node) -> Node | None:
    """Return what stands at a place, None where nothing does."""
    node: Node | None = tree
    for part in place:
        node = None if node is None else node.child(part)
    return node


def _place(loc: Sequence[str | int], tree: Node) -> Place:
    """Return what of pydantic's location is in the file: not what is missing, not the kinds of a union."""
    node: Node = tree
    place: list[str | int] = []
    for part in loc:
        child = node.child(part)
        if child is not None:
            place.append(part)
            node = child
    return tuple(place)


def _line(place: Place, tree: Node) -> int:
    node, line = tree, tree.line
    for part in place:
        line = node.line_of(part)
        child = node.child(part)
        if child is None:
            break
        node = child
    return line


def _node(place: Place, tree: Node) -> Node:
    node = tree
    for part in place:
        node = node.child(part) or node
    return node


def _follows_from_another(detail: ErrorDetails, node: Node) -> bool:
    """Tell whether another refusal says it: a list is empty only without its wrong entries, a word is no mapping."""
    match detail["type"]:
        case "too_short":
            return bool(node.value)
        case "literal_error":
            return isinstance(node.value, dict)
        case "model_type":
            return Tags.__name__ in str(detail["loc"][-1]) and not isinstance(node.value, dict)
        case _:
            return False


def _words(detail: ErrorDetails, place: Place, tree: Node, model: type[BaseModel]) -> str:
    """Say what would be right, and what stands there."""
    kind, context = detail["type"], detail.get("ctx", {})
    node = _node(place, tree)
    match kind:
        case "extra_forbidden":
            said = _unknown(str(place[-1]), _known_keys(model, place[:-1]))
        case "missing":
            said = f"{detail['loc'][-1]} is missing"
        case "string_type":
            said = _no_text(node)
        case "string_pattern_mismatch":
            said = f"must be {_ID}{_got(node)}"
        case "value_error":
            said = str(context["error"])
        case "enum" | "literal_error":
            words = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
            said = f"must be {'one of ' if ',' in words else ''}{words}{_got(node)}"
        case "greater_than_equal" | "less_than_equal":
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            said = f"must be {bound}{_got(node)}"
        case _:
            said = (
                f"must be {_SHAPES[kind]}{_got(node)}" if kind in _SHAPES else f"{detail['msg']}{_got(node)}"
            )
    return said


def _got(node: Node) -> str:
    if isinstance(node.value, dict):
        return "; got a mapping"
    if isinstance(node.value, list):
        return "; got a list"
    if node.value is None:
        return "; got nothing"
    return f"; got {shown(node.text if node.text is not None else str(node.value))}"


def _no_text(node: Node) -> str:
    if node.text is None or isinstance(node.value, dict | list):
        return f"must be a text{_got(node)}"
    if node.value is None:
        return "must be a text; got nothing"
    what = "true or false" if isinstance(node.value, bool) else "a number"
    return f'{shown(node.text)} is read as {what}: write "{shown(node.text)}"'


def _unknown(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    meant = f"; {near[0]} is probably meant" if near else ""
    return f"there is no such key{meant}. Here may stand: {', '.join(known)}"


def _known_keys(model: type[BaseModel], place: Place) -> list[str]:
    """Return the keys that may stand at a place, by following the models' fields."""
    for part in place:
        if isinstance(part, int):
            continue
        annotation = next(
            (info.annotation for name, info in model.model_fields.items() if part in (name, info.alias)), None
        )
        model = next(_models_in(annotation), model)
    return [info.alias or name for name, info in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if (
        isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
        and not issubclass(annotation, enum.Enum)
    ):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)

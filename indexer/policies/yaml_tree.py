"""Bytes of a YAML file as a tree in which everything has its line. YAML 1.2, core schema: ``on`` and ``no`` are texts.

Refused, since the file of policies needs none of it and a stranger may misread it: anchors and aliases (a few lines of
them unfold to gigabytes), tags, several documents, keys that are no text, a key given twice, more than ``MAX_BYTES``,
nesting beyond ``MAX_DEPTH``. ruamel.yaml makes the events; building stops at the first refusal, so no size of input
costs more than the limits allow.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from indexer.policies.problems import PoliciesRefused, Problem

MAX_BYTES = 256 * 1024
"""Some 2,000 policies. Reading as much takes about a second."""

MAX_DEPTH = 32
LONGEST_SHOWN = 60

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = {
    word: value for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())
}
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:[Tt \t].*)?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Misread:
    """A scalar without quotes that programs read as something else than a text; ``as_what`` says as what."""

    text: str
    as_what: str


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, list or mapping with its line, counted from 1.

    ``value`` of a scalar is what it means: a text, or ``Misread`` where it looks like a date; True, False, None, an int
    or a float. ``text`` is how a plain scalar was written, None for one in quotes. ``key_lines``: of a mapping's keys.
    """

    line: int
    value: str | bool | int | float | Misread | list[Node] | dict[str, Node] | None
    text: str | None = None
    key_lines: dict[str, int] = field(default_factory=dict)

    def plain(self) -> Any:
        """Return it as Python has it: dicts, lists and scalars, without lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """Return what lies under a key or a number, None where there is nothing."""
        if isinstance(self.value, dict) and isinstance(part, str):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def line_of(self, part: str | int) -> int:
        """Return the line where a key of it stands; its own where there is no such key."""
        child = self.child(part)
        own = self.line if child is None else child.line
        return self.key_lines.get(part, own) if isinstance(part, str) else own


def read_tree(content: bytes) -> Node:
    """Return the tree of a file; an empty one is an empty mapping. Raises ``PoliciesRefused``."""
    if len(content) > MAX_BYTES:
        raise _refused(
            1, f"the file has more than {MAX_BYTES} bytes, and no larger one is read: make it smaller"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(line, f"byte {error.start} is not UTF-8: save the file as UTF-8") from None
    try:
        return _Builder(YAML(typ="safe", pure=True).parse(io.StringIO(text))).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise _refused(1 if mark is None else mark.line + 1, f"not YAML: {said}") from None
    except YAMLError as error:
        raise _refused(1, f"not YAML: {' '.join(str(error).split())}") from None


class _Builder:
    """Makes the tree out of ruamel's events, as they come."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events

    def document(self) -> Node:
        root = Node(1, {})
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _refused(
                        _line(event), "a second document begins here: a file of policies is one document"
                    )
                if event.version not in (None, (1, 2)):
                    version = ".".join(map(str, event.version))
                    raise _refused(1, f"%YAML {version}: the file is read as YAML 1.2; leave the line out")
                root = self._node(next(self._events), 0)
            elif isinstance(event, StreamEndEvent):
                break
        return Node(root.line, {}) if root.value is None and documents else root

    def _node(self, event: Event, depth: int) -> Node:
        line = _line(event)
        if isinstance(event, AliasEvent):
            raise _refused(line, f"*{shown(event.anchor)}: aliases are not taken; write it out")
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None:
            raise _refused(line, f"&{shown(anchor)}: anchors are not taken; write it out where it is needed")
        if tag is not None:
            raise _refused(line, f"{shown(tag)}: tags are not taken; leave it out")
        if isinstance(event, ScalarEvent):
            quoted = event.style is not None
            return Node(
                line, str(event.value) if quoted else _resolve(event.value), None if quoted else event.value
            )
        if depth == MAX_DEPTH:
            raise _refused(line, f"nested more than {MAX_DEPTH} deep; no policy is")
        if isinstance(event, SequenceStartEvent):
            items = []
            while not isinstance(event := next(self._events), SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            return Node(line, items)
        if not isinstance(event, MappingStartEvent):  # pragma: no cover - the parser makes no other
            raise _refused(line, "not YAML")
        return self._mapping(line, depth)

    def _mapping(self, line: int, depth: int) -> Node:
        items: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._node(event, depth + 1)
            name = key.value if key.text is None else key.text
            if not isinstance(name, str):
                raise _refused(key.line, "a key is a text, not a list or a mapping")
            if name == "<<":
                raise _refused(key.line, "<<: merging is not YAML 1.2; write the keys out")
            if name in items:
                raise _refused(
                    key.line, f"{shown(name)} is given twice, first in line {lines[name]}: keep one of them"
                )
            lines[name] = key.line
            items[name] = self._node(next(self._events), depth + 1)
        return Node(line, items, key_lines=lines)


def _resolve(text: str) -> str | bool | int | float | Misread | None:
    """Return what a plain scalar means in the core schema (YAML 1.2.2 section 10.3.2); dates are none there."""
    if _NULL.match(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return _number(text)
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if _DATE.match(text):
        return Misread(text, "a date")
    return text


def _number(text: str) -> int | float:
    if text.startswith(("0o", "0x")):
        return int(text[2:], 8 if text[1] == "o" else 16)
    try:
        return int(text)
    except ValueError:  # longer than Python takes
        return math.inf


def shown(text: str) -> str:
    """Return a text of the file as a message shows it: on one line, and not too long."""
    printable = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return printable if len(printable) <= LONGEST_SHOWN else f"{printable[:LONGEST_SHOWN]}…"


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _refused(line: int, text: str) -> PoliciesRefused:
    return PoliciesRefused([Problem(line, "", text)])

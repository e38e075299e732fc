"""Reads JSON documents that any client may have written: manifests, indexes, image configs.

They are read as Go's ``encoding/json`` reads them. Distribution and nearly every client are written in Go; another
reading would find another content:

- names of members ignore letter case (``Layers`` is ``layers``). If a name is given twice, in whatever case, the last
  counts. Null is the same as absent;
- bytes that are not UTF-8, and surrogates without their other half, become U+FFFD;
- numbers of any length, and nesting of up to 10,000 levels, are legal in members that are not read.

What is not JSON raises ``ValueError`` with the reason. A member of another type than expected is one *part* that could
not be read (:class:`UnreadParts`); everything else is read. Text is kept as it is, including U+0000.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import orjson

T = TypeVar("T")

DEEPEST: Final = 10_000
"""Go refuses what is nested deeper ("exceeded max depth")."""

_KEPT_DEPTH: Final = 64
"""Nothing that is read is deeper than 5 levels."""

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACING: Final = "replace-each-byte"
_INT64_DIGITS: Final = 20
_REPLACEMENT: Final = "\ufffd"


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Replace as Go does: one U+FFFD for each byte that is not part of a character."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _REPLACEMENT * (error.end - error.start), error.end


codecs.register_error(_REPLACING, _replace_each_byte)


class TwoSpellings(Exception):  # noqa: N818 - not an error: a reason to read again
    """An object has a member under two spellings. Their order counts, which the fast decoder does not keep."""


class _InOrder(dict[str, Any]):
    """An object whose members are in the order in which they were given last."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A part that could not be read: its place, like ``layers[3].size``, and the reason."""

    part: str
    reason: str


class UnreadParts:
    """Collects the parts that could not be read."""

    def __init__(self) -> None:
        self._found: list[Unread] = []

    def add(self, part: str, reason: str) -> None:
        """Add a part."""
        self._found.append(Unread(part, reason))

    def attempt(self, part: str, read: Callable[[], T], default: T) -> T:
        """Return what ``read`` returns; if it raises ``ValueError``, add the part and return ``default``."""
        try:
            return read()
        except ValueError as error:
            self.add(part, str(error))
            return default

    def as_tuple(self) -> tuple[Unread, ...]:
        """Return the parts in the order in which they were added."""
        return tuple(self._found)


class Names:
    """The members of an object that are read, in any letter case."""

    def __init__(self, *names: str) -> None:
        self._exact = frozenset(names)
        self._folded = {_fold(name): name for name in names}

    def name_of(self, key: str) -> str | None:
        """Return the member that ``key`` names, None for any other."""
        return key if key in self._exact else self._folded.get(_fold(key))


def read_document(content: bytes, read: Callable[[dict[str, Any]], T]) -> T:
    """Decode a JSON object and read it; raise ``ValueError`` for anything else."""
    try:
        return read(decode_object(content))
    except TwoSpellings:
        return read(as_object(_decode_as_go(content), "document"))


def decode_object(content: bytes) -> dict[str, Any]:
    """Decode a JSON object; raise ``ValueError`` for anything else."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        # Nearly always it is not JSON; but orjson also refuses what Go accepts.
        value = _decode_as_go(content)
    return as_object(value, "document")


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Return ``value`` if it is an object."""
    if not isinstance(value, dict):
        raise _mismatch(where, "an object", value)
    return cast("dict[str, Any]", value)


def as_struct(value: Any, where: str, names: Names) -> dict[str, Any]:
    """Return the members of an object that have one of ``names``, under these names.

    Raises ``ValueError`` if it is not an object, ``TwoSpellings`` if :func:`read_document` must regard the order.
    """
    source = as_object(value, where)
    found: dict[str, Any] = {}
    for key, member in source.items():
        name = names.name_of(key)
        if name is None:
            continue
        if name in found and not isinstance(source, _InOrder):
            raise TwoSpellings
        found[name] = member
    return found


def read_text(source: dict[str, Any], key: str, where: str) -> str:
    """Return the text at ``key``, "" where absent or null."""
    value = source.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _mismatch(f"{where}.{key}", "text", value)
    return _whole(value)


def read_size(source: dict[str, Any], key: str, where: str, *, maximum: int) -> int:
    """Return the whole number at ``key``, 0 where absent or null; refuse what is not in 0..maximum."""
    value = source.get(key)
    if value is None:
        return 0
    # bool is an int to Python but not to JSON; numbers beyond 64 bits arrive as floats.
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mismatch(f"{where}.{key}", "a whole number of 64 bits", value)
    if not 0 <= value <= maximum:
        raise ValueError(f"{where}.{key}: {value} is not between 0 and {maximum}")
    return value


def read_list(source: dict[str, Any], key: str, where: str) -> list[Any]:
    """Return the list at ``key``, empty where absent or null."""
    value = source.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _mismatch(f"{where}.{key}", "a list", value)
    return value


def read_text_map(value: Any, where: str, unread: UnreadParts) -> dict[str, str]:
    """Return a map of text to text, empty if null. A null value in it is "", one that is not text is left out."""
    if value is None:
        return {}
    nothing: dict[str, Any] = {}
    entries = unread.attempt(where, lambda: as_object(value, where), nothing)
    odd = next((each for each in entries.values() if each is not None and not isinstance(each, str)), None)
    if odd is not None:
        unread.add(where, str(_mismatch(where, "only text", odd)))
    return dict(_texts(entries))


def _texts(entries: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in entries.items():
        if value is None or isinstance(value, str):
            yield _whole(name), _whole(value or "")


def _whole(text: str) -> str:
    """Return a text without surrogates that have no other half."""
    return text if text.isascii() else _SURROGATE.sub(_REPLACEMENT, text)


def _fold(key: str) -> str:
    """Fold the letter case of a name as Go does: besides ASCII the long s and the Kelvin sign are cases of s and k."""
    return key.replace("\u017f", "s").replace("\u212a", "k").lower()


def _decode_as_go(content: bytes) -> Any:
    """Decode what the fast decoder refuses and Go accepts, each object with its members in order."""
    text = content.decode("utf-8", _REPLACING)
    try:
        try:
            return _decode(text)
        except RecursionError:
            return _decode(_without_depth(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error


def _decode(text: str) -> Any:
    return json.loads(
        text,
        object_pairs_hook=_in_order,
        parse_int=lambda digits: int(digits) if len(digits) <= _INT64_DIGITS else float("inf"),
        parse_constant=_refuse_constant,
    )


def _in_order(pairs: list[tuple[str, Any]]) -> _InOrder:
    found = _InOrder()
    for key, value in pairs:
        found.pop(key, None)
        found[key] = value
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"not JSON: {text} is no number")


def _without_depth(text: str) -> str:
    """Replace everything that is nested too deep to be read by null, since the decoder is recursive."""
    kept: list[str] = []
    depth = begin = 0
    for token in _TOKEN.finditer(text):
        character = token.group()
        if character in ("[", "{"):
            depth += 1
            if depth == _KEPT_DEPTH:
                kept.append(text[begin : token.start()])
            if depth > DEEPEST:
                raise ValueError(f"not JSON: nested deeper than {DEEPEST} levels")
        elif character in ("]", "}"):
            if depth == _KEPT_DEPTH:
                kept.append("null")
                begin = token.end()
            depth -= 1
        elif character == '"':
            raise ValueError("not JSON: a text without an end")
    if depth >= _KEPT_DEPTH:
        raise ValueError("not JSON: a list or object without an end")
    return "".join([*kept, text[begin:]])


def _mismatch(where: str, expected: str, value: Any) -> ValueError:
    """Return an error that says what was expected and what was found, in the terms of JSON."""
    names = {
        dict: "an object",
        _InOrder: "an object",
        list: "a list",
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return ValueError(f"{where}: expected {expected}, found {names.get(type(value), 'null')}")

"""Reading JSON documents that a stranger wrote: manifests, indexes, image configs.

Whatever is wrong raises ``ValueError`` with the place and the reason. orjson is the decoder because it
refuses what would break later: NaN and Infinity, lone surrogates and invalid UTF-8 (no database takes them),
and nesting beyond 1,024 levels (the standard library's decoder would raise ``RecursionError``). Of a repeated
key the last counts, as in Go. Null is the same as absent, as in Go. Text is kept as it is, U+0000 included.
"""

from __future__ import annotations

from typing import Any, cast

import orjson


def decode_object(content: bytes) -> dict[str, Any]:
    """Decode a JSON object; raise ``ValueError`` for anything else."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    return as_object(value, "document")


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Return ``value`` if it is an object."""
    if not isinstance(value, dict):
        raise _mismatch(where, "an object", value)
    return cast("dict[str, Any]", value)


def read_text(source: dict[str, Any], key: str, where: str) -> str:
    """Return the text at ``key``, "" where absent or null."""
    value = source.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _mismatch(f"{where}.{key}", "text", value)
    return value


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


def read_text_map(source: dict[str, Any], key: str, where: str) -> dict[str, str]:
    """Return the text-to-text map at ``key``, empty where absent or null; a null value in it is ""."""
    value = source.get(key)
    if value is None:
        return {}
    entries = as_object(value, f"{where}.{key}")
    return {name: read_text(entries, name, f"{where}.{key}") for name in entries}


def _mismatch(where: str, expected: str, value: Any) -> ValueError:
    """Say what was expected and what was found, in JSON's words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return ValueError(f"{where}: expected {expected}, found {names.get(type(value), 'null')}")

"""Parses a registry's error body. Pure."""

from __future__ import annotations

from typing import Any

import orjson


def error_codes(content: bytes) -> tuple[str, ...] | None:
    """Return the codes of a registry's error body; None: the body is none.

    The shape is ``{"errors": [{"code": "…"}]}`` (distribution spec 1.1, "Error Codes"). A proxy's page, another
    service's JSON and an empty body are none.
    """
    errors = _errors(content)
    if not errors:
        return None
    codes = [each.get("code") if isinstance(each, dict) else None for each in errors]
    texts = tuple(code for code in codes if isinstance(code, str))
    return texts if len(texts) == len(codes) else None


def error_messages(content: bytes) -> tuple[str, ...]:
    """Return the messages and details of a registry's error body that are strings; () if the body is none."""
    values = [
        each.get(name)
        for each in _errors(content)
        if isinstance(each, dict)
        for name in ("message", "detail")
    ]
    return tuple(value for value in values if isinstance(value, str))


def _errors(content: bytes) -> list[Any]:
    try:
        value: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return []
    errors = value.get("errors") if isinstance(value, dict) else None
    return errors if isinstance(errors, list) else []

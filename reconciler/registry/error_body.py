"""Reading a registry's error body, pure."""

from __future__ import annotations

from typing import Any

import orjson


def error_codes(content: bytes) -> tuple[str, ...] | None:
    """Return the codes of a registry's error body, or None where the body is not one.

    The shape is ``{"errors": [{"code": "…"}]}`` (distribution spec 1.1, "Error Codes"). A proxy's page,
    another service's JSON and an empty body are not one.
    """
    try:
        value: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    errors = value.get("errors") if isinstance(value, dict) else None
    if not isinstance(errors, list) or not errors:
        return None
    codes = [each.get("code") if isinstance(each, dict) else None for each in errors]
    texts = tuple(code for code in codes if isinstance(code, str))
    return texts if len(texts) == len(codes) else None

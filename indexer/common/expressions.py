"""Regular expressions that others write: RE2 only, since it takes linear time whatever the expression."""

from __future__ import annotations

import re2

MAX_MEMORY_BYTES = 1 << 20


def compile_expression(pattern: str, *, groups: bool) -> re2._Regexp[str]:
    """Return an expression of RE2; raise ``ValueError`` with its reason. ``groups``: what they match is wanted."""
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    options.never_capture = not groups
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a regular expression"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(text) from None

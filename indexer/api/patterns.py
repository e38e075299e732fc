"""Regular expressions of callers: RE2 only, since it takes linear time whatever the pattern.

PostgreSQL's own ``~`` is never given a caller's pattern.
"""

from __future__ import annotations

from collections.abc import Callable

import re2

from indexer.common.errors import CallerError

MAX_MEMORY_BYTES = 1 << 20


def whole_name_matcher(parameter: str, pattern: str) -> Callable[[str], bool]:
    """Return a test whether a whole name matches; raise ``CallerError`` for what RE2 does not take."""
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a regular expression"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise CallerError(
            f"{parameter}: {text}",
            code="invalid_parameter",
            parameter=parameter,
            allowed="a regular expression in RE2's syntax, for the whole name",
        ) from None
    matches = compiled.fullmatch
    return lambda name: matches(name) is not None

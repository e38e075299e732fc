"""Regular expressions of callers. PostgreSQL's own ``~`` is never given one."""

from __future__ import annotations

from collections.abc import Callable

from indexer.common.errors import CallerError
from indexer.common.expressions import compile_expression


def whole_name_matcher(parameter: str, pattern: str) -> Callable[[str], bool]:
    """Return a test whether a whole name matches; raise ``CallerError`` for what RE2 does not take."""
    try:
        compiled = compile_expression(pattern, groups=False)
    except ValueError as error:
        raise CallerError(
            f"{parameter}: {error}",
            code="invalid_parameter",
            parameter=parameter,
            allowed="a regular expression in RE2's syntax, for the whole name",
        ) from None
    matches = compiled.fullmatch
    return lambda name: matches(name) is not None

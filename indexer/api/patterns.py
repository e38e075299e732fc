"""Regular expressions of callers, matched by RE2. PostgreSQL's ``~`` gets none: it may take exponential time."""

from __future__ import annotations

from collections.abc import Callable

from indexer.common.errors import CallerError
from indexer.common.expressions import compile_expression


def whole_name_matcher(parameter: str, pattern: str) -> Callable[[str], bool]:
    """Return a test of whether a whole name matches; raise ``CallerError`` where RE2 refuses the pattern."""
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

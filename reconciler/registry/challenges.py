"""Parses ``WWW-Authenticate`` (RFC 9110 section 11.6.1). Pure.

There may be several headers, and several challenges in each. Parameters are tokens or quoted strings with escapes. A
comma separates challenges and parameters alike: a scheme is followed by a space and anything but ``=``, a parameter by
``=``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))', re.DOTALL)
_SCHEME = re.compile(rf"({_WORD})(?:[ \t]+|(?=,)|\Z)")
_SINGLE = re.compile(r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|\Z)")
_SEPARATORS = re.compile(r"[ \t,]+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

MAX_HEADER_LENGTH: Final = 64 * 1024
"""More than any registry sends; the rest of a longer header is ignored."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: ``scheme`` and parameter names in lower case, values unquoted."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return every challenge of every ``WWW-Authenticate`` header, in order.

    The first part that does not parse ends its header; the challenges before it count. Of a repeated parameter the
    first value counts.
    """
    return tuple(challenge for header in headers for challenge in _parse_one(header[:MAX_HEADER_LENGTH]))


def _parse_one(header: str) -> Iterator[Challenge]:
    position = _skip(header, 0)
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        if single := _SINGLE.match(header, position):
            position = single.end()
        position = _skip(header, position)
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), value)
            position = _skip(header, parameter.end())
        yield Challenge(scheme.group(1).lower(), parameters)


def _skip(header: str, position: int) -> int:
    separators = _SEPARATORS.match(header, position)
    return separators.end() if separators else position

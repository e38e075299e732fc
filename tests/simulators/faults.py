"""What goes wrong between us and a registry, one fault per answer.

A fault is taken by the first request it matches, and is gone when it was used ``times`` times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto, unique
from typing import Self

from aiohttp import web


@unique
class Break(Enum):
    """How a connection breaks."""

    RESET = auto()
    """Closed without an answer, as 3.x does when it panics."""
    STALL = auto()
    """Nothing more comes, and nothing closes."""
    STALL_IN_BODY = auto()
    """Headers and half a body, then nothing; a HEAD has no body and stalls before its headers."""
    CUT_SHORT = auto()
    """Headers and half a body, then closed; a HEAD is closed before its headers."""


@dataclass(slots=True)
class Fault:
    """``method`` "" is any; ``path`` is a regular expression searched in the path with its query."""

    path: str = ""
    method: str = ""
    times: int = 1
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    broken: Break | None = None

    @classmethod
    def html(cls, path: str = "", *, status: int = 200, times: int = 1) -> Self:
        """A login page or a proxy's error page."""
        headers = {"Content-Type": "text/html; charset=utf-8"}
        return cls(
            path, status=status, headers=headers, body=b"<html><body>Sign in</body></html>", times=times
        )

    def matches(self, request: web.Request) -> bool:
        """Tell whether this fault is due for ``request``."""
        if self.times < 1 or self.method not in {"", request.method}:
            return False
        return re.search(self.path, request.path_qs) is not None

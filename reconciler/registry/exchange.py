"""One request to the registry and its answer, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from multidict import CIMultiDictProxy

from reconciler.registry.answers import Dated
from reconciler.registry.error_body import error_codes, error_messages

SMALL_LIMIT_BYTES: Final = 64 * 1024
"""For answers whose body is not read, and for errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """How to send a request that changes something: one time, with a signature that is on record, if still allowed.

    ``nonce`` and ``before``: see ``Request``.
    """

    nonce: bytes
    before: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request.

    ``path`` begins with ``/v2/``. ``scope``: of the token, see ``auth``. ``expect``: the statuses that the caller
    handles. ``limit``: bytes of the answer.
    """

    method: str
    path: str
    scope: str
    expect: frozenset[int]
    limit: int
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_seconds: float | None = None
    repeatable: bool = True
    """False for a request that must not be repeated unchanged."""
    nonce: bytes | None = None
    """The random number in its signature, where it is on record (``store/tag_actions``); None: a new one."""
    before: Callable[[], None] | None = None
    """Called right before it is sent, when nothing is waited for any more; it may raise, and then nothing is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryResponse(Dated):
    """An answer with a status that the caller handles, its headers and whole body."""

    status: int
    headers: CIMultiDictProxy[str]
    content: bytes
    request_line: str
    """``METHOD path``, for messages."""

    def error_codes(self) -> tuple[str, ...] | None:
        """Return the codes of the registry's error body; None: it is not the registry's."""
        return error_codes(self.content)

    def error_messages(self) -> tuple[str, ...]:
        """Return the messages and details of the registry's error body."""
        return error_messages(self.content)

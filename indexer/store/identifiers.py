"""Event and request ids: Distribution sends UUIDs (v4, from 3.1 on v7); for anything else a UUID is derived.

A UUID takes 16 bytes instead of 37, in every row and index. An id that is not one keeps its text in the audit entry's
detail, and its derived UUID is the same on every redelivery.
"""

from __future__ import annotations

import uuid
from functools import lru_cache

_NAMESPACE = uuid.UUID("6e3b1f5c-4b0a-4a52-9a0e-6a1b0f3b8f11")


def event_key(text: str) -> uuid.UUID:
    """Return the UUID ``text`` is, in its canonical form, or one derived from it."""
    return _key(text)[0]


def is_canonical(text: str) -> bool:
    """Tell whether the text can be read back from its key."""
    return _key(text)[1]


@lru_cache(maxsize=4096)  # a batch needs each of its ids a dozen times
def _key(text: str) -> tuple[uuid.UUID, bool]:
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is not None and str(parsed) == text:
        return parsed, True
    return uuid.uuid5(_NAMESPACE, text), False


def event_text(key: uuid.UUID | None) -> str | None:
    """Return the text of a key."""
    return None if key is None else str(key)

"""How long something has waited."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def age(since: datetime | None, now: datetime) -> float | None:
    """Return the seconds since then; None: it does not wait."""
    return None if since is None else max(0.0, round((now - since).total_seconds(), 3))

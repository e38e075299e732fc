"""Ages, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def age(since: datetime | None, now: datetime) -> float | None:
    """Return the seconds since an instant, at least 0; None without one."""
    return None if since is None else max(0.0, round((now - since).total_seconds(), 3))

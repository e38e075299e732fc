"""Spreads a run that only the interval started over that interval, so that the registry's load is even.

Repositories that were not compared for the longest time come first; the next one may be taken once its share of the
interval has passed. If there is a reason for another run meanwhile, the rest is not spread: this run ends soon, and the
next one begins.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

SHARE: Final = 0.8
"""Of the interval. The rest is for the end of the run, and for a registry that is slower than the pace."""
CHECK_EVERY_SECONDS: Final = 5.0


def may_be_taken(*, total: int, listed_at: datetime, now: datetime, over: timedelta) -> int:
    """Return how many of a run's repositories may have been taken by now: evenly, the first of them at once."""
    return max(1, min(total, 1 + int(total * ((now - listed_at) / over))))


class Pacing:
    """The pace of one run; once ``is_urgent`` returns True it is not kept any longer."""

    def __init__(self, interval: timedelta, *, is_urgent: Callable[[], Awaitable[bool]]) -> None:
        self._over = interval * SHARE
        self._is_urgent = is_urgent
        self._urgent = False
        self._checked_at = float("-inf")

    async def may_be_taken(self, *, total: int, listed_at: datetime, now: datetime) -> int:
        """Return how many repositories may have been taken by now."""
        if not self._urgent and time.monotonic() - self._checked_at >= CHECK_EVERY_SECONDS:
            self._urgent = await self._is_urgent()
            self._checked_at = time.monotonic()
        if self._urgent:
            return total
        return may_be_taken(total=total, listed_at=listed_at, now=now, over=self._over)

"""A walk that nobody waits for is spread over the interval, so that the registry is asked evenly and not in bursts.

The longest not compared come first, and the next is taken when its turn is. If something happened since the walk
began that makes a walk urgent, the rest of it is not spread: it ends soon, and the urgent one begins.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

SHARE: Final = 0.8
"""Of the interval: what is left is for the end of the walk, and for a registry that is slower than that."""
ASK_EVERY_SECONDS: Final = 5.0


def may_be_taken(*, total: int, listed_at: datetime, now: datetime, over: timedelta) -> int:
    """Return how many of a walk's repositories may have been taken by now: evenly, the first of them at once."""
    return max(1, min(total, 1 + int(total * ((now - listed_at) / over))))


class Pacing:
    """The pace of one walk. ``is_urgent`` tells whether it is not to be kept any longer."""

    def __init__(self, interval: timedelta, *, is_urgent: Callable[[], Awaitable[bool]]) -> None:
        self._over = interval * SHARE
        self._is_urgent = is_urgent
        self._urgent = False
        self._asked_at = float("-inf")

    async def may_be_taken(self, *, total: int, listed_at: datetime, now: datetime) -> int:
        """Return how many repositories may have been taken by now."""
        if not self._urgent and time.monotonic() - self._asked_at >= ASK_EVERY_SECONDS:
            self._urgent = await self._is_urgent()
            self._asked_at = time.monotonic()
        if self._urgent:
            return total
        return may_be_taken(total=total, listed_at=listed_at, now=now, over=self._over)

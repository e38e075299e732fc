"""Limits the rate of requests: a token bucket, and the wait that it computes.

The bucket is pure: the caller passes the time. A request takes a token that is there, or a future one: its wait is
computed at once, so any number of waiting callers proceed one after the other, at the rate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class TokenBucket:
    """``rate`` tokens a second, at most ``capacity`` at once: within t seconds at most capacity + rate × t."""

    def __init__(self, rate: float, *, capacity: float = 1.0) -> None:
        if rate <= 0 or capacity < 1:
            raise ValueError("the rate must be above 0 and the capacity at least 1")
        self._rate = rate
        self._capacity = capacity
        self._tokens = capacity
        self._at: float | None = None

    def take(self, now: float) -> float:
        """Take one token; return how many seconds after ``now`` it may be used."""
        if self._at is not None:
            self._tokens = min(self._capacity, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now if self._at is None else max(self._at, now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)


class Pace:
    """Lets callers proceed at most ``rate`` times a second."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bucket = TokenBucket(rate)
        self._clock = clock
        self._sleep = sleep

    async def wait(self) -> None:
        """Return as soon as the caller may proceed."""
        seconds = self._bucket.take(self._clock())
        if seconds > 0:
            await self._sleep(seconds)

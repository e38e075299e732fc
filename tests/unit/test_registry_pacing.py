"""The pace of a walk, on a clock that only moves when somebody sleeps."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.registry.pacing import Pace, TokenBucket


@given(
    rate=st.floats(0.1, 500),
    capacity=st.floats(1, 20),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=80),
)
def test_token_bucket__never_more_than_its_rate(rate: float, capacity: float, gaps: list[float]) -> None:
    """However callers arrive, within any span of t seconds at most capacity + rate × t come through."""
    bucket, now, through = TokenBucket(rate, capacity=capacity), 0.0, []
    for gap in gaps:
        now += gap
        through.append(now + bucket.take(now))
    assert through == sorted(through)
    for first in range(len(through)):
        for last in range(first, len(through)):
            span = through[last] - through[first]
            assert last - first + 1 <= capacity + rate * span + 1e-6


def test_token_bucket__a_busy_caller_gets_the_whole_rate() -> None:
    """Who asks without pause waits for nothing but the rate: the hundredth comes after 99 parts."""
    bucket = TokenBucket(10)
    assert [bucket.take(0.0) for _ in range(100)][-1] == pytest.approx(9.9)


@pytest.mark.parametrize(("rate", "capacity"), [(0, 1), (-1, 1), (5, 0.5)])
def test_token_bucket__refused(rate: float, capacity: float) -> None:
    """A bucket that would never give a token is refused."""
    with pytest.raises(ValueError, match="rate must be above 0"):
        TokenBucket(rate, capacity=capacity)


async def test_pace__many_waiters() -> None:
    """Fifty callers at once at 20 a second come through in turn, the last after 49 parts of the clock."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = Pace(20, clock=lambda: 100.0, sleep=sleep)
    await asyncio.gather(*(pace.wait() for _ in range(50)))
    assert slept == [pytest.approx(number / 20) for number in range(1, 50)]

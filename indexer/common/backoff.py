"""Growing waits between attempts: one rule for every loop, queue and feed."""

from __future__ import annotations

import random

LONGEST_DOUBLING = 30
"""Doubled more often, a float of a first wait would end at infinity."""


def growing_wait(failures: int, *, first: float, longest: float) -> float:
    """Return the seconds to wait after ``failures`` failures in a row, at least 1: ``first``, doubled for each more."""
    return min(longest, first * 2.0 ** min(max(failures - 1, 0), LONGEST_DOUBLING))


def spread(seconds: float) -> float:
    """Return half of a wait up to all of it, at random: what failed together must not return in step."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

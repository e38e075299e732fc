"""Lengths of time in buckets, each a tenth longer than the one before, so that a quantile is exact to a tenth. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

SHORTEST_SECONDS: Final = 0.01
GROWTH: Final = 1.1
LAST: Final = 200
"""About 20 days."""


def bucket_of(seconds: float) -> int:
    """Return the bucket of a length in seconds. A negative one, since clocks differ, is in the first."""
    if seconds <= SHORTEST_SECONDS:
        return 0
    return min(math.ceil(math.log(seconds / SHORTEST_SECONDS, GROWTH)), LAST)


def quantile(counted: Mapping[int, int], share: float) -> float | None:
    """Return the length in seconds that ``share`` (0 to 1) of all do not exceed, rounded up to its bucket's end."""
    wanted = math.ceil(sum(counted.values()) * share)
    if not wanted:
        return None
    reached = 0
    for bucket in sorted(counted):
        reached += counted[bucket]
        if reached >= wanted:
            return round(SHORTEST_SECONDS * GROWTH**bucket, 3)
    return None

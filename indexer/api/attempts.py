"""How often signing in may fail: a bound for each address, each user and everybody together. Pure.

The registry's token server sees our address only, and may lock it out for everybody's failures. So failures are bounded
here, before it is asked.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
MOST_KEPT = 10_000
"""Keys that are remembered; beyond it the one that failed longest ago is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Failures in ``WINDOW_SECONDS``."""

    address: int = 10
    user: int = 10
    together: int = 100


class Attempts:
    """Failures of the last minute. An attempt counts as one until it succeeds, so that parallel ones count, too."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._failed: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def begin(self, *, address: str, user: str, now: float) -> bool:
        """Return whether an attempt may be made, and count it; ``now`` in seconds of a clock that is not set back."""
        limits = self._limits(address, user)
        if any(len(self._of(key, now)) >= most for key, most in limits.items()):
            return False
        for key in limits:
            self._failed.setdefault(key, deque()).append(now)
            self._failed.move_to_end(key)
        while len(self._failed) > MOST_KEPT:
            self._failed.popitem(last=False)
        return True

    def succeeded(self, *, address: str, user: str, began: float) -> None:
        """Take back an attempt that began at ``began``."""
        for key in self._limits(address, user):
            times = self._failed.get(key)
            if times and began in times:
                times.remove(began)

    def _limits(self, address: str, user: str) -> dict[Hashable, int]:
        bounds = self._bounds
        return {
            ("address", address): bounds.address,
            ("user", user): bounds.user,
            "together": bounds.together,
        }

    def _of(self, key: Hashable, now: float) -> deque[float]:
        times = self._failed.get(key, deque[float]())
        while times and times[0] <= now - WINDOW_SECONDS:
            times.popleft()
        if not times:
            self._failed.pop(key, None)
        return times

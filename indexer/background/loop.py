"""What a background loop is: it knows how to do one round. ``service`` runs it and knows when."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationResult:
    """What one round did: how much, and how long to rest unless woken (0: more is waiting)."""

    items: int
    rest_seconds: float


class Loop(Protocol):
    """A background loop."""

    @property
    def name(self) -> str:
        """One word; the label of its metrics."""
        ...

    async def run_once(self) -> IterationResult:
        """Do one round, safe to repeat; raise to be repeated later."""
        ...


class WakeEvent:
    """Wakes a loop before its rest is over."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether the loop was woken and has not begun its next round."""
        return self._event.is_set()

    def wake(self) -> None:
        """Wake the loop now, or at the end of its running round."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return when rung, or after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()

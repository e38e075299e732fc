"""Reading a storage in a worker thread, while the event loop goes on, reports progress, and may end the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

T = TypeVar("T")

POLL_SECONDS: Final = 0.5


class Ended(Exception):  # noqa: N818 - not an error: what the thread raises once it is to end
    """The work is to end; who asked for that says why."""


@dataclass
class Thread:
    """What the work in the thread has of the outside. Its methods may be called from the thread only."""

    _ending: threading.Event = field(default_factory=threading.Event)
    at: tuple[int, int | None, str] = (0, None, "")

    def going_on(self) -> None:
        """Raise ``Ended`` once the work is to end."""
        if self._ending.is_set():
            raise Ended

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Say how far the work is."""
        self.at = (done, total, unit)
        self.going_on()

    def wait(self, seconds: float) -> None:
        """Wait, unless the work is to end."""
        self._ending.wait(seconds)
        self.going_on()

    def end(self) -> None:
        """Let the work end at its next step."""
        self._ending.set()


async def in_thread(
    work: Callable[[Thread], T],
    *,
    check: Callable[[], Awaitable[None]],
    report: Callable[[int, int | None, str], Awaitable[None]],
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """Return what ``work`` returns. ``check`` is called again and again; what it raises ends the work, and is raised.

    The thread has always ended when this returns or raises.
    """
    thread = Thread()
    working = asyncio.create_task(asyncio.to_thread(work, thread), name="storage")
    try:
        while True:
            done, _ = await asyncio.wait([working], timeout=poll_seconds)
            if done:
                return working.result()
            await check()
            await report(*thread.at)
    finally:
        thread.end()
        while not working.done():
            try:
                await asyncio.shield(asyncio.wait([working]))
            except asyncio.CancelledError:  # once more; the thread ends at its next step
                continue
        if not working.cancelled():
            working.exception()

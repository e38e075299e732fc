"""A loop that fails: what rings its alarm all the time does not make it fail all the time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from indexer.background import service
from indexer.background.loop import IterationResult, WakeEvent
from indexer.background.service import Service, wait_after
from indexer.common.errors import Postponed


class Failing:
    """A loop whose rounds all fail."""

    name = "failing"

    def __init__(self) -> None:
        self.rounds = 0
        self.failed = asyncio.Event()

    async def run_once(self) -> IterationResult:
        """Fail."""
        self.rounds += 1
        self.failed.set()
        raise Postponed("not now", rest_seconds=7200)


async def test_failing__is_not_woken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm that rings right after a failure waits a while; stopping does not."""

    def connection(_pool: Any) -> None:
        raise OSError("no database here")

    monkeypatch.setattr(service, "connection", connection)
    monkeypatch.setattr(service, "DEAF_SECONDS", 3600)
    running, loop, alarm = Service(None, program="test"), Failing(), WakeEvent()  # type: ignore[arg-type]
    running.start(loop, alarm)
    await loop.failed.wait()
    for _ in range(100):
        alarm.wake()
        await asyncio.sleep(0)
    assert loop.rounds == 1
    await running.stop()
    assert loop.rounds == 1


def test_wait_after__grows_within_bounds() -> None:
    """Half a second and more at first, half a minute at most."""
    assert 0.25 <= wait_after(1) <= 0.5
    assert all(15 <= wait_after(failures) <= 30 for failures in (8, 100, 10**9))

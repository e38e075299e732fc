"""The harness every background loop runs in, here and in the reconciler.

A loop knows how to do one round; the harness knows when. A round that fails is repeated after a growing wait,
and never ends the process. Stopping: take no new round, let the running one finish within the deadline, only
then cancel.

    waiting ──woken or time up──▶ running ──▶ waiting
       ▲                            │ fails
       └──── growing wait ◀─────────┘
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from prometheus_client import Counter, Gauge, Histogram

from indexer.background.loop import IterationResult, Loop, WakeEvent
from indexer.common.backoff import growing_wait, spread
from indexer.common.errors import IndexerError, Postponed, StoreFault, StoreRefused, StoreUnavailable
from indexer.store import loops
from indexer.store.migrate import check
from indexer.store.pool import Pool, connection

log = structlog.get_logger()

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
REPORT_EVERY_SECONDS = 5.0
STOP_DEADLINE_SECONDS = 20.0
FAREWELL_SECONDS = 2.0
DATABASE_RETRY_SECONDS = 1.0
DEAF_SECONDS = 1.0
"""For so long after a failure nothing wakes a loop: what rings often would make it fail as often."""

# By loop, never by repository: that would be one time series for each.
LOOP_RUNS = Counter(
    "indexer_loop_runs_total", "Rounds of a background loop, by outcome.", ["loop", "outcome"]
)
LOOP_SECONDS = Histogram(
    "indexer_loop_round_seconds",
    "How long a round of a background loop took.",
    ["loop"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600),
)
LOOP_LAST_GOOD = Gauge(
    "indexer_loop_last_good_timestamp_seconds", "When a loop last ended a round well.", ["loop"]
)
LOOP_ITEMS = Counter("indexer_loop_items_total", "What a background loop worked off.", ["loop"])


class Service:
    """Runs loops until asked to stop."""

    def __init__(self, pool: Pool, *, program: str) -> None:
        self._pool = pool
        self._process = f"{program} {socket.gethostname()}:{os.getpid()}"
        self._stopping = False
        self._stopped = asyncio.Event()
        self._running: list[tuple[Loop, WakeEvent]] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def process(self) -> str:
        """How this process is called: program, host and number."""
        return self._process

    def start(self, loop: Loop, alarm: WakeEvent) -> None:
        """Run a loop from now on."""
        self._running.append((loop, alarm))
        self._tasks.append(asyncio.create_task(self._keep_running(loop, alarm), name=loop.name))

    async def stop(self, *, deadline_seconds: float = STOP_DEADLINE_SECONDS) -> None:
        """Let running rounds finish within the deadline, then cancel them."""
        self._stopping = True
        self._stopped.set()
        for _, alarm in self._running:
            alarm.wake()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=deadline_seconds)
        for task in late:
            log.warning("loop_cancelled", loop=task.get_name())
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Where the database is away, nobody learns of it, and nobody waits for it.
        with suppress(Exception):
            async with asyncio.timeout(FAREWELL_SECONDS), connection(self._pool) as held:
                await loops.end_process(held, process=self._process)

    async def _keep_running(self, loop: Loop, alarm: WakeEvent) -> None:
        report = _Report(loop=loop.name, process=self._process, pool=self._pool)
        failures = 0
        while not self._stopping:
            began = time.monotonic()
            try:
                done = await _round(loop)
            except Exception as error:  # noqa: BLE001 - the harness is where a round's failure ends
                failures += 1
                rest = error.rest_seconds if isinstance(error, Postponed) else wait_after(failures)
                _say_failed(loop.name, error, failures=failures, rest=rest)
                LOOP_RUNS.labels(loop.name, "failed").inc()
                await report.failed(error)
                await self._rest_after_failure(alarm, rest)
                continue
            failures = 0
            LOOP_SECONDS.labels(loop.name).observe(time.monotonic() - began)
            LOOP_RUNS.labels(loop.name, "good").inc()
            LOOP_ITEMS.labels(loop.name).inc(done.items)
            LOOP_LAST_GOOD.labels(loop.name).set_to_current_time()
            await report.good()
            if done.rest_seconds:
                await self._rest(alarm, done.rest_seconds)

    async def _rest_after_failure(self, alarm: WakeEvent, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, DEAF_SECONDS)):
                await self._stopped.wait()
        if seconds > DEAF_SECONDS:
            await self._rest(alarm, seconds - DEAF_SECONDS)

    async def _rest(self, alarm: WakeEvent, seconds: float) -> None:
        if not self._stopping:
            await alarm.wait(seconds)


async def _round(loop: Loop) -> IterationResult:
    """Do one round in a task of its own: if that is cancelled and we are not, it has failed, and the loop goes on."""
    task = asyncio.create_task(loop.run_once(), name=f"{loop.name} round")
    try:
        return await task
    except asyncio.CancelledError as error:
        us = asyncio.current_task()
        if us is not None and us.cancelling():
            raise
        raise RuntimeError("the round was cancelled from within") from error


@dataclass(slots=True, kw_only=True)
class _Report:
    """Writes the state of a loop to the database, at most every few seconds unless it changes."""

    loop: str
    process: str
    pool: Pool
    last_written: float = float("-inf")
    last_outcome: str = ""

    async def good(self) -> None:
        await self._write("good", None)

    async def failed(self, error: BaseException) -> None:
        await self._write("failed", _first_line(error))

    async def _write(self, outcome: str, error: str | None) -> None:
        now = time.monotonic()
        if outcome == self.last_outcome and now - self.last_written < REPORT_EVERY_SECONDS:
            return
        self.last_written, self.last_outcome = now, outcome
        # A database that is away is already the loop's own failure.
        with suppress(Exception):
            async with connection(self.pool) as held:
                await loops.report(
                    held,
                    loop=self.loop,
                    process=self.process,
                    at=datetime.now(UTC),
                    outcome=outcome,
                    error=error,
                )


def stop_signals() -> asyncio.Event:
    """Return what SIGINT and SIGTERM set from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def until_current(pool: Pool, stop: asyncio.Event) -> bool:
    """Wait for a database that is at our version; False if asked to stop before. Raises ``StoreOutdated``.

    A daemon that started first, or again in the middle of an outage, must not need somebody to start it once more.
    """
    while not stop.is_set():
        try:
            async with connection(pool) as held:
                await check(held)
        except StoreUnavailable as error:
            log.warning("waiting_for_database", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(DATABASE_RETRY_SECONDS):
                    await stop.wait()
        else:
            return True
    return False


def wait_after(failures: int) -> float:
    """Return how long a loop rests that failed so often in a row."""
    return spread(growing_wait(failures, first=FIRST_WAIT_SECONDS, longest=LONGEST_WAIT_SECONDS))


def _say_failed(loop: str, error: Exception, *, failures: int, rest: float) -> None:
    expected = isinstance(error, IndexerError) and not isinstance(error, StoreFault | StoreRefused)
    log.warning(
        "loop_round_failed",
        loop=loop,
        error=_first_line(error),
        failures=failures,
        rest_seconds=round(rest, 1),
        exc_info=None if expected else error,
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__

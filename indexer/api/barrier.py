"""The barrier: a question waits until every write that the registry answered before it is in the inventory.

The proxy gives notice of each write before it passes it to the registry (``api.notices``). So whoever asks after a
write was answered finds its notice, unless its event has been applied: the notice ends in that transaction. A
question waits for the notices that it finds. A write that was refused has no event; so after a moment the registry is
asked about exactly the tags that are still open (``reconciler.verify.requested``), and its answer is newer than the
question.

What cannot be known in time is not answered: see docs/explanation/an-answer-is-never-stale.md.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from prometheus_client import Counter, Histogram

from indexer.common.errors import StoreError
from indexer.store import write_notices
from indexer.store.pool import Pool, connection
from indexer.store.write_notices import Question, Scope

HAND_OVER_SECONDS: Final = 0.5
"""How long a question waits that the registry can answer instead."""
PATIENT_SECONDS: Final = 2.0
"""How long a question waits that nobody else can answer."""
EVENT_SECONDS: Final = 0.15
"""How long an event may take before the registry is asked: it takes 20 to 70 ms (measured)."""
ASK_AGAIN_SECONDS: Final = 0.3
"""A verification from which nothing followed is repeated so soon, while the question waits."""
FAILED_SECONDS: Final = 2.0
"""After a barrier that was not reached, questions about the repository are handed over at once for so long."""
UNNOTICED_SECONDS: Final = 5.0
"""Writes may have passed without a notice before this process was up, or while the database was away. The registry
delivers their events within its ``backoff``, of 1 s by default."""
POLL_SECONDS: Final = 0.05
"""A NOTIFY is lost while the connection of LISTEN is made again, and none tells that a manifest was read."""

SECONDS = Histogram(
    "indexer_barrier_seconds",
    "How long questions waited for writes under way.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
QUESTIONS = Counter(
    "indexer_barrier_questions_total",
    "Questions at the barrier: that went on, or that were not answered because a write was under way.",
    ["outcome"],
)
for _outcome in ("passed", "refused"):
    QUESTIONS.labels(_outcome)


class Barrier:
    """Lets questions wait. Those about one thing share one wait, as far as it began after them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._changed = asyncio.Event()
        self._running: dict[Scope, asyncio.Task[bool]] = {}
        self._next: dict[Scope, asyncio.Task[bool]] = {}
        self._failed_until: dict[str, float] = {}
        self._unnoticed_until = time.monotonic() + UNNOTICED_SECONDS

    def wake(self) -> None:
        """Let waiting questions see whether they may go on."""
        self._changed.set()
        self._changed = asyncio.Event()

    def missed(self) -> None:
        """Say that a write may pass without a notice from now on."""
        self._unnoticed_until = time.monotonic() + UNNOTICED_SECONDS

    async def passes(self, scope: Scope, *, patient: bool) -> bool:
        """Return whether the inventory has every write that was answered before this question.

        ``patient``: nobody else can answer, so wait longer. Raises ``StoreError`` if the database does not answer.
        """
        began = time.monotonic()
        try:
            passed = await self._passes(scope, began, patient=patient)
        except StoreError:
            self.missed()  # where we cannot ask, another process cannot take notice
            raise
        SECONDS.observe(time.monotonic() - began)
        QUESTIONS.labels("passed" if passed else "refused").inc()
        return passed

    async def _passes(self, scope: Scope, began: float, *, patient: bool) -> bool:
        deadline = began + (PATIENT_SECONDS if patient else HAND_OVER_SECONDS)
        if not patient and began < self._failed_until.get(scope.repository, 0.0):
            return False
        if began < self._unnoticed_until:
            if self._unnoticed_until > deadline:
                return False
            await asyncio.sleep(self._unnoticed_until - began)
        wait = self._next.get(scope)
        if wait is None:
            wait = asyncio.create_task(self._run(scope, self._running.get(scope)))
            wait.add_done_callback(_retrieve)
            self._next[scope] = wait
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                passed = await asyncio.shield(wait)
        except TimeoutError:
            passed = False
        if not passed:
            self._failed(scope.repository)
        return passed

    async def _run(self, scope: Scope, before: asyncio.Task[bool] | None) -> bool:
        """Wait for the run before, and then for all that is open by then: whoever asks later needs another run."""
        if before is not None:
            with suppress(StoreError):
                await asyncio.shield(before)
        current = asyncio.current_task()
        assert current is not None  # noqa: S101 - a coroutine of a task
        del self._next[scope]
        self._running[scope] = current
        try:
            return await self._clears(scope)
        finally:
            if self._running.get(scope) is current:
                del self._running[scope]

    async def _clears(self, scope: Scope) -> bool:
        began = time.monotonic()
        async with connection(self.pool) as held:
            question = await write_notices.begin_question(held, scope)
        if question.overflow:
            return False
        ask_at = began + EVENT_SECONDS
        while True:
            changed = self._changed
            if await self._is_clear(question):
                return True
            now = time.monotonic()
            if now >= began + PATIENT_SECONDS:
                return False
            if now >= ask_at and question.newest is not None:
                async with connection(self.pool) as held:
                    await write_notices.want_verified(held, question)
                ask_at = now + ASK_AGAIN_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await changed.wait()

    async def _is_clear(self, question: Question) -> bool:
        scope = question.scope
        if question.newest is None and not scope.referrers:
            return True
        async with connection(self.pool) as held:
            if question.newest is not None and await write_notices.count_open(held, question):
                return False
            return not (scope.referrers and await write_notices.has_unread(held, repository=scope.repository))

    def _failed(self, repository: str) -> None:
        now = time.monotonic()
        self._failed_until = {name: until for name, until in self._failed_until.items() if until > now}
        self._failed_until[repository] = now + FAILED_SECONDS


def _retrieve(task: asyncio.Task[bool]) -> None:
    """Take a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()

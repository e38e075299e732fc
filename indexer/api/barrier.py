"""The barrier: a question waits until every write that the registry answered before it is in the inventory.

The proxy gives notice of each write before it passes it to the registry (``api.notices``). So whoever asks after a
write was answered finds its notice, unless its event has been applied: the notice ends in that transaction. A
question waits for the notices that it finds. A write that was refused has no event; so after a moment the registry is
asked about exactly the tags that are still open (``reconciler.verify.requested``), and its answer is newer than the
question. Where there are too many of them, the names of all tags are compared.

An event that comes late may be older than what the registry answered. It takes back what was verified. So an answer
that relies on a verification is given only if the verification still stands after the inventory was read.

What cannot be known in time is not answered: see docs/explanation/an-answer-is-never-stale.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypedDict, TypeVar

from prometheus_client import Counter, Histogram

from indexer.background.loop import WakeEvent
from indexer.common.errors import StoreError
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import write_notices
from indexer.store.pool import Pool, connection
from indexer.store.write_notices import Comparison, OpenNotices, Question, Scope

HAND_OVER_SECONDS: Final = 0.5
"""How long a question waits that the registry can answer instead."""
PATIENT_SECONDS: Final = 2.0
"""How long a question waits that nobody else can answer, before its repository is compared."""
COMPARE_SECONDS: Final = 5.0
"""How long it then waits for the comparison, or for referrers to be read. The proxy waits 15 s for the answer."""
EVENT_SECONDS: Final = 0.15
"""How long an event may take before the registry is asked: it takes 20 to 70 ms (measured)."""
OVERDUE: Final = timedelta(seconds=1)
"""A write that is noted for so long was probably refused: its tag is verified at once."""
ASK_AGAIN_SECONDS: Final = 0.3
"""A verification from which nothing followed is repeated so soon, while the question waits."""
MOST_ONE_BY_ONE: Final = 32
"""With more open notices the names of all tags are compared, by one request, instead of verifying tags one by one."""
FAILED_SECONDS: Final = 2.0
"""After a barrier that was not reached, questions about the repository are handed over at once: until it is reached
after all, and for so long at most."""
SHARED_SECONDS: Final = 0.05
"""Waits about one thing begin so far apart: a question joins the next one."""
UNNOTICED_SECONDS: Final = 5.0
"""Writes may have passed without a notice before this process was up, or while the database was away. The registry
delivers their events within its ``backoff``, of 1 s by default."""
POLL_SECONDS: Final = 0.05
"""A NOTIFY is lost while the connection of LISTEN is made again."""

SECONDS = Histogram(
    "indexer_barrier_seconds",
    "How long questions waited for writes under way.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
QUESTIONS = Counter(
    "indexer_barrier_questions_total",
    "Questions at the barrier: that went on, that went on after their repository was compared, or that were not "
    "answered because a write was under way.",
    ["outcome"],
)
for _outcome in ("passed", "compared", "refused"):
    QUESTIONS.labels(_outcome)


T = TypeVar("T")


class Notice(TypedDict):
    """Which notice is meant."""

    number: str
    repository: RepositoryName
    tag: TagName


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passage:
    """A wait that is over. ``relies_on``: the notices that were verified and have not ended; None: all have ended."""

    question: Question
    relies_on: OpenNotices | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    """What questions share: a wait for notices, or for a comparison. It is given up after ``seconds``."""

    scope: Scope
    compare: bool = False
    seconds: float


class Barrier:
    """Lets questions wait. Those about one thing share one wait, as far as it began after them.

    ``hurry`` is set while a question waits: events that wait here are applied at once.
    """

    def __init__(self, pool: Pool, *, hurry: WakeEvent | None = None) -> None:
        self.pool = pool
        self._hurry = hurry
        self._changed = asyncio.Event()
        self._running: dict[_Wait, asyncio.Task[_Passage | None]] = {}
        self._next: dict[_Wait, asyncio.Task[_Passage | None]] = {}
        self._failed_until: dict[str, float] = {}
        self._unnoticed_until = time.monotonic() + UNNOTICED_SECONDS

    def wake(self) -> None:
        """Let waiting questions see whether they may go on."""
        self._changed.set()
        self._changed = asyncio.Event()

    def missed(self) -> None:
        """Say that a write may pass without a notice from now on."""
        self._unnoticed_until = time.monotonic() + UNNOTICED_SECONDS

    async def answer(self, scope: Scope, read: Callable[[], Awaitable[T]], *, patient: bool) -> T | None:
        """Return what ``read`` returns (or raise) once the inventory has every write before this question.

        None if this cannot be known in time. ``patient``: nobody else can answer, so wait longer, and in the end have
        the repository compared, or, for referrers, wait longer still. Raises ``StoreError`` if the database does not
        answer.
        """
        began = time.monotonic()
        try:
            found, outcome = await self._answer(scope, read, began, patient=patient)
        except StoreError:
            self.missed()  # where we cannot ask, another process cannot take notice
            raise
        SECONDS.observe(time.monotonic() - began)
        QUESTIONS.labels(outcome).inc()
        if isinstance(found, _Raised):
            raise found.error
        return found

    async def verifies(self, *, number: str, repository: RepositoryName, tag: TagName) -> int | None:
        """Have the tag of a notice verified; return the question for which it was, None: it was not in time.

        The registry was asked after this call, and the record agrees with it, as long as the verification stands
        (``write_notices.is_checked``). Waits ``PATIENT_SECONDS`` at most. Raises ``StoreError`` if the database does
        not answer.
        """
        deadline = time.monotonic() + PATIENT_SECONDS
        of_it: Notice = {"number": number, "repository": repository, "tag": tag}
        question: int | None = None
        ask_at = 0.0
        while (now := time.monotonic()) < deadline:
            changed = self._changed
            async with connection(self.pool) as held:
                if question is not None and await write_notices.is_checked(held, **of_it, question=question):
                    return question
                if now >= ask_at:
                    wanted = await write_notices.want_checked(held, **of_it)
                    question = wanted if question is None else question
                    ask_at = now + ASK_AGAIN_SECONDS
            await _changes(changed)
        return None

    async def pause(self) -> None:
        """Wait until something may have changed about notices."""
        await _changes(self._changed)

    async def _answer(
        self, scope: Scope, read: Callable[[], Awaitable[T]], began: float, *, patient: bool
    ) -> tuple[T | _Raised | None, str]:
        deadline = began + (PATIENT_SECONDS if patient else HAND_OVER_SECONDS)
        if patient or began >= self._failed_until.get(scope.repository, 0.0):
            found = await self._current(_Wait(scope=scope, seconds=PATIENT_SECONDS), read, deadline)
            if found is not None:
                return found, "passed"
        now = time.monotonic()
        if patient and scope.referrers:
            # No comparison of tags knows every manifest: each write is verified, and each manifest read, or it fails.
            longer = _Wait(scope=scope, seconds=COMPARE_SECONDS)
            found = await self._current(longer, read, max(now, self._unnoticed_until) + COMPARE_SECONDS)
            if found is not None:
                return found, "passed"
        elif patient and not (scope.below and now < self._unnoticed_until):
            comparison = _Wait(scope=scope, compare=True, seconds=COMPARE_SECONDS)
            found = await self._current(comparison, read, now + COMPARE_SECONDS)
            if found is not None:
                return found, "compared"
        return None, "refused"

    async def _current(
        self, what: _Wait, read: Callable[[], Awaitable[T]], deadline: float
    ) -> T | _Raised | None:
        """Read once the wait is over; again, if what it relies on was taken back meanwhile. None: not in time."""
        while (passage := await self._pass(what, deadline)) is not None:
            try:
                found: T | _Raised = await read()
            except Exception as error:  # noqa: BLE001 - that there is nothing may be stale, too
                found = _Raised(error)
            if await self._stands(passage):
                return found
        return None

    async def _pass(self, what: _Wait, deadline: float) -> _Passage | None:
        """Wait until the deadline, together with others; None: in vain."""
        now = time.monotonic()
        if now < self._unnoticed_until and not what.compare:
            if self._unnoticed_until > deadline:
                return None
            await asyncio.sleep(self._unnoticed_until - now)
        wait = self._next.get(what)
        if wait is None:
            wait = asyncio.create_task(self._run(what, self._running.get(what)))
            wait.add_done_callback(_retrieve)
            self._next[what] = wait
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                passage = await asyncio.shield(wait)
        except TimeoutError:
            passage = None
        if passage is None:
            self._failed(what.scope.repository)
        return passage

    async def _run(self, what: _Wait, before: asyncio.Task[_Passage | None] | None) -> _Passage | None:
        """Wait for all that is open when this begins: whoever asks later needs another run, which begins later."""
        if before is not None:
            await asyncio.wait({before}, timeout=SHARED_SECONDS)
        current = asyncio.current_task()
        assert current is not None  # noqa: S101 - a coroutine of a task
        del self._next[what]
        self._running[what] = current
        try:
            passage = await (self._is_compared(what) if what.compare else self._clears(what))
        finally:
            if self._running.get(what) is current:
                del self._running[what]
        if passage is not None:
            self._failed_until.pop(what.scope.repository, None)
        return passage

    async def _clears(self, what: _Wait) -> _Passage | None:
        """Wait until every notice that is open now has ended, or was verified."""
        scope = what.scope
        began = time.monotonic()
        async with connection(self.pool) as held:
            question = await write_notices.begin_question(held, scope)
        if question.newest is None and not scope.referrers:
            return _Passage(question=question)
        if question.overflow and scope.referrers:
            return None  # a comparison of tags does not know every manifest
        overdue = question.oldest_seconds >= OVERDUE.total_seconds()
        ask_at = began if _by_comparison(question, question.open) and overdue else began + EVENT_SECONDS
        if overdue and ask_at > began:
            async with connection(self.pool) as held:
                await write_notices.want_verified(held, question, noted_for=OVERDUE)
        while True:
            changed = self._changed
            notices = await self._open(question)
            if notices is not None and not notices.open:
                return _Passage(question=question, relies_on=notices if notices.left else None)
            if (now := time.monotonic()) >= began + what.seconds:
                return None
            if self._hurry is not None:
                self._hurry.wake()
            if now >= ask_at and question.newest is not None:
                await self._ask(question, notices)
                ask_at = now + ASK_AGAIN_SECONDS
            await _changes(changed)

    async def _open(self, question: Question) -> OpenNotices | None:
        """Return what a question still waits for; None: for manifests to be read."""
        scope = question.scope
        async with connection(self.pool) as held:
            notices = await write_notices.count_open(held, question, compared=_sufficient(scope))
            if not scope.referrers:
                return notices
            # While it waits for notices as well: what was pushed before is read meanwhile.
            if await write_notices.has_unread(held, repository=scope.repository):
                await write_notices.want_read(held, repository=scope.repository)
                return notices if notices.open else None
        return notices

    async def _ask(self, question: Question, notices: OpenNotices | None) -> None:
        """Have the registry asked about what is open: about its tags, or where there are too many about all."""
        async with connection(self.pool) as held:
            if notices is not None and _by_comparison(question, notices.open):
                comparison = Comparison.NAMES if question.scope.names else Comparison.ALL
                await write_notices.want_compared(held, question, comparison=comparison)
            else:
                await write_notices.want_verified(held, question)

    async def _is_compared(self, what: _Wait) -> _Passage | None:
        """Have the repositories of a question compared, and wait for it."""
        began = time.monotonic()
        async with connection(self.pool) as held:
            question = await write_notices.begin_question(held, what.scope)
            await write_notices.want_compared(held, question, comparison=Comparison.ALL)
        while True:
            changed = self._changed
            notices = await self._open(question)
            if notices is not None and not notices.open:
                async with connection(self.pool) as held:
                    if await write_notices.is_compared(held, question):
                        return _Passage(question=question, relies_on=notices)
            if time.monotonic() >= began + what.seconds:
                return None
            await _changes(changed)

    async def _stands(self, passage: _Passage) -> bool:
        """Return whether what was verified still stands.

        An event that was applied since takes it back. So does one after which it was verified anew: the inventory may
        have been read in between.
        """
        if passage.relies_on is None:
            return True
        question = passage.question
        async with connection(self.pool) as held:
            notices = await write_notices.count_open(held, question, compared=_sufficient(question.scope))
        return not notices.open and notices.state == passage.relies_on.state

    def _failed(self, repository: str) -> None:
        now = time.monotonic()
        self._failed_until = {name: until for name, until in self._failed_until.items() if until > now}
        self._failed_until[repository] = now + FAILED_SECONDS


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a read raised."""

    error: Exception


def _sufficient(scope: Scope) -> tuple[Comparison, ...]:
    """Return the comparisons that tell all that an answer has of tags; none knows every manifest."""
    if scope.referrers:
        return ()
    return (Comparison.NAMES, Comparison.ALL) if scope.names else (Comparison.ALL,)


def _by_comparison(question: Question, open_notices: int) -> bool:
    """Return whether the repository is compared: one request tells all names, but all digests take one for each tag."""
    if question.scope.referrers:
        return False
    return question.overflow or (question.scope.names and open_notices > MOST_ONE_BY_ONE)


async def _changes(changed: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(POLL_SECONDS):
            await changed.wait()


def _retrieve(task: asyncio.Task[_Passage | None]) -> None:
    """Take a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()

"""One process's work at a run: it takes one repository after the other until none is left."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from indexer.common.errors import RegistryDenied, RegistryError
from indexer.common.task_group import TaskGroup
from indexer.oci.reference import RepositoryName
from indexer.store import reconcile_runs, repositories
from indexer.store.pool import Pool, connection
from indexer.store.reconcile_runs import RunRecord, Undecided, Worker
from reconciler.drift.compare import UNKNOWN, Comparer, Comparison
from reconciler.drift.exceptions import Closed, is_tolerable
from reconciler.drift.pacing import Pacing
from reconciler.drift.repair import Repairer
from reconciler.drift.report import UNKNOWN_REPOSITORY, Progress, add_undecided, one_undecided
from reconciler.drift.repository_names import put_on_record
from reconciler.observing.tags import UNREADABLE, kind_of, raise_if_down

log = structlog.get_logger()

REPOSITORIES_AT_A_TIME: Final = 8
PROGRESS_EVERY_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.2


@dataclass(slots=True)
class _Tally:
    """The counts of one repository so far."""

    counts: Counter[str] = field(default_factory=Counter)
    undecided: Undecided = field(default_factory=dict)

    def add(self, kind: str, reason: str) -> None:
        self.add_all(one_undecided(kind, reason))

    def add_all(self, undecided: Undecided) -> None:
        for kind, what in undecided.items():
            log.warning("reconcile_undecided", reason="; ".join(what["examples"]), kind=kind)
        add_undecided(self.undecided, undecided)

    @property
    def is_in_full(self) -> bool:
        """Whether everything was compared that can be."""
        return all(map(is_tolerable, self.undecided))


class Work:
    """The repositories that this process takes of one run."""

    def __init__(
        self,
        pool: Pool,
        comparer: Comparer,
        repairer: Repairer,
        worker: Worker,
        *,
        run: RunRecord,
        closed: Closed,
        on_progress: Callable[[Progress], None],
        pacing: Pacing | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        self._pool = pool
        self._comparer = comparer
        self._repairer = repairer
        self._worker = worker
        self._run = run
        self._closed = closed
        self._on_progress = on_progress
        self._pacing = pacing
        self._stop = stop
        self._under_way: dict[RepositoryName, _Tally] = {}
        self._freed = asyncio.Event()
        self._before = Progress(repositories=0, total=0, tags=0)
        self._done: Counter[str] = Counter()
        self._logged_at = time.monotonic()
        self._at_start: reconcile_runs.State | None = None
        self._counted_at = float("-inf")

    async def work(self) -> bool:
        """Take and compare until nothing is left; return False if ``stop`` was set before.

        Raises ``RegistryError`` if the registry does not answer.
        """
        state = self._at_start = await self._state()
        self._before = Progress(repositories=state.total - state.left, total=state.total, tags=0)
        try:
            async with TaskGroup() as group:
                while await self._dispatch(group):
                    pass
        except ExceptionGroup as failures:
            raise _first_registry_error(failures) or failures from failures
        return not self._is_stopping or not (await self._state()).left

    @property
    def _is_stopping(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    async def _dispatch(self, group: TaskGroup) -> bool:
        """Take one more repository, or wait for one; return False once nothing is left, or at a stop."""
        self._freed.clear()
        if self._is_stopping:
            return False
        if len(self._under_way) < REPOSITORIES_AT_A_TIME:
            of_first = await self._of_first()
            name = await self._worker.take_repository(run_id=self._run.id, of_first=of_first)
            if name is not None:
                self._under_way[name] = _Tally()
                group.create_task(self._compare(name))
                return True
            if await self._is_nothing_left(is_paced=of_first is not None):
                return False
            # Other processes have the rest, and it is free again if they die; or the pace does not allow the next yet.
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._freed.wait()
        return True

    async def _of_first(self) -> int | None:
        """Return how many of the run's repositories may have been taken by now; None: all."""
        if self._pacing is None or self._at_start is None or self._at_start.listed_at is None:
            return None
        allowed = await self._pacing.may_be_taken(
            total=self._at_start.total, listed_at=self._at_start.listed_at, now=datetime.now(UTC)
        )
        return allowed if allowed < self._at_start.total else None

    async def _is_nothing_left(self, *, is_paced: bool) -> bool:
        """Count what is left; only every few seconds where the pace makes us wait: other processes take some, too."""
        now = time.monotonic()
        if is_paced and now - self._counted_at < PROGRESS_EVERY_SECONDS:
            return False
        self._counted_at = now
        return not (await self._state()).left

    async def _state(self) -> reconcile_runs.State:
        async with connection(self._pool) as held:
            return await reconcile_runs.state_of(held, run_id=self._run.id)

    async def _compare(self, name: RepositoryName) -> None:
        tally = self._under_way[name]
        try:
            await self._repair(await self._comparer.begin(name), tally)
        except RegistryError as error:
            await raise_if_down(self._comparer.registry, error)
            tally.counts["repositories_undecided"] += 1
            kind = await self._kind_of_denial(name) if isinstance(error, RegistryDenied) else kind_of(error)
            tally.add(kind, f"{name}: {error}")
        await self._worker.end_repository(
            run_id=self._run.id,
            name=name,
            at=datetime.now(UTC),
            counts=tally.counts,
            undecided=tally.undecided,
        )
        self._done += tally.counts
        del self._under_way[name]
        self._freed.set()
        await self._log_progress()

    async def _kind_of_denial(self, name: RepositoryName) -> str:
        async with connection(self._pool) as held:
            compared_at = await repositories.last_reconciled(held, name=name)
        return self._closed.kind_of(name, compared_at=compared_at, now=datetime.now(UTC))

    async def _repair(self, comparison: Comparison, tally: _Tally) -> None:
        name = comparison.repository
        if self._run.scope is not None:
            if not await comparison.is_known():
                tally.counts["repositories_undecided"] += 1
                tally.add(UNKNOWN_REPOSITORY, f"{name}: {UNKNOWN}")
                return
            await put_on_record(self._pool, [name])
        async for compared in comparison.ranges():
            tally.counts += await self._repairer.repair(comparison, compared)
            tally.counts["tags"] += len(compared.observations)
            tally.counts["manifests"] += compared.manifests_checked
            tally.counts["undecided"] += len(compared.undecided)
            for item in compared.undecided:
                tally.add(item.kind, f"{name}:{item.tag}: {item.reason}")
            await self._repairer.verify_later(
                comparison, [item.tag for item in compared.undecided if item.kind == UNREADABLE]
            )
            await self._log_progress()
        tally.add_all(comparison.left_out)
        await self._repairer.finish(comparison, in_full=tally.is_in_full)
        tally.counts["repositories"] += 1

    async def _log_progress(self) -> None:
        """Report to the caller at once, and every few seconds to the stored run, which the API shows."""
        mine = sum((tally.counts for tally in self._under_way.values()), self._done)
        done = self._done["repositories"] + self._done["repositories_undecided"]
        self._on_progress(
            Progress(
                repositories=min(self._before.repositories + done, self._before.total),
                total=self._before.total,
                tags=mine["tags"],
            )
        )
        now = time.monotonic()
        if now - self._logged_at < PROGRESS_EVERY_SECONDS:
            return
        self._logged_at = now
        async with connection(self._pool) as held:
            counts = await reconcile_runs.sum_counts(held, run_id=self._run.id)
            counts += sum((tally.counts for tally in self._under_way.values()), Counter[str]())
            await reconcile_runs.progress_run(held, run_id=self._run.id, counts=counts)


def _first_registry_error(group: BaseExceptionGroup[BaseException]) -> RegistryError | None:
    for error in group.exceptions:
        if isinstance(error, RegistryError):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := _first_registry_error(error)) is not None:
            return found
    return None

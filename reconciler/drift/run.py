"""A reconcile run: catalog → repositories → tags. Differences are repaired as they are found, deletions at the end.

    catalog ∪ on record ──listed──▶ taken one by one ──compare──▶ repaired at once: created, moved, broken, readable
                                                         held back: deleted ──brake──▶ repaired, or reported only

Several processes may share one run, and one may continue where others died (``indexer.store.reconcile_runs``). It may
run beside verification, ingest and other runs: an observation is stored only if the tag's revision is still the one
that it was made against.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from indexer.common.errors import RegistryError
from indexer.inventory.changes import DriftCause, DriftKind, Finding
from indexer.oci.digest import digest_from_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import pending_deletions, reconcile_runs
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection, transaction
from indexer.store.reconcile_runs import RunRecord, Undecided, Worker
from reconciler.drift.cache import CACHE_NOTE, note_kind
from reconciler.drift.compare import Comparer
from reconciler.drift.exceptions import blocking_kinds
from reconciler.drift.finishing import Finisher
from reconciler.drift.hidden import HiddenTags, remembering
from reconciler.drift.joining import Joined, enter
from reconciler.drift.pacing import Pacing
from reconciler.drift.repair import Repairer
from reconciler.drift.report import Progress, RunReport, RunSettings
from reconciler.drift.repository_names import every_name, put_on_record
from reconciler.drift.worker import POLL_SECONDS, Work
from reconciler.registry.cache import RegistryKind
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

HELD_BACK_SHOWN: Final = 1000
REPOSITORIES_SHOWN: Final = 20


class ReconcileRun:
    """One process's part in one run; not to be used twice."""

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        registry: Registry,
        settings: RunSettings,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        pacing: Pacing | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._settings = settings
        self._on_progress = on_progress
        self._pacing = pacing
        self._stop = stop

    async def run(self) -> RunReport:
        """Reconcile and report; raise ``RegistryError`` if the registry does not answer."""
        await self._registry.ping()
        async with reconcile_runs.working(self._pool) as worker:
            entered = await enter(worker, self._settings)
            if entered.joined:
                log.info("reconcile_resumed", run_id=entered.run.id, began=entered.run.started_at)
            return await self.take_part(worker, entered)

    async def take_part(self, worker: Worker, entered: Joined) -> RunReport:
        """Work at a run until it has ended, or until ``stop`` is set."""
        run = entered.run
        try:
            kind = await self._registry.kind(afresh=True)
            await note_kind(self._pool, kind)
            if kind.is_cache:
                await self._end_for_cache(run, kind)
                return replace(await self._report(entered), of_cache=True)
            await self._list_repositories(worker, run)
            repairer = Repairer(self._pool, self._lookups, worker, run)
            work = Work(
                self._pool,
                self._comparer(run),
                repairer,
                worker,
                run=run,
                closed=self._settings.closed,
                on_progress=self._on_progress,
                pacing=self._pacing,
                stop=self._stop,
            )
            if await work.work():
                await self._finish(worker, run, repairer)
        except RegistryError as error:
            await self._fail(worker, entered, error)
            raise
        return await self._report(entered)

    def _comparer(self, run: RunRecord) -> Comparer:
        limit = asyncio.Semaphore(self._settings.concurrency)
        return Comparer(
            self._pool,
            self._registry,
            limit=limit,
            reread_after=timedelta(0) if run.thorough else self._settings.reread_after,
            hidden=HiddenTags(
                self._registry,
                requests=self._settings.hidden_tag_requests,
                limit=limit,
                remember=remembering(self._pool),
            ),
        )

    async def _list_repositories(self, worker: Worker, run: RunRecord) -> None:
        """Store the run's repositories, for every process that takes part, or wait until another process has."""
        while not (await self._state(run)).listed:
            async with worker.leading(run.id) as leads:
                if leads and not (await self._state(run)).listed:
                    await self._list(run)
            if not leads:
                await asyncio.sleep(POLL_SECONDS)

    async def _list(self, run: RunRecord) -> None:
        undecided: Undecided = {}
        if run.scope is not None:
            names: Sequence[RepositoryName] = run.scope
        else:
            known = await every_name(self._pool, self._registry, closed=self._settings.closed)
            names, undecided = known.names, known.undecided
            for kind, what in undecided.items():
                log.warning("reconcile_undecided", reason="; ".join(what["examples"]), kind=kind)
            await put_on_record(self._pool, names)
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            await reconcile_runs.add_run_repositories(
                held, run_id=run.id, names=names, at=now, undecided=undecided
            )

    async def _state(self, run: RunRecord) -> reconcile_runs.State:
        async with connection(self._pool) as held:
            return await reconcile_runs.state_of(held, run_id=run.id)

    async def _finish(self, worker: Worker, run: RunRecord, repairer: Repairer) -> None:
        """Finish the run, or wait until another process has."""
        while not (await self._state(run)).ended:
            async with worker.leading(run.id) as leads:
                if leads and not (await self._state(run)).ended:
                    await Finisher(self._pool, self._lookups, self._settings, run, repairer).end()
            if not leads:
                await asyncio.sleep(POLL_SECONDS)

    async def _fail(self, worker: Worker, entered: Joined, error: RegistryError) -> None:
        """The registry does not answer us: end a run of ``once`` as failed, if no other process works at it.

        A run of ``reconciler run`` is continued later. A run that another process began stays open: that process may
        reach the registry, and what it has compared must not be lost.
        """
        is_ours_alone = (
            entered.run.mode is RunMode.ONCE
            and not entered.joined
            and not await worker.has_others(entered.run.id)
        )
        run_id, note = entered.run.id, str(error)
        async with transaction(self._pool) as held:
            if is_ours_alone:
                now = datetime.now(UTC)
                await reconcile_runs.give_up_run(
                    held, run_id=run_id, at=now, outcome=RunOutcome.FAILED, note=note
                )
            else:
                await reconcile_runs.note_run(held, run_id=run_id, note=note)

    async def _end_for_cache(self, run: RunRecord, kind: RegistryKind) -> None:
        """End a run against a pull-through cache without comparing or deleting: it lists its upstream's tags."""
        log.info("reconcile_skipped_cache", run_id=run.id, because=kind.because)
        async with transaction(self._pool) as held:
            now = datetime.now(UTC)
            await reconcile_runs.give_up_run(
                held, run_id=run.id, at=now, outcome=RunOutcome.COMPLETE, note=CACHE_NOTE
            )

    async def _report(self, entered: Joined) -> RunReport:
        run_id = entered.run.id
        async with connection(self._pool) as held:
            result = await reconcile_runs.result_of(held, run_id=run_id)
            pending = (
                await pending_deletions.list_unrepaired(held, run_id=run_id, limit=HELD_BACK_SHOWN)
                if result.brake
                else []
            )
            of_each = (
                await pending_deletions.count_unrepaired(held, run_id=run_id, limit=REPOSITORIES_SHOWN)
                if pending
                else {}
            )
        return RunReport(
            outcome=result.outcome or RunOutcome.INTERRUPTED,
            counts=Counter(result.counts),
            undecided=result.undecided,
            blocking=blocking_kinds(result.undecided, result.counts, share=self._settings.brake_share),
            brake=result.brake,
            held_back=[
                Finding(
                    kind=DriftKind.TAG_EXTRA,
                    cause=DriftCause.UNANNOUNCED,
                    repository=RepositoryName(row["repository"]),
                    tag=TagName(row["tag"]),
                    detected_at=row["detected_at"],
                    repaired=False,
                    expected=digest_from_bytes(row["expected"]) if row["expected"] else None,
                )
                for row in pending
            ],
            held_back_by_repository=of_each,
            resumed_from=entered.run.started_at if entered.joined else None,
        )

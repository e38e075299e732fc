"""Stores the result of a comparison: differences are repaired at once, deletions wait for the end of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from indexer.inventory.changes import AuditSource, WorkKind
from indexer.inventory.observations import ManifestObservation, TagObservation, TagState
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import apply, manifests, repositories, work_items
from indexer.store.apply import ObservedRevision, Stored
from indexer.store.instants import FOR_EVER, NEVER
from indexer.store.lookups import Lookups
from indexer.store.pending_deletions import PendingDeletion
from indexer.store.pool import Connection, Pool, connection, transaction
from indexer.store.reconcile_runs import RunRecord, Worker
from indexer.store.tags import RecordedTag
from indexer.store.work_items import WorkKey
from reconciler.drift.compare import Comparison, TagRange
from reconciler.drift.inbox_barrier import InboxBarrier

log = structlog.get_logger()

STORE_CHUNK: Final = 200
OBSERVE_AGAIN: Final = (Stored.INCONCLUSIVE, Stored.OVERTAKEN)
"""Observations that conclude nothing: their tags are left to verification."""

FOUND: Final = "found"
"""The count of tags that the first reconcile of a repository enters. They were there before us: no drift, no repair."""


class Repairer:
    """Stores the results of comparisons of one run."""

    def __init__(self, pool: Pool, lookups: Lookups, worker: Worker, run: RunRecord) -> None:
        self._pool = pool
        self._lookups = lookups
        self._worker = worker
        self._run = run
        self._inbox = InboxBarrier(pool)

    async def repair(self, comparison: Comparison, compared: TagRange) -> Counter[str]:
        """Repair a range and hold back its deletions; return counts by ``Stored`` value, and ``FOUND``."""
        observations: list[ObservedRevision] = []
        gone: list[PendingDeletion] = []
        for observation, record in compared.observations:
            if observation.outcome is TagState.ABSENT and record is not None:
                gone.append(_pending_tag(observation, record))
            else:
                observations.append(
                    ObservedRevision(
                        observation=observation,
                        revision=record.revision if record is not None else 0,
                        first_reconcile=self._run.first_reconcile and comparison.reconciled_at is None,
                        absent_at=comparison.reconciled_at,
                        verified_before=record.verified_at if record is not None else None,
                    )
                )
        await self._hold_back(comparison, gone, manifests_=False)
        lost = [
            PendingDeletion(
                repository=comparison.repository,
                key=each.digest,
                revision=0,
                observed_at=each.observed_at,
                as_of=each.as_of,
                expected=each.digest,
            )
            for each in compared.gone
        ]
        await self._hold_back(comparison, lost, manifests_=True)
        counts: Counter[str] = Counter()
        if any(_differs(observation, record) for observation, record in compared.observations):
            await self._inbox.until_applied(datetime.now(UTC))
        for start in range(0, len(observations), STORE_CHUNK):
            counts += await self.store(observations[start : start + STORE_CHUNK])
        counts[Stored.CHANGED.value] += await self._store_served(compared.served)
        return counts

    async def _store_served(self, served: Sequence[ManifestObservation]) -> int:
        """Store which manifests the registry served; return of how many the inventory had no record, or a deletion.

        A manifest whose record is too young to be changed by this is resolved again.
        """
        if not served:
            return 0
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            stored = await apply.apply_manifest_observations(
                held, self._lookups, served, source=AuditSource.WALK, now=now, run_id=self._run.id
            )
            inconclusive = [
                each for each, result in zip(served, stored, strict=True) if result is Stored.INCONCLUSIVE
            ]
            await resolve_again(held, inconclusive, now=now)
        return stored.count(Stored.CHANGED)

    async def finish(self, comparison: Comparison, *, in_full: bool) -> None:
        """Copy to the repository's tags what their manifests say; ``in_full``: record that everything was compared."""
        async with connection(self._pool) as held:
            await manifests.describe_repository(held, repository=comparison.repository)
            if not in_full:
                return
            await repositories.mark_reconciled(held, name=comparison.repository, at=comparison.began)
            miscounted = await repositories.find_miscount(held, name=comparison.repository) is not None
        if miscounted:
            await self._repair_counters(comparison.repository)

    async def _repair_counters(self, repository: RepositoryName) -> None:
        """Repair counters that differ from the rows: rows were edited by hand, so the size may be wrong, too."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            await repositories.lock_repositories(held, names=[repository])
            found = await repositories.find_miscount(held, name=repository)
            if found is None:
                return  # another run has repaired them meanwhile
            number, lacking = found
            await repositories.count_repositories(
                held, counted={number: lacking}, never=NEVER, for_ever=FOR_EVER
            )
            key = WorkKey(kind=WorkKind.MEASURE, repository_id=number, key="")
            await work_items.enqueue(held, keys=[key], now=now, due_at=now)
        log.warning(
            "counters_repaired", repository=repository, tags=lacking.tags, manifests=lacking.manifests
        )

    async def store(self, observations: Sequence[ObservedRevision]) -> Counter[str]:
        """Store observations in one transaction; return counts by ``Stored`` value, and ``FOUND``."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            stored = await apply.apply_tag_observations(
                held, self._lookups, observations, source=AuditSource.WALK, now=now, run_id=self._run.id
            )
        results = list(zip(observations, stored, strict=True))
        await self.observe_again([each.observation for each, result in results if result in OBSERVE_AGAIN])
        return Counter(_count_as(each, result) for each, result in results)

    async def observe_again(self, observations: Sequence[TagObservation]) -> None:
        """Leave to verification the tags that an event changed meanwhile, or named too recently."""
        if not observations:
            return
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            ids = await repositories.find_ids(held, names={each.repository for each in observations})
            keys = [
                WorkKey(kind=WorkKind.VERIFY, repository_id=ids[each.repository], key=each.tag)
                for each in observations
            ]
            await work_items.enqueue(
                held, keys=keys, now=now, due_at=now + work_items.FIRST_OBSERVATION_DELAY
            )

    async def verify_later(self, comparison: Comparison, tags: Sequence[TagName]) -> None:
        """Have tags verified that answered 500; a work item that is there already keeps its attempts."""
        if not tags:
            return
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            ids = await repositories.find_ids(held, names={comparison.repository})
            keys = [
                WorkKey(kind=WorkKind.VERIFY, repository_id=ids[comparison.repository], key=tag)
                for tag in tags
            ]
            await work_items.enqueue_once(held, keys=keys, now=now)

    async def _hold_back(
        self, comparison: Comparison, deletions: Sequence[PendingDeletion], *, manifests_: bool
    ) -> None:
        await self._worker.add_pending_deletions(
            run_id=self._run.id,
            repository=comparison.repository,
            deletions=deletions,
            manifests=manifests_,
            vanished=comparison.vanished,
        )


async def resolve_again(
    held: Connection, observations: Sequence[ManifestObservation], *, now: datetime
) -> None:
    """Have manifests resolved whose observation contradicts evidence of nearly the same time."""
    ids = await repositories.find_ids(held, names={each.repository for each in observations})
    keys = [
        WorkKey(kind=WorkKind.RESOLVE, repository_id=ids[each.repository], key=each.digest)
        for each in observations
    ]
    await work_items.enqueue_once(held, keys=keys, now=now)


def _differs(observation: TagObservation, record: RecordedTag | None) -> bool:
    return record is None or record.digest != observation.digest


def _count_as(observed: ObservedRevision, result: Stored) -> str:
    is_new = observed.first_reconcile and observed.revision == 0
    return FOUND if is_new and result is Stored.CHANGED else result.value


def _pending_tag(observation: TagObservation, record: RecordedTag) -> PendingDeletion:
    return PendingDeletion(
        repository=observation.repository,
        key=observation.tag,
        revision=record.revision,
        observed_at=observation.observed_at,
        as_of=observation.as_of,
        expected=record.digest,
    )

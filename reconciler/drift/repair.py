"""A part of a compared repository into the inventory: what differs is repaired at once, deletions are held back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from indexer.inventory.apply_observation import TagObservation, TagState
from indexer.inventory.changes import AuditSource, WorkKind
from indexer.inventory.repository_manifests import ManifestObservation
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import apply, manifests, repositories, work_items
from indexer.store.apply import ObservedRevision, Stored
from indexer.store.instants import FOR_EVER, NEVER
from indexer.store.lookups import Lookups
from indexer.store.pending_deletions import PendingDeletion
from indexer.store.pool import Connection, Pool, connection, transaction
from indexer.store.reconcile_runs import Run, Worker
from indexer.store.tags import RecordedTag
from indexer.store.work_items import WorkKey
from reconciler.drift.compare import Comparison, TagRange
from reconciler.drift.inbox_barrier import InboxBarrier

log = structlog.get_logger()

STORE_CHUNK: Final = 200
_OBSERVE_AGAIN: Final = (Stored.INCONCLUSIVE, Stored.OVERTAKEN)


class Repairer:
    """Stores what comparisons of one walk came to."""

    def __init__(self, pool: Pool, lookups: Lookups, worker: Worker, run: Run) -> None:
        self._pool = pool
        self._lookups = lookups
        self._worker = worker
        self._run = run
        self._news = InboxBarrier(pool)

    async def repair(self, comparison: Comparison, part: TagRange) -> Counter[str]:
        """Repair, hold back, and return how many looks became what."""
        observations: list[ObservedRevision] = []
        gone: list[PendingDeletion] = []
        for observation, record in part.observations:
            if observation.outcome is TagState.ABSENT and record is not None:
                gone.append(_held_tag(observation, record))
            else:
                observations.append(
                    ObservedRevision(
                        observation=observation,
                        revision=record.revision if record is not None else 0,
                        first_reconcile=self._run.first_reconcile and comparison.walked_at is None,
                        absent_at=comparison.walked_at,
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
            for each in part.gone
        ]
        await self._hold_back(comparison, lost, manifests_=True)
        counts: Counter[str] = Counter()
        if any(_differs(observation, record) for observation, record in part.observations):
            await self._news.until_applied(datetime.now(UTC))
        for start in range(0, len(observations), STORE_CHUNK):
            counts += await self.store(observations[start : start + STORE_CHUNK])
        counts["changed"] += await self._store_served(part.served)
        return counts

    async def _store_served(self, served: Sequence[ManifestObservation]) -> int:
        """Remember which manifests the registry was seen to serve; return how many were on record as not held.

        One whose record is too young to be overruled is asked for once more, by itself.
        """
        if not served:
            return 0
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            stored = await apply.see_manifests(
                held, self._lookups, served, source=AuditSource.WALK, now=now, run_id=self._run.id
            )
            doubted = [
                each for each, became in zip(served, stored, strict=True) if became is Stored.INCONCLUSIVE
            ]
            await ask_for_manifests(held, doubted, now=now)
        return stored.count(Stored.CHANGED)

    async def finish(self, comparison: Comparison, *, in_full: bool) -> None:
        """Bring the repository's tags in step with their manifests, and remember a comparison in full."""
        async with connection(self._pool) as held:
            await manifests.describe_repository(held, repository=comparison.repository)
            if not in_full:
                return
            await repositories.mark_reconciled(held, name=comparison.repository, at=comparison.began)
            miscounted = await repositories.find_miscount(held, name=comparison.repository) is not None
        if miscounted:
            await self._recount(comparison.repository)

    async def _recount(self, repository: RepositoryName) -> None:
        """Put right what counters lack: rows were edited by hand, so the size may be wrong, too."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            await repositories.lock_repositories(held, names=[repository])
            found = await repositories.find_miscount(held, name=repository)
            if found is None:
                return  # another walk was quicker
            number, lacking = found
            await repositories.count_repositories(
                held, counted={number: lacking}, never=NEVER, for_ever=FOR_EVER
            )
            key = WorkKey(kind=WorkKind.MEASURE, repository_id=number, key="")
            await work_items.enqueue(held, keys=[key], now=now, due_at=now)
        log.warning(
            "counters_put_right", repository=repository, tags=lacking.tags, manifests=lacking.manifests
        )

    async def store(self, observations: Sequence[ObservedRevision]) -> Counter[str]:
        """Store looks in one transaction; return how many became what."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            stored = await apply.apply_observations(
                held, self._lookups, observations, source=AuditSource.WALK, now=now, run_id=self._run.id
            )
        again = [look for look, became in zip(observations, stored, strict=True) if became in _OBSERVE_AGAIN]
        await self.observe_again([look.observation for look in again])
        return Counter(became.value for became in stored)

    async def observe_again(self, observations: Sequence[TagObservation]) -> None:
        """What news overtook, or an event spoke of too recently, is for verification to settle."""
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
        """Let verification ask again and again for tags that answer 500; what is due already keeps its count."""
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
        await self._worker.hold_back(
            run_id=self._run.id,
            repository=comparison.repository,
            deletions=deletions,
            manifests=manifests_,
            vanished=comparison.vanished,
        )


async def ask_for_manifests(
    held: Connection, observations: Sequence[ManifestObservation], *, now: datetime
) -> None:
    """Have the registry asked whether it serves manifests on whose record close evidence contradicts what was seen."""
    ids = await repositories.find_ids(held, names={each.repository for each in observations})
    keys = [
        WorkKey(kind=WorkKind.RESOLVE, repository_id=ids[each.repository], key=each.digest)
        for each in observations
    ]
    await work_items.add_work(held, keys=keys, now=now)


def _differs(observation: TagObservation, record: RecordedTag | None) -> bool:
    return record is None or record.digest != observation.digest


def _held_tag(observation: TagObservation, record: RecordedTag) -> PendingDeletion:
    return PendingDeletion(
        repository=observation.repository,
        key=observation.tag,
        revision=record.revision,
        observed_at=observation.observed_at,
        as_of=observation.as_of,
        expected=record.digest,
    )

"""The loop that verifies what questions wait for: the tags of writes whose event has not come.

A write that the registry refused has no event. So a question that finds its notice (``indexer.api.barrier``) has
exactly its tag verified. The registry is asked after the question, so its answer has every write that it answered
before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby

import structlog

from indexer.background.loop import IterationResult
from indexer.inventory.changes import AuditSource
from indexer.inventory.observations import TagObservation, TagState
from indexer.inventory.records import TagKey, TagRecord
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import apply, import_absence, tags, write_notices
from indexer.store.apply import Stored
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool, connection, transaction
from indexer.store.write_notices import WantedNotice
from reconciler.observing.tags import Answered, TagQuestion, first_unavailable, observe_tags
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

BATCH = 512
REST_SECONDS = 1.0


class RequestedVerifier:
    """The loop of notices that questions want verified."""

    name = "requested"

    def __init__(self, pool: Pool, lookups: Lookups, registry: Registry, *, concurrency: int) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._limit = asyncio.Semaphore(concurrency)

    async def run_once(self) -> IterationResult:
        """Verify what is wanted; raise ``RegistryUnavailable`` if the registry does not answer."""
        async with connection(self._pool) as held:
            wanted = await write_notices.list_wanted(held, limit=BATCH)
        if not wanted:
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        groups = [list(of_one) for _, of_one in groupby(wanted, key=lambda notice: notice.repository)]
        await asyncio.gather(*(self._verify(of_one) for of_one in groups))
        return IterationResult(items=len(wanted), rest_seconds=0)

    async def _verify(self, wanted: Sequence[WantedNotice]) -> None:
        """Verify the notices of one repository; questions learn at once what came of it."""
        repository, repository_id = wanted[0].repository, wanted[0].repository_id
        async with connection(self._pool) as held:
            names = {notice.id + notice.reference: await self._tags_of(held, notice) for notice in wanted}
            every = sorted({tag for of_one in names.values() for tag in of_one})
            records: Mapping[TagKey, TagRecord] = {}
            absent_at = None
            if repository_id is not None and every:
                records = await tags.find_tags(
                    held,
                    keys=[(repository, tag) for tag in every],
                    repository_ids={repository: repository_id},
                )
                reconciled = await import_absence.find_reconciled(held, repository_ids={repository_id})
                absent_at = reconciled.get(repository_id)
        current: set[TagName] = set()
        try:
            answered = await self._ask(
                repository, [_question(tag, records.get((repository, tag))) for tag in every]
            )
            current = await self._store(repository, repository_id, answered, records, absent_at=absent_at)
        finally:
            verified = [each for each in wanted if names[each.id + each.reference] <= current]
            unknown = [each for each in wanted if not names[each.id + each.reference] <= current]
            async with connection(self._pool) as held:
                await write_notices.finish_wanted(held, verified=verified, unknown=unknown)

    async def _tags_of(self, held: Connection, notice: WantedNotice) -> set[TagName]:
        """Return the tags that a write can change: its own, or those that point to its digest."""
        digest = notice.digest
        if digest is None:
            return {TagName(notice.reference)}
        if notice.repository_id is None:
            return set()
        return set(await write_notices.list_pointing(held, repository_id=notice.repository_id, digest=digest))

    async def _ask(self, repository: RepositoryName, questions: Sequence[TagQuestion]) -> Answered:
        if not questions:
            return Answered(observations={})
        try:
            return await observe_tags(self._registry, repository, questions, limit=self._limit)
        except ExceptionGroup as failures:
            raise first_unavailable(failures) or failures from failures

    async def _store(
        self,
        repository: RepositoryName,
        repository_id: int | None,
        answered: Answered,
        records: Mapping[TagKey, TagRecord],
        *,
        absent_at: datetime | None,
    ) -> set[TagName]:
        """Store observations; return the tags whose record is now as the registry has it."""
        for undecided in answered.undecided:
            log.warning("tag_undecided", repository=repository, tag=undecided.tag, reason=undecided.reason)
        if repository_id is None:
            # Nothing is on record of it, and nothing is there: a push that failed was the first.
            return {tag for tag, seen in answered.observations.items() if seen.outcome is TagState.ABSENT}
        decided = [
            seen
            for tag, seen in answered.observations.items()
            if not _is_for_reconcile(records.get((repository, tag)), seen, vanished=answered.vanished)
        ]
        if not decided:
            return set()
        revisions = [_to_store(seen, records.get((repository, seen.tag)), absent_at) for seen in decided]
        async with transaction(self._pool) as held:
            stored = await apply.apply_tag_observations(
                held, self._lookups, revisions, source=AuditSource.VERIFY, now=datetime.now(UTC)
            )
        agreed = (Stored.CONFIRMED, Stored.CHANGED)
        return {seen.tag for seen, result in zip(decided, stored, strict=True) if result in agreed}


def _question(tag: TagName, record: TagRecord | None) -> TagQuestion:
    digest = None if record is None else record.digest
    readable = record is not None and record.read_at is not None and not record.broken
    return TagQuestion(
        tag=tag,
        if_digest=digest if readable else None,
        on_record=digest,
        unreadable=record is not None and record.broken,
    )


def _is_for_reconcile(record: TagRecord | None, seen: TagObservation, *, vanished: bool) -> bool:
    """Return whether only a reconcile, with its brake, may decide: a vanished repository may be missing storage."""
    return vanished and seen.outcome is TagState.ABSENT and record is not None and record.live


def _to_store(
    seen: TagObservation, record: TagRecord | None, absent_at: datetime | None
) -> apply.ObservedRevision:
    return apply.ObservedRevision(
        observation=seen,
        revision=0 if record is None else record.revision,
        absent_at=absent_at if record is None else None,
        verified_before=None if record is None else record.verified_at,
    )

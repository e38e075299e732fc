"""The loop that verifies what questions wait for: the tags of writes whose event has not come.

A write that the registry refused has no event. So a question that finds its notice (``indexer.api.barrier``) has
exactly its tag verified. The registry is asked after the question, so its answer has every write that it answered
before. Where there are too many notices, the question has the names of all tags compared, or all tags.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby

import structlog

from indexer.background.loop import IterationResult
from indexer.common.errors import RegistryError
from indexer.inventory.changes import AuditSource
from indexer.inventory.observations import ManifestObservation, TagObservation, TagState
from indexer.inventory.records import TagKey, TagRecord
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import apply, import_absence, manifests, repositories, tags, write_notices
from indexer.store.apply import Stored
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool, connection, transaction
from indexer.store.write_notices import WantedNotice
from reconciler.observing.tags import (
    Answered,
    TagQuestion,
    first_unavailable,
    observe_tags,
    raise_if_down,
)
from reconciler.registry.answers import Found
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

BATCH = 512
COMPARE_SECONDS = 10.0
"""Of one repository; the question has given up before (``indexer.api.barrier``), and asks again."""
REST_SECONDS = 1.0

_AGREED = (Stored.CONFIRMED, Stored.CHANGED)
"""After these the record is as the registry has it."""


class RequestedVerifier:
    """The loop of notices that questions want verified, and of repositories whose names they want compared."""

    name = "requested"

    def __init__(self, pool: Pool, lookups: Lookups, registry: Registry, *, concurrency: int) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._limit = asyncio.Semaphore(concurrency)
        self._observer = _Observer(pool, lookups, registry, self._limit)

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
        names: dict[WantedNotice, set[TagName] | None] = {}
        current: set[TagName] = set()
        try:
            for notice in wanted:
                names[notice] = await self._tags_of(notice)
            every = {tag for of_one in names.values() if of_one is not None for tag in of_one}
            current = await self._observer.observe(repository, repository_id, every)
        finally:
            verified = [
                notice for notice, of_one in names.items() if of_one is not None and of_one <= current
            ]
            unknown = [notice for notice in wanted if notice not in verified]
            async with connection(self._pool) as held:
                await write_notices.finish_wanted(held, verified=verified, unknown=unknown)

    async def _tags_of(self, notice: WantedNotice) -> set[TagName] | None:
        """Return the tags that a write can change: its own, or those that point to its digest.

        Of a comparison: the tags that either the registry lists or the inventory has. None: nothing is known, since the
        listing is incomplete, or a manifest without a tag is not on record as the registry has it.
        """
        if notice.pushed is not None:
            return set() if await self._is_on_record(notice, notice.pushed) else None
        digest = notice.digest
        if notice.comparison:
            listed = await _list(self._registry, notice.repository)
            return None if listed is None else listed ^ await _live(self._pool, notice)
        if digest is None:
            return {TagName(notice.reference)}
        if notice.repository_id is None:
            return set()
        async with _nothing_half_applied(self._pool, notice.repository) as held:
            return set(
                await write_notices.list_pointing(held, repository_id=notice.repository_id, digest=digest)
            )

    async def _is_on_record(self, notice: WantedNotice, digest: Digest) -> bool:
        """Return whether the record of a manifest is now as the registry has it."""
        repository = notice.repository
        async with self._limit:
            try:
                answer = await self._registry.head_manifest(repository, digest)
            except RegistryError as error:
                await raise_if_down(self._registry, error)
                log.warning("manifest_undecided", repository=repository, digest=digest, reason=str(error))
                return False
        served = isinstance(answer, Found)
        if notice.repository_id is None:
            return not served
        observation = ManifestObservation(
            repository=repository,
            digest=digest,
            served=served,
            observed_at=answer.observed_at,
            as_of=answer.as_of,
            media_type=answer.media_type if isinstance(answer, Found) else "",
            size_bytes=answer.size if isinstance(answer, Found) else 0,
        )
        async with transaction(self._pool) as held:
            if not served:
                # Whether it is deleted is not decided here: one answer of 404 is not enough for that.
                ids = await repositories.lock_repositories(held, names={repository})
                key = (repository, digest)
                found = await manifests.find_repository_manifests(held, keys=[key], repository_ids=ids)
                return not (key in found and found[key].present)
            (stored,) = await apply.apply_manifest_observations(
                held, self._lookups, [observation], source=AuditSource.VERIFY, now=datetime.now(UTC)
            )
        return stored in _AGREED


class RequestedComparer:
    """The loop of repositories of which questions want every tag compared.

    It has a loop of its own, since it asks about each tag: others must not wait for that.
    """

    name = "compared"

    def __init__(self, pool: Pool, lookups: Lookups, registry: Registry, *, concurrency: int) -> None:
        self._pool = pool
        self._registry = registry
        self._observer = _Observer(pool, lookups, registry, asyncio.Semaphore(concurrency))

    async def run_once(self) -> IterationResult:
        """Compare what is wanted; raise ``RegistryUnavailable`` if the registry does not answer."""
        async with connection(self._pool) as held:
            wanted = await write_notices.list_wanted(held, limit=BATCH, all_tags=True)
        if not wanted:
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        await asyncio.gather(*map(self._compare, wanted))
        return IterationResult(items=len(wanted), rest_seconds=0)

    async def _compare(self, wanted: WantedNotice) -> None:
        is_compared = False
        try:
            async with asyncio.timeout(COMPARE_SECONDS):
                is_compared = await self._is_compared(wanted)
        except TimeoutError:
            log.warning("comparison_took_too_long", repository=wanted.repository, seconds=COMPARE_SECONDS)
        finally:
            verified, unknown = ([wanted], []) if is_compared else ([], [wanted])
            async with connection(self._pool) as held:
                await write_notices.finish_wanted(held, verified=verified, unknown=unknown)

    async def _is_compared(self, wanted: WantedNotice) -> bool:
        """Compare, and return whether the inventory has all that the registry has of tags."""
        listed = await _list(self._registry, wanted.repository)
        if listed is None:
            return False
        repository_id = wanted.repository_id
        if repository_id is None and listed:
            announced = {wanted.repository: datetime.now(UTC)}
            async with connection(self._pool) as held:
                await repositories.add_repositories(held, announced=announced)
                found = await repositories.find_ids(held, names={wanted.repository})
            repository_id = found[wanted.repository]
        every = listed | await _live(self._pool, replace(wanted, repository_id=repository_id))
        ordered = sorted(every)
        for start in range(0, len(ordered), BATCH):
            some = set(ordered[start : start + BATCH])
            if not some <= await self._observer.observe(wanted.repository, repository_id, some):
                return False
        return True


async def _list(registry: Registry, repository: RepositoryName) -> set[TagName] | None:
    """Return all names that the registry lists; None: not known.

    Raises ``RegistryUnavailable`` if it does not answer.
    """
    try:
        listing = await registry.list_tags(repository)
    except RegistryError as error:
        await raise_if_down(registry, error)
        log.warning("tags_not_listed", repository=repository, error=str(error))
        return None
    return set(listing.names) if listing.complete else None


async def _live(pool: Pool, notice: WantedNotice) -> set[TagName]:
    if notice.repository_id is None:
        return set()
    async with _nothing_half_applied(pool, notice.repository) as held:
        return await write_notices.list_live(held, repository_id=notice.repository_id)


@asynccontextmanager
async def _nothing_half_applied(pool: Pool, repository: RepositoryName) -> AsyncIterator[Connection]:
    """Read the tags of a repository while no transaction is changing them.

    A transaction that began before a notice was stored does not take back what is verified of it. So its end is waited
    for: which tags are asked about is decided on what it leaves. One that begins later finds the notice.
    """
    async with transaction(pool) as held:
        await repositories.lock_repositories(held, names={repository})
        yield held


class _Observer:
    """Observes tags, and stores what it finds; ``limit`` bounds the requests under way."""

    def __init__(self, pool: Pool, lookups: Lookups, registry: Registry, limit: asyncio.Semaphore) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._limit = limit

    async def observe(
        self, repository: RepositoryName, repository_id: int | None, wanted: set[TagName]
    ) -> set[TagName]:
        """Return those of the tags whose record is now as the registry has it.

        Raises ``RegistryUnavailable`` if the registry does not answer.
        """
        if not wanted:
            return set()
        every = sorted(wanted)
        records: Mapping[TagKey, TagRecord] = {}
        absent_at = None
        if repository_id is not None:
            async with connection(self._pool) as held:
                records = await tags.find_tags(
                    held,
                    keys=[(repository, tag) for tag in every],
                    repository_ids={repository: repository_id},
                )
                reconciled = await import_absence.find_reconciled(held, repository_ids={repository_id})
            absent_at = reconciled.get(repository_id)
        questions = [_question(tag, records.get((repository, tag))) for tag in every]
        answered = await self._ask(repository, questions)
        return await self._store(repository, repository_id, answered, records, absent_at=absent_at)

    async def _ask(self, repository: RepositoryName, questions: Sequence[TagQuestion]) -> Answered:
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
        return {seen.tag for seen, result in zip(decided, stored, strict=True) if result in _AGREED}


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

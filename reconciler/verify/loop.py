"""The loop that verifies tags: batches of due tags, looked at together, stored together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter, Histogram

from indexer.background.loop import IterationResult
from indexer.common.errors import RegistryError, RegistryUnavailable, StoreUnavailable
from indexer.inventory.apply_observation import TagObservation, TagState
from indexer.inventory.changes import AuditSource, WorkKind
from indexer.inventory.records import TagKey, TagRecord
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import apply, import_absence, tags, verification_latency, work_items
from indexer.store.apply import Stored
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection, transaction
from indexer.store.work_items import Deferred, WorkItem
from reconciler.observing.tags import Answered, TagQuestion, first_unavailable, observe_tags
from reconciler.registry.protocol import Registry
from reconciler.verify.decide import (
    UNREADABLE,
    ItemOutcome,
    Observed,
    after_failure,
    after_observation,
    has_waited,
    is_unreadable,
)

log = structlog.get_logger()

BATCH = 128
LEASE = timedelta(seconds=30)
"""A batch takes a few seconds. Where it takes longer the work is done twice, which changes nothing; where its
worker died it waits this long."""

LONGEST_REST_SECONDS = 1.0
WITNESSES = 3
"""Other tags that are asked for before one is called broken because the registry fails for it."""

OBSERVATIONS = Counter(
    "reconciler_observations_total", "Looks at due tags, by what became of them.", ["outcome"]
)
VERIFIED_SECONDS = Histogram(
    "reconciler_verified_seconds",
    "From a tag becoming due to the first look that agreed with the record.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 300),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What is due, what is on record of it, and when the repositories of what is on no record were compared in full."""

    rows: list[WorkItem]
    records: dict[TagKey, TagRecord]
    walked: dict[int, datetime]


@dataclass(slots=True)
class _Observed:
    """What looks at the tags of a batch found.

    ``unreadable``: the tags for which the registry answered 500. ``vanished``: the repositories that it does not know.
    """

    observations: dict[TagKey, TagObservation] = field(default_factory=dict)
    unreadable: set[tuple[RepositoryName, str]] = field(default_factory=set)
    vanished: set[RepositoryName] = field(default_factory=set)

    def take(self, repository: RepositoryName, answered: Answered) -> None:
        """Add what was found of one repository."""
        for undecided in answered.undecided:
            log.warning("tag_undecided", repository=repository, tag=undecided.tag, reason=undecided.reason)
            if undecided.kind == UNREADABLE:
                self.unreadable.add((repository, undecided.tag))
        for tag, observation in answered.observations.items():
            self.observations[repository, tag] = observation
        if answered.vanished:
            self.vanished.add(repository)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ItemObservation:
    """What a look at a due tag found, and what was on record before it."""

    row: WorkItem
    observation: TagObservation
    record: TagRecord | None
    absent_at: datetime | None = None

    def to_store(self) -> apply.ObservedRevision:
        """Return the look as it is to be stored over that record."""
        return apply.ObservedRevision(
            observation=self.observation,
            revision=_revision(self.record),
            absent_at=self.absent_at,
            waited=has_waited(self.row, saw=_saw(self.observation)),
            verified_before=None if self.record is None else self.record.verified_at,
        )


class Verifier:
    """Looks at what is due of kind ``verify``."""

    name = "verify"

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        registry: Registry,
        *,
        concurrency: int,
        repositories: Sequence[RepositoryName] | None = None,
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._limit = asyncio.Semaphore(concurrency)
        self._repositories = repositories

    async def run_once(self) -> IterationResult:
        """Look at one batch; raise ``RegistryUnavailable`` if the registry does not answer."""
        batch = await self._take()
        if not batch.rows:
            return IterationResult(items=0, rest_seconds=await self._until_next())
        try:
            if (await self._registry.kind()).is_cache:
                return await self._leave(batch)
            looked = await self._observe(batch)
        except RegistryError:
            await self._give_back(batch.rows)
            raise
        await self._store(batch, looked)
        return IterationResult(items=len(batch.rows), rest_seconds=0)

    async def _take(self) -> _Batch:
        async with connection(self._pool) as held:
            rows = await work_items.lease_work(
                held,
                kind=WorkKind.VERIFY,
                now=datetime.now(UTC),
                lease=LEASE,
                limit=BATCH,
                repositories=self._repositories,
            )
            records = await tags.find_tags(
                held,
                keys=[(row.repository, TagName(row.key)) for row in rows],
                repository_ids={row.repository: row.repository_id for row in rows},
            )
            unknown = {row.repository_id for row in rows if (row.repository, TagName(row.key)) not in records}
            walked = await import_absence.find_reconciled(held, repository_ids=unknown) if unknown else {}
        return _Batch(rows=rows, records=records, walked=walked)

    async def _leave(self, batch: _Batch) -> IterationResult:
        """Of a pull-through cache no tag is asked for: it would ask its upstream, and 404 where that is down."""
        async with transaction(self._pool) as held:
            await work_items.complete(held, rows=batch.rows, now=datetime.now(UTC))
        return IterationResult(items=len(batch.rows), rest_seconds=0)

    async def _until_next(self) -> float:
        async with connection(self._pool) as held:
            at = await work_items.next_due_at(held, kind=WorkKind.VERIFY)
        if at is None:
            return LONGEST_REST_SECONDS
        return min(max((at - datetime.now(UTC)).total_seconds(), 0.01), LONGEST_REST_SECONDS)

    async def _observe(self, batch: _Batch) -> _Observed:
        """Ask for the tags of each repository; raise ``RegistryUnavailable`` if the registry does not answer.

        Where something else goes wrong tag by tag, so that the one it is about holds up no other.
        """
        questions: dict[RepositoryName, list[TagQuestion]] = {}
        others_answer = any(map(is_unreadable, batch.rows)) and await self._others_answer()
        for row in batch.rows:
            record = batch.records.get((row.repository, TagName(row.key)))
            question = _question(row, record)
            if is_unreadable(row) and others_answer:
                question = replace(question, unreadable=True)
            questions.setdefault(row.repository, []).append(question)
        answers = await asyncio.gather(
            *(self._ask(repository, asked) for repository, asked in questions.items()), return_exceptions=True
        )
        looked = _Observed()
        for (repository, asked), answer in zip(questions.items(), answers, strict=True):
            if isinstance(answer, Answered):
                looked.take(repository, answer)
                continue
            _raise_if_everybodys(answer)
            for question in asked:
                try:
                    looked.take(repository, await self._ask(repository, [question]))
                except Exception as error:  # noqa: BLE001 - it is told of the tag it is about
                    _raise_if_everybodys(error)
                    _say_failed(repository, question.tag, error)
        return looked

    async def _ask(self, repository: RepositoryName, asked: Sequence[TagQuestion]) -> Answered:
        try:
            return await observe_tags(self._registry, repository, asked, limit=self._limit)
        except ExceptionGroup as failures:
            raise first_unavailable(failures) or failures from failures

    async def _others_answer(self) -> bool:
        """Tell whether the registry serves other tags, or there are none on record: else its storage may be away."""
        async with connection(self._pool) as held:
            witnesses = await tags.list_witnesses(held, chance=random.random(), limit=WITNESSES)  # noqa: S311
        for repository, tag in witnesses:
            answered = await observe_tags(
                self._registry, repository, [TagQuestion(tag=tag)], limit=self._limit
            )
            if answered.observations:
                return True
        return not witnesses

    async def _store(self, batch: _Batch, looked: _Observed) -> None:
        now = datetime.now(UTC)
        observations: list[_ItemObservation] = []
        settled: list[WorkItem] = []
        later: list[Deferred] = []
        for row in batch.rows:
            observation = looked.observations.get((row.repository, TagName(row.key)))
            record = batch.records.get((row.repository, TagName(row.key)))
            if observation is None:
                unreadable = (row.repository, row.key) in looked.unreadable
                later.append(after_failure(row, now=now, unreadable=unreadable))
            elif _is_for_reconcile(record, observation, vanished=row.repository in looked.vanished):
                settled.append(row)
            else:
                absent_at = batch.walked.get(row.repository_id) if record is None else None
                observations.append(
                    _ItemObservation(row=row, observation=observation, record=record, absent_at=absent_at)
                )
        async with transaction(self._pool) as held:
            await work_items.complete(held, rows=settled, now=now)
            await work_items.reschedule(held, deferred=later, now=now)
        await self._store_observations(observations, now=now)

    async def _store_observations(self, observations: Sequence[_ItemObservation], *, now: datetime) -> None:
        """Store looks all at once; where that fails one by one, and what fails alone is that tag's own failure."""
        if not observations:
            return
        try:
            stored = await self._store_together(observations, now=now)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whichever of them it is about, it is told of that one
            if len(observations) > 1:
                for look in observations:
                    await self._store_observations([look], now=now)
                return
            (failed,) = observations
            _say_failed(failed.row.repository, failed.observation.tag, error)
            async with transaction(self._pool) as held:
                await work_items.reschedule(held, deferred=[after_failure(failed.row, now=now)], now=now)
            return
        # Apart: two verifiers count in the same rows, and must not wait for each other's batches.
        async with connection(self._pool) as held:
            taken = [
                seconds
                for look, became in zip(observations, stored, strict=True)
                if (seconds := _since_event(look.record, look.observation, became)) is not None
            ]
            await verification_latency.count_verified(held, seconds=taken, at=now)

    async def _store_together(
        self, observations: Sequence[_ItemObservation], *, now: datetime
    ) -> list[Stored]:
        settled: list[WorkItem] = []
        later: list[Deferred] = []
        async with transaction(self._pool) as held:
            stored = await apply.apply_observations(
                held,
                self._lookups,
                [look.to_store() for look in observations],
                source=AuditSource.VERIFY,
                now=now,
            )
            for look, became in zip(observations, stored, strict=True):
                decision = after_observation(
                    look.row, Observed(stored=became, saw=_saw(look.observation)), now=now
                )
                if decision is ItemOutcome.VERIFIED:
                    settled.append(look.row)
                else:
                    later.append(decision)
            await work_items.complete(held, rows=settled, now=now)
            await work_items.reschedule(held, deferred=later, now=now)
        for look, became in zip(observations, stored, strict=True):
            _count(look.row, became, now)
        return stored

    async def _give_back(self, rows: Sequence[WorkItem]) -> None:
        """No attempt is counted against a tag because the registry was away."""
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            await work_items.reschedule(
                held,
                deferred=[Deferred.given_back(row, due_at=now) for row in rows],
                now=now,
            )


def _raise_if_everybodys(error: BaseException) -> None:
    """Raise what says nothing of the tag: the registry is away, or we are to stop."""
    if isinstance(error, RegistryUnavailable) or not isinstance(error, Exception):
        raise error


def _say_failed(repository: RepositoryName, tag: TagName, error: BaseException) -> None:
    log.warning("tag_not_verified", repository=repository, tag=tag, error=f"{type(error).__name__}: {error}")


def _question(row: WorkItem, record: TagRecord | None) -> TagQuestion:
    """The first look after news reads the manifest, since a link may dangle; the second only the link."""
    tag = TagName(row.key)
    readable = record is not None and record.read_at is not None and not record.broken
    digest = None if record is None else record.digest
    return TagQuestion(
        tag=tag,
        if_digest=digest if row.confirmations and readable else None,
        on_record=digest,
        unreadable=record is not None and record.broken,
    )


def _is_for_reconcile(record: TagRecord | None, observation: TagObservation, *, vanished: bool) -> bool:
    """A whole repository that is gone may be a registry without its storage: only the walk, with its brake, decides."""
    return vanished and observation.outcome is TagState.ABSENT and record is not None and record.live


def _since_event(record: TagRecord | None, look: TagObservation, became: Stored) -> float | None:
    """Return how long ago the event was that this look is the first to agree with; None: it is not the first."""
    if record is None or not record.live or record.last_event_at is None or record.verified_at is not None:
        return None
    if became not in (Stored.CONFIRMED, Stored.CHANGED):
        return None
    return (look.observed_at - record.last_event_at).total_seconds()


def _revision(record: TagRecord | None) -> int:
    return 0 if record is None else record.revision


def _saw(observation: TagObservation) -> str:
    return observation.digest if observation.digest is not None else observation.outcome.value


def _count(row: WorkItem, became: Stored, now: datetime) -> None:
    OBSERVATIONS.labels(became.value).inc()
    if row.confirmations == 0 and became in (Stored.CONFIRMED, Stored.CHANGED):
        VERIFIED_SECONDS.observe((now - row.since).total_seconds())

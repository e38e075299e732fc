"""The loop that verifies tags: batches of work items, observed together and stored together."""

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
from indexer.inventory.changes import AuditSource, WorkKind
from indexer.inventory.observations import TagObservation, TagState
from indexer.inventory.precedence import window_of
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
"""A batch takes a few seconds. If it takes longer, the work is done twice, which changes nothing. If its worker dies,
the work waits this long."""

LONGEST_REST_SECONDS = 1.0
WITNESSES = 3
"""Other tags that are observed before a tag is recorded as broken because the registry answers 500 for it."""

OBSERVATIONS = Counter(
    "reconciler_observations_total", "Observations by verification, by what became of them.", ["outcome"]
)
VERIFIED_SECONDS = Histogram(
    "reconciler_verified_seconds",
    "From the creation of a verify work item to the first observation that agreed with the record.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 300),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Work items and the records of their tags.

    ``reconciled``: by repository id, when it was last compared in full, for tags that are not on record.
    """

    rows: list[WorkItem]
    records: dict[TagKey, TagRecord]
    reconciled: dict[int, datetime]


@dataclass(slots=True)
class _BatchAnswers:
    """The observations of a batch.

    ``unreadable``: the tags for which the registry answered 500. ``vanished``: the repositories that it does not know.
    """

    observations: dict[TagKey, TagObservation] = field(default_factory=dict)
    unreadable: set[tuple[RepositoryName, str]] = field(default_factory=set)
    vanished: set[RepositoryName] = field(default_factory=set)

    def add(self, repository: RepositoryName, answered: Answered) -> None:
        """Add the observations of one repository."""
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
    """The observation for a work item, and the record that it was made against."""

    row: WorkItem
    observation: TagObservation
    record: TagRecord | None
    absent_at: datetime | None = None

    def to_store(self) -> apply.ObservedRevision:
        """Return the observation as it is stored over that record."""
        window = window_of(self.record, broken=self.observation.outcome is TagState.BROKEN)
        return apply.ObservedRevision(
            observation=self.observation,
            revision=_revision(self.record),
            absent_at=self.absent_at,
            waited=has_waited(self.row, state=_state(self.observation), window=window),
            verified_before=None if self.record is None else self.record.verified_at,
        )


class Verifier:
    """The loop of work items of kind ``verify``."""

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
        """Verify one batch; raise ``RegistryUnavailable`` if the registry does not answer."""
        batch = await self._take()
        if not batch.rows:
            return IterationResult(items=0, rest_seconds=await self._until_next())
        try:
            if (await self._registry.kind()).is_cache:
                return await self._drop(batch)
            answers = await self._observe(batch)
        except RegistryError:
            await self._give_back(batch.rows)
            raise
        await self._store(batch, answers)
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
            reconciled = await import_absence.find_reconciled(held, repository_ids=unknown) if unknown else {}
        return _Batch(rows=rows, records=records, reconciled=reconciled)

    async def _drop(self, batch: _Batch) -> IterationResult:
        """Complete the items unasked: a pull-through cache would ask its upstream, and answer 404 while it is down."""
        async with transaction(self._pool) as held:
            await work_items.complete(held, rows=batch.rows, now=datetime.now(UTC))
        return IterationResult(items=len(batch.rows), rest_seconds=0)

    async def _until_next(self) -> float:
        async with connection(self._pool) as held:
            at = await work_items.next_due_at(held, kind=WorkKind.VERIFY)
        if at is None:
            return LONGEST_REST_SECONDS
        return min(max((at - datetime.now(UTC)).total_seconds(), 0.01), LONGEST_REST_SECONDS)

    async def _observe(self, batch: _Batch) -> _BatchAnswers:
        """Observe the tags of each repository; raise ``RegistryUnavailable`` if the registry does not answer.

        After any other error the tags are observed one by one, so that one does not block the others.
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
        found = _BatchAnswers()
        for (repository, asked), answer in zip(questions.items(), answers, strict=True):
            if isinstance(answer, Answered):
                found.add(repository, answer)
                continue
            _raise_if_common(answer)
            for question in asked:
                try:
                    found.add(repository, await self._ask(repository, [question]))
                except Exception as error:  # noqa: BLE001 - whatever it is, it counts against this tag
                    _raise_if_common(error)
                    _log_failure(repository, question.tag, error)
        return found

    async def _ask(self, repository: RepositoryName, asked: Sequence[TagQuestion]) -> Answered:
        try:
            return await observe_tags(self._registry, repository, asked, limit=self._limit)
        except ExceptionGroup as failures:
            raise first_unavailable(failures) or failures from failures

    async def _others_answer(self) -> bool:
        """Return whether the registry serves other tags, or none are on record; else its storage may be unavailable."""
        async with connection(self._pool) as held:
            witnesses = await tags.list_readable_tags(held, chance=random.random(), limit=WITNESSES)  # noqa: S311
        for repository, tag in witnesses:
            answered = await observe_tags(
                self._registry, repository, [TagQuestion(tag=tag)], limit=self._limit
            )
            if answered.observations:
                return True
        return not witnesses

    async def _store(self, batch: _Batch, answers: _BatchAnswers) -> None:
        now = datetime.now(UTC)
        observations: list[_ItemObservation] = []
        done: list[WorkItem] = []
        later: list[Deferred] = []
        for row in batch.rows:
            observation = answers.observations.get((row.repository, TagName(row.key)))
            record = batch.records.get((row.repository, TagName(row.key)))
            if observation is None:
                unreadable = (row.repository, row.key) in answers.unreadable
                later.append(after_failure(row, now=now, unreadable=unreadable))
            elif _is_for_reconcile(record, observation, vanished=row.repository in answers.vanished):
                done.append(row)
            else:
                absent_at = batch.reconciled.get(row.repository_id) if record is None else None
                observations.append(
                    _ItemObservation(row=row, observation=observation, record=record, absent_at=absent_at)
                )
        async with transaction(self._pool) as held:
            await work_items.complete(held, rows=done, now=now)
            await work_items.reschedule(held, deferred=later, now=now)
        await self._store_observations(observations, now=now)

    async def _store_observations(self, observations: Sequence[_ItemObservation], *, now: datetime) -> None:
        """Store observations in one transaction; if that fails one by one: what fails alone counts against its tag."""
        if not observations:
            return
        try:
            stored = await self._store_together(observations, now=now)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it counts against the item that causes it
            if len(observations) > 1:
                for each in observations:
                    await self._store_observations([each], now=now)
                return
            (failed,) = observations
            _log_failure(failed.row.repository, failed.observation.tag, error)
            async with transaction(self._pool) as held:
                await work_items.reschedule(held, deferred=[after_failure(failed.row, now=now)], now=now)
            return
        # In a transaction of its own: two verifiers count in the same rows, and must not wait for each other's batches.
        async with connection(self._pool) as held:
            latencies = [
                seconds
                for each, result in zip(observations, stored, strict=True)
                if (seconds := _since_event(each.record, each.observation, result)) is not None
            ]
            await verification_latency.count_verified(held, seconds=latencies, at=now)

    async def _store_together(
        self, observations: Sequence[_ItemObservation], *, now: datetime
    ) -> list[Stored]:
        verified: list[WorkItem] = []
        later: list[Deferred] = []
        async with transaction(self._pool) as held:
            stored = await apply.apply_tag_observations(
                held,
                self._lookups,
                [each.to_store() for each in observations],
                source=AuditSource.VERIFY,
                now=now,
            )
            for each, result in zip(observations, stored, strict=True):
                decision = after_observation(
                    each.row, Observed(stored=result, state=_state(each.observation)), now=now
                )
                if decision is ItemOutcome.VERIFIED:
                    verified.append(each.row)
                else:
                    later.append(decision)
            await work_items.complete(held, rows=verified, now=now)
            await work_items.reschedule(held, deferred=later, now=now)
        for each, result in zip(observations, stored, strict=True):
            _count(each.row, result, now)
        return stored

    async def _give_back(self, rows: Sequence[WorkItem]) -> None:
        """Give the items back without counting an attempt: the registry did not answer at all."""
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            await work_items.reschedule(
                held,
                deferred=[Deferred.given_back(row, due_at=now) for row in rows],
                now=now,
            )


def _raise_if_common(error: BaseException) -> None:
    """Raise an error that is not about the tag: the registry does not answer, or we are cancelled."""
    if isinstance(error, RegistryUnavailable) or not isinstance(error, Exception):
        raise error


def _log_failure(repository: RepositoryName, tag: TagName, error: BaseException) -> None:
    log.warning("tag_not_verified", repository=repository, tag=tag, error=f"{type(error).__name__}: {error}")


def _question(row: WorkItem, record: TagRecord | None) -> TagQuestion:
    """Return how to ask: first with the manifest, since a link may dangle; the confirmation asks for the link alone."""
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
    """Return whether only a reconcile, with its brake, may decide: a vanished repository may be missing storage."""
    return vanished and observation.outcome is TagState.ABSENT and record is not None and record.live


def _since_event(record: TagRecord | None, observation: TagObservation, result: Stored) -> float | None:
    """Return the seconds from an event to the first observation that agrees with it; None: this is not the first."""
    if record is None or not record.live or record.last_event_at is None or record.verified_at is not None:
        return None
    if result not in (Stored.CONFIRMED, Stored.CHANGED):
        return None
    return (observation.observed_at - record.last_event_at).total_seconds()


def _revision(record: TagRecord | None) -> int:
    return 0 if record is None else record.revision


def _state(observation: TagObservation) -> str:
    return observation.digest if observation.digest is not None else observation.outcome.value


def _count(row: WorkItem, result: Stored, now: datetime) -> None:
    OBSERVATIONS.labels(result.value).inc()
    if row.confirmations == 0 and result in (Stored.CONFIRMED, Stored.CHANGED):
        VERIFIED_SECONDS.observe((now - row.waiting_since).total_seconds())

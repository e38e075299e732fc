"""The loop that verifies tags: batches of due tags, looked at together, stored together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter, Histogram

from indexer.errors import RegistryError
from indexer.inventory.changes import AuditSource, DueKind
from indexer.inventory.records import TagKey, TagRecord
from indexer.inventory.seen import Outcome, TagObservation
from indexer.loop import Round
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import apply, due, tags, verified
from indexer.store.apply import Stored
from indexer.store.due import Deferred, DueRow
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection, transaction
from indexer.task_group import TaskGroup
from reconciler.observe import Answered, Question, first_unavailable, observe_tags
from reconciler.registry.protocol import Registry
from reconciler.verify.decide import UNREADABLE, Look, Verdict, after_failure, after_look, is_unreadable

log = structlog.get_logger()

BATCH = 128
LEASE = timedelta(seconds=30)
"""A batch takes a few seconds. Where it takes longer the work is done twice, which changes nothing; where its
worker died it waits this long."""

LONGEST_REST_SECONDS = 1.0
WITNESSES = 3
"""Other tags that are asked for before one is called broken because the registry fails for it."""

LOOKS = Counter("reconciler_looks_total", "Looks at due tags, by what became of them.", ["outcome"])
VERIFIED_SECONDS = Histogram(
    "reconciler_verified_seconds",
    "From a tag becoming due to the first look that agreed with the record.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 300),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    rows: list[DueRow]
    records: dict[TagKey, TagRecord]


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

    async def run_once(self) -> Round:
        """Look at one batch; raise ``RegistryUnavailable`` if the registry does not answer."""
        batch = await self._take()
        if not batch.rows:
            return Round(items=0, rest_seconds=await self._until_next())
        try:
            if (await self._registry.kind()).is_cache:
                return await self._leave(batch)
            answers = await self._observe(batch)
        except RegistryError:
            await self._give_back(batch.rows)
            raise
        except ExceptionGroup as failures:
            await self._give_back(batch.rows)
            raise first_unavailable(failures) or failures from failures
        await self._store(batch, answers)
        return Round(items=len(batch.rows), rest_seconds=0)

    async def _take(self) -> _Batch:
        async with connection(self._pool) as held:
            rows = await due.take_due(
                held,
                kind=DueKind.VERIFY,
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
        return _Batch(rows=rows, records=records)

    async def _leave(self, batch: _Batch) -> Round:
        """Of a pull-through cache no tag is asked for: it would ask its upstream, and 404 where that is down."""
        async with transaction(self._pool) as held:
            await due.finish_due(held, rows=batch.rows, now=datetime.now(UTC))
        return Round(items=len(batch.rows), rest_seconds=0)

    async def _until_next(self) -> float:
        async with connection(self._pool) as held:
            at = await due.next_due(held, kind=DueKind.VERIFY)
        if at is None:
            return LONGEST_REST_SECONDS
        return min(max((at - datetime.now(UTC)).total_seconds(), 0.01), LONGEST_REST_SECONDS)

    async def _observe(self, batch: _Batch) -> dict[RepositoryName, Answered]:
        questions: dict[RepositoryName, list[Question]] = {}
        others_answer = any(map(is_unreadable, batch.rows)) and await self._others_answer()
        for row in batch.rows:
            record = batch.records.get((row.repository, TagName(row.key)))
            question = _question(row, record)
            if is_unreadable(row) and others_answer:
                question = replace(question, unreadable=True)
            questions.setdefault(row.repository, []).append(question)
        async with TaskGroup() as group:
            tasks = {
                repository: group.create_task(
                    observe_tags(self._registry, repository, asked, limit=self._limit)
                )
                for repository, asked in questions.items()
            }
        return {repository: task.result() for repository, task in tasks.items()}

    async def _others_answer(self) -> bool:
        """Tell whether the registry serves other tags, or there are none on record: else its storage may be away."""
        async with connection(self._pool) as held:
            witnesses = await tags.list_witnesses(held, chance=random.random(), limit=WITNESSES)  # noqa: S311
        for repository, tag in witnesses:
            answered = await observe_tags(self._registry, repository, [Question(tag=tag)], limit=self._limit)
            if answered.observations:
                return True
        return not witnesses

    async def _store(self, batch: _Batch, answers: dict[RepositoryName, Answered]) -> None:
        now = datetime.now(UTC)
        seen: list[tuple[DueRow, TagObservation]] = []
        settled: list[DueRow] = []
        later: list[Deferred] = []
        unreadable = {
            repository: {each.tag for each in answered.undecided if each.kind == UNREADABLE}
            for repository, answered in answers.items()
        }
        for row in batch.rows:
            answered = answers[row.repository]
            observation = answered.observations.get(TagName(row.key))
            record = batch.records.get((row.repository, TagName(row.key)))
            if observation is None:
                later.append(after_failure(row, now=now, unreadable=row.key in unreadable[row.repository]))
            elif _is_for_the_walk(record, observation, vanished=answered.vanished):
                settled.append(row)
            else:
                seen.append((row, observation))
        for answered in answers.values():
            for undecided in answered.undecided:
                log.warning("tag_undecided", tag=undecided.tag, reason=undecided.reason)
        async with transaction(self._pool) as held:
            looks = [
                apply.Look(
                    observation=observation,
                    revision=_revision(batch.records.get((observation.repository, observation.tag))),
                )
                for _, observation in seen
            ]
            stored = await apply.see_all(held, self._lookups, looks, source=AuditSource.VERIFY, now=now)
            for (row, observation), became in zip(seen, stored, strict=True):
                decision = after_look(row, Look(stored=became, saw=_saw(observation)), now=now)
                if decision is Verdict.SETTLED:
                    settled.append(row)
                else:
                    later.append(decision)
                _count(row, became, now)
            await due.finish_due(held, rows=settled, now=now)
            await due.defer_due(held, deferred=later, now=now)
        # Apart: two verifiers count in the same rows, and must not wait for each other's batches.
        async with connection(self._pool) as held:
            taken = [
                seconds
                for (row, look), became in zip(seen, stored, strict=True)
                if (seconds := _since_told(batch.records.get((row.repository, look.tag)), look, became))
                is not None
            ]
            await verified.count_verified(held, seconds=taken, at=now)

    async def _give_back(self, rows: Sequence[DueRow]) -> None:
        """No attempt is counted against a tag because the registry was away."""
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            await due.defer_due(
                held,
                deferred=[
                    Deferred(
                        row=row,
                        due_at=now,
                        attempts=row.attempts,
                        looks=row.looks,
                        agreed=row.agreed,
                        last_seen=row.last_seen,
                    )
                    for row in rows
                ],
                now=now,
            )


def _question(row: DueRow, record: TagRecord | None) -> Question:
    """The first look after news reads the manifest, since a link may dangle; the second only the link."""
    tag = TagName(row.key)
    readable = record is not None and record.read_at is not None and not record.broken
    digest = None if record is None else record.digest
    return Question(
        tag=tag,
        if_digest=digest if row.agreed and readable else None,
        on_record=digest,
        unreadable=record is not None and record.broken,
    )


def _is_for_the_walk(record: TagRecord | None, observation: TagObservation, *, vanished: bool) -> bool:
    """A whole repository that is gone may be a registry without its storage: only the walk, with its brake, decides."""
    return vanished and observation.outcome is Outcome.ABSENT and record is not None and record.live


def _since_told(record: TagRecord | None, look: TagObservation, became: Stored) -> float | None:
    """Return how long ago the event was that this look is the first to agree with; None: it is not the first."""
    if record is None or not record.live or record.told_at is None or record.verified_at is not None:
        return None
    if became not in (Stored.CONFIRMED, Stored.CHANGED):
        return None
    return (look.looked_at - record.told_at).total_seconds()


def _revision(record: TagRecord | None) -> int:
    return 0 if record is None else record.revision


def _saw(observation: TagObservation) -> str:
    return observation.digest if observation.digest is not None else observation.outcome.value


def _count(row: DueRow, became: Stored, now: datetime) -> None:
    LOOKS.labels(became.value).inc()
    if row.agreed == 0 and became in (Stored.CONFIRMED, Stored.CHANGED):
        VERIFIED_SECONDS.observe((now - row.since).total_seconds())

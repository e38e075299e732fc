"""A walk: catalog → repositories → tags, differences repaired as they are found, deletions held back to the end.

    catalog ∪ on record ──compare──▶ repaired at once: created, moved, broken, readable
                                     held back: deleted ──brake──▶ repaired, or reported only

The walk may run beside verification and ingest, and beside other walks: every look is stored only if the tag's
revision is still what it was before the look.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from indexer.errors import RegistryError
from indexer.inventory.changes import AuditAction, AuditSource, DriftCause, DriftKind, DueKind, Finding
from indexer.inventory.records import ManifestRecord
from indexer.inventory.seen import Outcome, TagObservation, see_manifest_absent
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store import apply, drift, due, manifests, repositories, tags
from indexer.store.apply import Look, Stored
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.due import DueKey
from indexer.store.lookups import Lookups
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Connection, Pool, connection, transaction
from reconciler.drift.compare import UNKNOWN, Comparer, Comparison, Part
from reconciler.drift.decide import Losses, Pulled, brake
from reconciler.observe import raise_if_down
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

STORE_CHUNK = 200
REPOSITORIES_AT_A_TIME = 8
NAMES_PAGE = 5000
MAX_REASONS = 20
TELL_EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a walk is; ``total`` grows while the catalog is still being read."""

    repositories: int
    total: int
    tags: int


@dataclass(slots=True, kw_only=True)
class Report:
    """What a walk did. ``reasons`` says why something could not be decided, the first few of each."""

    outcome: RunOutcome
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    brake: str | None = None
    held_back: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkSettings:
    """How to walk."""

    mode: RunMode
    concurrency: int
    brake_share: float
    reread_after: timedelta
    scope: Sequence[RepositoryName] | None = None
    release_brake: bool = False
    operator: Operator | None = None
    cause: str | None = None
    """Why it begins by itself; None: somebody asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTag:
    """A tag that the registry does not have: what was seen, the revision before the look, what was on record."""

    observation: TagObservation
    revision: int
    expected: Digest | None
    vanished: bool


@dataclass(slots=True)
class _HeldBack:
    """Deletions that wait for the end of the walk."""

    tags: list[HeldTag] = field(default_factory=list)
    manifests: list[tuple[ManifestRecord, bool]] = field(default_factory=list)


class Walk:
    """One walk; not to be used twice."""

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        registry: Registry,
        settings: WalkSettings,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._settings = settings
        self._on_progress = on_progress
        self._comparer = Comparer(
            pool,
            registry,
            limit=asyncio.Semaphore(settings.concurrency),
            reread_after=settings.reread_after,
        )
        self._report = Report(outcome=RunOutcome.COMPLETE)
        self._held_back = _HeldBack()
        self._run_id: int | None = None
        self._total = 0
        self._first_walk = False
        self._told_at = time.monotonic()

    async def run(self) -> Report:
        """Walk, repair and report. Raises ``RegistryError`` only if nothing at all could be compared."""
        await self._registry.ping()
        async with connection(self._pool) as held:
            self._run_id = await self._begin(held)
            async with drift.working_at(held, run_id=self._run_id):
                return await self._walk()

    async def _begin(self, held: Connection) -> int:
        await drift.close_interrupted(held, at=datetime.now(UTC))
        self._first_walk = await drift.last_complete_run(held) is None
        async with held.transaction():
            run_id = await drift.begin_run(
                held,
                mode=self._settings.mode,
                at=datetime.now(UTC),
                scope=self._settings.scope,
                cause=self._settings.cause,
            )
            scope = None if self._settings.scope is None else list(self._settings.scope)
            await self._record(held, AuditAction.OPERATOR_WALKED, run_id=run_id, scope=scope)
        return run_id

    async def _record(self, held: Connection, action: AuditAction, **detail: object) -> None:
        """Put into the audit log what an operator asked for; what a loop does by itself is not an operator's."""
        if self._settings.operator is not None:
            await record_action(
                held, action=action, operator=self._settings.operator, at=datetime.now(UTC), detail=detail
            )

    async def _walk(self) -> Report:
        try:
            await self._compare_all(await self._names())
            await self._delete()
        except RegistryError as error:
            self._report.outcome = RunOutcome.FAILED
            self._report.reasons.insert(0, str(error))
            raise
        finally:
            await self._finish()
        return self._report

    async def _names(self) -> list[RepositoryName]:
        if self._settings.scope is not None:
            return list(dict.fromkeys(self._settings.scope))
        known = await every_name(self._pool, self._registry)
        if known.incomplete is not None:
            self._undecided(known.incomplete)
        await self._add(known.names)
        return list(known.names)

    async def _add(self, names: Iterable[RepositoryName]) -> None:
        async with connection(self._pool) as held:
            await repositories.add_repositories(held, heard=dict.fromkeys(names, datetime.now(UTC)))

    async def _compare_all(self, names: Sequence[RepositoryName]) -> None:
        self._total = len(names)
        queue = iter(names)

        async def worker() -> None:
            for name in queue:
                await self._compare(name)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(REPOSITORIES_AT_A_TIME, len(names))):
                    group.create_task(worker())
        except ExceptionGroup as failures:
            raise _first_registry_error(failures) or failures from failures

    async def _compare(self, name: RepositoryName) -> None:
        try:
            await self._repair(await self._comparer.begin(name))
        except RegistryError as error:
            await raise_if_down(self._registry, error)
            self._report.counts["repositories_undecided"] += 1
            self._undecided(f"{name}: {error}")

    async def _tell_progress(self) -> None:
        """Tell the caller at once, and every few seconds whoever asks for the report of a walk under way."""
        self._on_progress(
            Progress(
                repositories=self._report.counts["repositories"],
                total=self._total,
                tags=self._report.counts["tags"],
            )
        )
        now = time.monotonic()
        if self._run_id is not None and now - self._told_at >= TELL_EVERY_SECONDS:
            self._told_at = now
            async with connection(self._pool) as held:
                await drift.progress_run(held, run_id=self._run_id, counts=self._report.counts)

    async def _repair(self, comparison: Comparison) -> None:
        name = comparison.repository
        if self._settings.scope is not None:
            if not await comparison.is_known():
                self._report.counts["repositories_undecided"] += 1
                self._undecided(f"{name}: {UNKNOWN}")
                return
            await self._add([name])
        undecided = 0
        async for part in comparison.parts():
            await self._repair_part(comparison, part)
            undecided += len(part.undecided)
        async with connection(self._pool) as held:
            await manifests.describe_repository(held, repository=name)
            if not undecided:
                await repositories.mark_walked(held, name=name, at=comparison.began)
        self._report.counts["repositories"] += 1
        await self._tell_progress()

    async def _repair_part(self, comparison: Comparison, part: Part) -> None:
        keep: list[Look] = []
        for observation, record in part.looks:
            if observation.outcome is Outcome.ABSENT and record is not None:
                self._held_back.tags.append(
                    HeldTag(
                        observation=observation,
                        revision=record.revision,
                        expected=record.digest,
                        vanished=comparison.vanished,
                    )
                )
            else:
                keep.append(
                    Look(
                        observation=observation,
                        revision=record.revision if record is not None else 0,
                        first_walk=self._first_walk and comparison.walked_at is None,
                        absent_at=comparison.walked_at,
                    )
                )
        self._held_back.manifests += [(record, comparison.vanished) for record in part.gone]
        for start in range(0, len(keep), STORE_CHUNK):
            await self._store(keep[start : start + STORE_CHUNK])
        if part.served:
            now = datetime.now(UTC)
            async with connection(self._pool) as held:
                await manifests.confirm_held(
                    held, repository=comparison.repository, digests=part.served, at=now
                )
        self._report.counts["tags"] += len(part.looks)
        self._report.counts["manifests"] += part.manifests_checked
        for item in part.undecided:
            self._report.counts["undecided"] += 1
            self._undecided(f"{comparison.repository}:{item.tag}: {item.reason}")
        await self._tell_progress()

    async def _store(self, looks: Sequence[Look]) -> None:
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            stored = await apply.see_all(
                held, self._lookups, looks, source=AuditSource.WALK, now=now, run_id=self._run_id
            )
        again = [look for look, became in zip(looks, stored, strict=True) if became in _LOOK_AGAIN]
        await self._look_again(again, now)
        for became in stored:
            self._report.counts[became.value] += 1

    async def _look_again(self, looks: Sequence[Look], now: datetime) -> None:
        """What news overtook, or an event spoke of too recently, is for verification to settle."""
        if not looks:
            return
        async with transaction(self._pool) as held:
            ids = await repositories.find_ids(held, names={look.observation.repository for look in looks})
            await due.make_due(
                held,
                keys=[
                    DueKey(
                        kind=DueKind.VERIFY,
                        repository_id=ids[look.observation.repository],
                        key=look.observation.tag,
                    )
                    for look in looks
                ],
                now=now,
                due_at=now + apply.FIRST_LOOK_DELAY,
            )

    async def _delete(self) -> None:
        if not self._held_back.tags and not self._held_back.manifests:
            return
        pulled = await self._brake()
        if pulled is not None and not self._settings.release_brake:
            self._report.outcome = RunOutcome.BRAKED
            self._report.brake = pulled.reason
            await self._report_held_back()
            return
        if pulled is not None:
            async with transaction(self._pool) as held:
                await self._record(
                    held, AuditAction.OPERATOR_BRAKE_RELEASED, run_id=self._run_id, brake=pulled.reason
                )
        looks = [Look(observation=tag.observation, revision=tag.revision) for tag in self._held_back.tags]
        for start in range(0, len(looks), STORE_CHUNK):
            await self._store(looks[start : start + STORE_CHUNK])
        for record, _ in self._held_back.manifests:
            now = datetime.now(UTC)
            async with transaction(self._pool) as held:
                await apply.apply_changes(
                    held,
                    self._lookups,
                    see_manifest_absent(record, looked_at=now, source=AuditSource.WALK),
                    repository=record.repository,
                    now=now,
                    run_id=self._run_id,
                )
            self._report.counts["changed"] += 1

    async def _brake(self) -> Pulled | None:
        async with connection(self._pool) as held:
            live = await tags.count_live(held)
            stored = await manifests.count_held(held)
        gone = [tag.vanished for tag in self._held_back.tags]
        lost = [vanished for _, vanished in self._held_back.manifests]
        of_tags = Losses(noun="tags", on_record=live, vanished=sum(gone), missing=len(gone) - sum(gone))
        of_manifests = Losses(
            noun="manifests", on_record=stored, vanished=sum(lost), missing=len(lost) - sum(lost)
        )
        share = self._settings.brake_share
        return brake(of_tags, share=share) or brake(of_manifests, share=share)

    async def _report_held_back(self) -> None:
        held = sorted(self._held_back.tags, key=lambda tag: (tag.observation.repository, tag.observation.tag))
        findings = [
            Finding(
                kind=DriftKind.TAG_EXTRA,
                cause=DriftCause.UNANNOUNCED,
                repository=tag.observation.repository,
                tag=tag.observation.tag,
                detected_at=tag.observation.looked_at,
                repaired=False,
                expected=tag.expected,
            )
            for tag in held
        ]
        self._report.held_back = findings
        self._report.counts["held_back"] = len(findings) + len(self._held_back.manifests)
        async with connection(self._pool) as database:
            ids = await repositories.find_ids(database, names={finding.repository for finding in findings})
            for start in range(0, len(findings), STORE_CHUNK):
                await drift.add_findings(
                    database,
                    findings=findings[start : start + STORE_CHUNK],
                    run_id=self._run_id,
                    repository_ids=ids,
                    note="held back by the brake",
                )

    async def _finish(self) -> None:
        report = self._report
        if report.outcome is RunOutcome.COMPLETE and (
            report.counts["undecided"] or report.counts["repositories_undecided"] or report.reasons
        ):
            report.outcome = RunOutcome.INCOMPLETE
        if self._run_id is None:
            return
        note = "; ".join(filter(None, [report.brake, *report.reasons[:MAX_REASONS]])) or None
        async with connection(self._pool) as held:
            await drift.finish_run(
                held,
                run_id=self._run_id,
                at=datetime.now(UTC),
                outcome=report.outcome,
                counts=report.counts,
                note=note,
            )
        log.info("walk_finished", outcome=report.outcome, **report.counts)

    def _undecided(self, reason: str) -> None:
        log.warning("walk_undecided", reason=reason)
        if len(self._report.reasons) < MAX_REASONS:
            self._report.reasons.append(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNames:
    """Every repository either side knows; ``incomplete`` says what the catalog is known to lack."""

    names: Sequence[RepositoryName]
    incomplete: str | None


async def every_name(pool: Pool, registry: Registry) -> KnownNames:
    """Merge the catalog with what is on record: a catalog omits repositories, on every version in some layout."""
    catalog = await registry.list_repositories()
    names = set(catalog.names)
    async with connection(pool) as held:
        after = ""
        while page := await repositories.list_names(held, after=after, limit=NAMES_PAGE):
            names.update(page)
            after = page[-1]
    incomplete = None if catalog.complete else "the catalog is incomplete: " + "; ".join(catalog.reasons)
    return KnownNames(names=sorted(names), incomplete=incomplete)


_LOOK_AGAIN = (Stored.DOUBTED, Stored.OVERTAKEN)


def _first_registry_error(group: BaseExceptionGroup[BaseException]) -> RegistryError | None:
    for error in group.exceptions:
        if isinstance(error, RegistryError):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := _first_registry_error(error)) is not None:
            return found
    return None

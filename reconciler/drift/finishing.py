"""The end of a reconcile run, after all comparisons: the brake decides, then deletions are made or reported.

Every step may be repeated, so another worker can continue where one died: a pending deletion is removed in the
transaction that makes it, and the brake's decision is stored before anything is deleted.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Final

import structlog

from indexer.inventory.changes import AuditAction, AuditSource, DriftCause, DriftKind, Finding
from indexer.inventory.observations import ManifestObservation, TagObservation, TagState
from indexer.oci.digest import parse_digest
from indexer.oci.reference import TagName
from indexer.store import apply, drift, manifests, pending_deletions, reconcile_runs, repositories, tags
from indexer.store.apply import ObservedRevision, Stored
from indexer.store.drift import RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pending_deletions import PendingDeletion
from indexer.store.pool import Pool, connection, transaction
from indexer.store.reconcile_runs import RunRecord
from reconciler.drift.decide import BrakePulled, Losses, brake
from reconciler.drift.exceptions import blocking_kinds
from reconciler.drift.operator_log import record_operator_action
from reconciler.drift.repair import OBSERVE_AGAIN, STORE_CHUNK, Repairer, resolve_again
from reconciler.drift.report import RunSettings, add_undecided, examples

log = structlog.get_logger()

HELD_BACK: Final = "held back by the brake"


class Finisher:
    """Finishes one run."""

    def __init__(
        self, pool: Pool, lookups: Lookups, settings: RunSettings, run: RunRecord, repairer: Repairer
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._settings = settings
        self._run = run
        self._repairer = repairer
        self._counts: Counter[str] = Counter()

    async def end(self) -> None:
        """Decide on the brake, delete or report, end the run."""
        async with connection(self._pool) as held:
            deletes = (await reconcile_runs.result_of(held, run_id=self._run.id)).deletes
        if deletes is None:
            pulled = await self._decide_brake()
            deletes = pulled is None or self._settings.release_brake
            async with transaction(self._pool) as held:
                reason = None if pulled is None or deletes else pulled.reason
                await pending_deletions.record_brake_decision(
                    held, run_id=self._run.id, deletes=deletes, brake=reason
                )
                if pulled is not None and deletes:
                    await record_operator_action(
                        held,
                        self._settings,
                        AuditAction.OPERATOR_BRAKE_RELEASED,
                        run_id=self._run.id,
                        brake=pulled.reason,
                    )
        if deletes:
            await self._delete_tags()
            await self._delete_manifests()
        else:
            await self._report_held_back()
        await self._close(braked=not deletes)

    async def _decide_brake(self) -> BrakePulled | None:
        async with connection(self._pool) as held:
            pending = await pending_deletions.count_pending(held, run_id=self._run.id)
            tag_count = await tags.count_live(held)
            manifest_count = await manifests.count_repository_manifests(held)
        for resource, on_record, is_manifest in (
            ("tags", tag_count, False),
            ("manifests", manifest_count, True),
        ):
            losses = Losses(
                resource=resource,
                on_record=on_record,
                vanished=pending.get((is_manifest, True), 0),
                missing=pending.get((is_manifest, False), 0),
            )
            pulled = brake(losses, share=self._settings.brake_share)
            if pulled is not None:
                return pulled
        return None

    async def _delete_tags(self) -> None:
        while chunk := await self._next(manifests_=False):
            observations = [
                ObservedRevision(observation=_absence(item), revision=item.revision) for item in chunk
            ]
            now = datetime.now(UTC)
            async with transaction(self._pool) as held:
                stored = await apply.apply_tag_observations(
                    held, self._lookups, observations, source=AuditSource.WALK, now=now, run_id=self._run.id
                )
                await pending_deletions.drop_pending(held, run_id=self._run.id, done=chunk, manifests=False)
            self._counts.update(result.value for result in stored)
            await self._repairer.observe_again(
                [
                    each.observation
                    for each, result in zip(observations, stored, strict=True)
                    if result in OBSERVE_AGAIN
                ]
            )

    async def _delete_manifests(self) -> None:
        while chunk := await self._next(manifests_=True):
            for item in chunk:
                await self._delete_manifest(item)

    async def _delete_manifest(self, item: PendingDeletion) -> None:
        now = datetime.now(UTC)
        observation = ManifestObservation(
            repository=item.repository,
            digest=parse_digest(item.key),
            served=False,
            observed_at=item.observed_at,
            as_of=item.as_of,
        )
        async with transaction(self._pool) as held:
            (stored,) = await apply.apply_manifest_observations(
                held, self._lookups, [observation], source=AuditSource.WALK, now=now, run_id=self._run.id
            )
            if stored is Stored.INCONCLUSIVE:
                await resolve_again(held, [observation], now=now)
            self._counts["changed"] += stored is Stored.CHANGED
            await pending_deletions.drop_pending(held, run_id=self._run.id, done=[item], manifests=True)

    async def _report_held_back(self) -> None:
        while chunk := await self._next(manifests_=False):
            findings = [
                Finding(
                    kind=DriftKind.TAG_EXTRA,
                    cause=DriftCause.UNANNOUNCED,
                    repository=item.repository,
                    tag=TagName(item.key),
                    detected_at=item.observed_at,
                    repaired=False,
                    expected=item.expected,
                )
                for item in chunk
            ]
            async with transaction(self._pool) as held:
                ids = await repositories.find_ids(held, names={item.repository for item in chunk})
                await drift.add_findings(
                    held, findings=findings, run_id=self._run.id, repository_ids=ids, note=HELD_BACK
                )
                await pending_deletions.drop_pending(held, run_id=self._run.id, done=chunk, manifests=False)

    async def _next(self, *, manifests_: bool) -> list[PendingDeletion]:
        async with connection(self._pool) as held:
            return await pending_deletions.list_pending(
                held, run_id=self._run.id, manifests=manifests_, limit=STORE_CHUNK
            )

    async def _close(self, *, braked: bool) -> None:
        async with transaction(self._pool) as held:
            before = await reconcile_runs.result_of(held, run_id=self._run.id)
            undecided = before.undecided
            for more in await reconcile_runs.list_undecided(held, run_id=self._run.id):
                add_undecided(undecided, more)
            counts = self._counts + await reconcile_runs.sum_counts(held, run_id=self._run.id)
            if braked:
                pending = await pending_deletions.count_pending(held, run_id=self._run.id)
                reported = await pending_deletions.list_unrepaired(held, run_id=self._run.id, limit=1)
                counts["held_back"] = sum(pending.values()) + sum(row["all_of_them"] for row in reported)
            blocking = blocking_kinds(undecided, counts, share=self._settings.brake_share)
            outcome = RunOutcome.INCOMPLETE if blocking else RunOutcome.COMPLETE
            outcome = RunOutcome.BRAKED if braked else outcome
            await reconcile_runs.end_run(
                held,
                run_id=self._run.id,
                at=datetime.now(UTC),
                outcome=outcome,
                counts=counts,
                undecided=undecided,
                note="; ".join(filter(None, [before.brake, *examples(undecided)])) or None,
            )
        log.info("reconcile_finished", run_id=self._run.id, outcome=outcome, **counts)


def _absence(item: PendingDeletion) -> TagObservation:
    return TagObservation(
        repository=item.repository,
        tag=TagName(item.key),
        outcome=TagState.ABSENT,
        observed_at=item.observed_at,
        as_of=item.as_of,
    )

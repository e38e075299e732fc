"""The job ``storage-check``: reads the registry's storage and records what cannot be pulled, and what bytes belong to.

With ``repair`` it writes spoiled links again before that. It must have found the canary for it, in this very run.

Nothing is recorded of a check that did not come to its end: the findings of the one before stay. A process that takes
the job after another was killed reads anew. What was repaired stays repaired, and is in the log once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from indexer.common.errors import StorageRefused
from indexer.inventory.changes import AuditAction
from indexer.jobs.params import StorageCheckParams
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store import storage as store
from indexer.store.collections import Reading, newest_reading
from indexer.store.pool import connection, transaction
from reconciler.acting.context import Entry, JobContext
from reconciler.acting.interruptions import JobFailed
from reconciler.storage.canary import Proof, proven
from reconciler.storage.damage import Finding
from reconciler.storage.examine import Examined, examine, examine_again
from reconciler.storage.objects import WritableStorage, open_storage
from reconciler.storage.observe import Reader
from reconciler.storage.present import finding_json, stored_finding
from reconciler.storage.recording import record_pass
from reconciler.storage.repair import Rewritten, is_rewritten, plan_rewrite
from reconciler.storage.threads import Thread, in_thread

log = structlog.get_logger()

MOST_SHOWN: Final = 200
"""So many findings are part of the job's result, damaged ones first. ``/api/v1/storage/findings`` has all."""


async def run(context: JobContext) -> Mapping[str, Any]:
    """Check the storage, and return how much is damaged, with the first findings."""
    if "recorded" in context.state:
        return _ended(context.state)
    params = StorageCheckParams.model_validate(context.job.params)
    components = context.components
    begun_at = datetime.now(UTC)
    storage = await asyncio.to_thread(open_storage, components.settings)
    proof = await proven(
        storage,
        components.registry,
        components.pool,
        unproven=params.unproven_storage,
        needs_canary=params.repair,
    )
    repairs, problem = Repairs(), None
    if params.repair:
        await repairs.go_on(context, storage)
    async with connection(components.pool) as held:
        known_wrong = [Digest(each) for each in await store.known_wrong(held)]
        before = await newest_reading(held)
    awaited = () if before is None else before.unreferenced

    def work(thread: Thread) -> Examined:
        reader = Reader(storage, going_on=thread.going_on, bytes_a_second=params.bytes_per_second)
        return examine(
            reader,
            now=begun_at,
            checking=True,
            content=params.content,
            known_wrong=known_wrong,
            awaited=awaited,
            settle=lambda: thread.wait(params.settle_seconds),
            progress=thread.progress,
        )

    found = await in_thread(work, check=context.check, report=context.progress)
    await context.check()
    if params.repair:
        try:
            await _repair(context, storage, found, repairs)
        except StorageRefused as error:
            problem = str(error)
        found = await _again(context, storage, found, repairs, begun_at)
    more = repairs.show(asked=params.repair)
    return _ended(
        await _record(context, params, proof, found, begun_at, before=before, more=more, problem=problem)
    )


def _ended(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the result of a check that was recorded, or raise where a repair could not be made."""
    result: Mapping[str, Any] = state["recorded"]
    if state["problem"] is not None:
        raise JobFailed(state["problem"], result=result)
    return result


@dataclass(slots=True)
class Repairs:
    """The links that were written again, as the result shows them, and the repositories that were changed now.

    Each is on record before it is written (``begun``), and in the log, once, after. What a killed process had begun is
    looked at first: if the link is right by now, it counts as repaired, and says that nobody saw it being written.
    """

    done: list[dict[str, Any]] = field(default_factory=list)
    repositories: set[RepositoryName] = field(default_factory=set)

    def show(self, *, asked: bool) -> dict[str, Any]:
        """Return the members of the job's result."""
        return {"repaired": len(self.done), "repairs": self.done} if asked else {}

    async def go_on(self, context: JobContext, storage: WritableStorage) -> None:
        """Bring to its end what a process that was killed had begun."""
        self.done = list(context.state.get("repairs", []))
        begun = context.state.get("begun")
        if begun is None:
            return
        shown = {name: value for name, value in begun.items() if name in ("path", "digest", "before")}
        await context.check()
        await asyncio.to_thread(storage.clear, begun["path"], begun["mark"])
        if await asyncio.to_thread(is_rewritten, storage, shown["path"], Digest(shown["digest"])):
            await self._finish(context, {**shown, "interrupted": True}, begun["repository"])

    async def make(
        self, context: JobContext, storage: WritableStorage, planned: Rewritten, repository: RepositoryName
    ) -> None:
        """Write one link again."""
        mark = secrets.token_hex(8)
        begun = {**planned.show(), "repository": repository, "mark": mark}
        await context.save({"repairs": self.done, "begun": begun})
        await context.check()
        if await asyncio.to_thread(storage.replace, planned.path, planned.digest.encode(), mark):
            await self._finish(context, planned.show(), repository)
            self.repositories.add(repository)
            log.info(
                "storage_link_rewritten", path=planned.path, digest=planned.digest, before=planned.before[:80]
            )

    async def _finish(self, context: JobContext, shown: dict[str, Any], repository: str) -> None:
        done = [*self.done, shown]
        entry = Entry(AuditAction.STORAGE_REPAIRED, {**shown, "repository": repository})
        await context.save({"repairs": done}, entry=entry)
        self.done = done


async def _repair(context: JobContext, storage: WritableStorage, found: Examined, repairs: Repairs) -> None:
    """Write links again, one by one. Whether this job may still act is asked each time."""
    for finding in found.findings:
        if finding.rewrite is None or finding.repository is None:
            continue
        await context.check()
        planned = await asyncio.to_thread(plan_rewrite, storage, finding)
        if planned is not None:
            await repairs.make(context, storage, planned, finding.repository)


async def _again(
    context: JobContext, storage: WritableStorage, found: Examined, repairs: Repairs, now: datetime
) -> Examined:
    """Return what is still wrong: the repositories in which something was written are read again."""
    if not repairs.repositories:
        return found

    def work(thread: Thread) -> list[Finding]:
        reader = Reader(storage, going_on=thread.going_on)
        reader.list_blobs()
        findings = [
            each for name in sorted(repairs.repositories) for each in examine_again(reader, name, now=now)
        ]
        before = {each.key for each in found.findings}
        return [each for each in findings if each.key in before]

    left = await in_thread(work, check=context.check, report=context.progress)
    others = [each for each in found.findings if each.repository not in repairs.repositories]
    return replace(found, findings=[*others, *left])


async def _record(
    context: JobContext,
    params: StorageCheckParams,
    proof: Proof,
    found: Examined,
    begun_at: datetime,
    *,
    before: Reading | None,
    more: Mapping[str, Any],
    problem: str | None,
) -> Mapping[str, Any]:
    """Record what was found, with the job's result: a process that takes the job later has only to end it."""
    now = datetime.now(UTC)
    findings = in_order(found.findings)
    damaged = len(found.damaged)
    check = store.StoredCheck(
        checked_at=now,
        begun_at=begun_at,
        job_id=context.job.id,
        content=params.content,
        proven_by=proof.by.value,
        proof=proof.text,
        repositories=len(found.repositories),
        blobs=found.totals.stored_blobs,
        compared=found.compared,
        damaged=damaged,
        harmless=len(findings) - damaged,
    )
    async with transaction(context.components.pool) as held:
        new = await store.record_check(
            held, check=check, findings=[stored_finding(each) for each in findings]
        )
        collection = await record_pass(
            held, found, is_proven=proof.is_proven, before=before, begun_at=begun_at, ended_at=now
        )
        result = {
            "proof": proof.show(),
            "collection": None if collection is None else collection.show(),
            "content": params.content,
            "repositories": check.repositories,
            "blobs": check.blobs,
            "compared": check.compared,
            "damaged": damaged,
            "new": new,
            "harmless": check.harmless,
            "findings": [finding_json(each) for each in findings[:MOST_SHOWN]],
            "left_out": max(len(findings) - MOST_SHOWN, 0),
            **more,
        }
        await context.save_in(held, {"recorded": result, "problem": problem})
    return context.state


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings as they are shown: damaged ones first, then by repository and path."""
    return sorted(findings, key=lambda each: (each.severity, each.repository or "", each.path, each.code))

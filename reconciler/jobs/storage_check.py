"""The job ``storage-check``: reads the registry's storage and records what cannot be pulled, and what bytes belong to.

With ``repair`` it writes spoiled links again before that. It must have found the canary for it, in this very run.

Nothing is recorded of a check that did not come to its end: the findings of the one before stay. A process that takes
the job after another was killed begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from indexer.common.errors import StorageRefused
from indexer.jobs.params import StorageCheckParams
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store import storage as store
from indexer.store.pool import connection, transaction
from reconciler.acting.context import JobContext
from reconciler.acting.interruptions import JobFailed
from reconciler.storage.canary import Proof, proven
from reconciler.storage.damage import Finding
from reconciler.storage.examine import Examined, examine, examine_again
from reconciler.storage.objects import WritableStorage, open_storage
from reconciler.storage.observe import Reader
from reconciler.storage.present import finding_json, sample_of, shares_of, stored_finding
from reconciler.storage.repair import plan_rewrite
from reconciler.storage.threads import Thread, in_thread

log = structlog.get_logger()

MOST_SHOWN: Final = 200
"""So many findings are part of the job's result, damaged ones first. ``/api/v1/storage/findings`` has all."""


async def run(context: JobContext) -> Mapping[str, Any]:
    """Check the storage, and return how much is damaged, with the first findings."""
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
    async with connection(components.pool) as held:
        known_wrong = [Digest(each) for each in await store.known_wrong(held)]

    def work(thread: Thread) -> Examined:
        reader = Reader(storage, going_on=thread.going_on, bytes_a_second=params.bytes_per_second)
        return examine(
            reader,
            now=begun_at,
            checking=True,
            content=params.content,
            known_wrong=known_wrong,
            settle=lambda: thread.wait(params.settle_seconds),
            progress=thread.progress,
        )

    found = await in_thread(work, check=context.check, report=context.progress)
    await context.check()
    repairs, problem = Repairs(done=list(context.state.get("repairs", []))), None
    if params.repair:
        try:
            await _repair(context, storage, found, repairs)
        except StorageRefused as error:
            problem = str(error)
        found = await _again(context, storage, found, repairs, begun_at)
    result = {**await _record(context, params, proof, found, begun_at), **repairs.show(asked=params.repair)}
    if problem is not None:
        raise JobFailed(problem, result=result)
    return result


@dataclass(slots=True)
class Repairs:
    """The links that were written again, as the result shows them, and the repositories that were changed now."""

    done: list[dict[str, Any]] = field(default_factory=list)
    repositories: set[RepositoryName] = field(default_factory=set)

    def show(self, *, asked: bool) -> dict[str, Any]:
        """Return the members of the job's result."""
        return {"repaired": len(self.done), "repairs": self.done} if asked else {}


async def _repair(context: JobContext, storage: WritableStorage, found: Examined, repairs: Repairs) -> None:
    """Write links again, one by one: each is on record before. Whether this job may still act is asked each time."""
    for finding in found.findings:
        if finding.rewrite is None or finding.repository is None:
            continue
        await context.check()
        planned = await asyncio.to_thread(plan_rewrite, storage, finding)
        if planned is None:
            continue
        await context.save({"repairs": [*repairs.done, planned.show()]})
        await context.check()
        if await asyncio.to_thread(storage.replace, planned.path, planned.digest.encode()):
            repairs.done.append(planned.show())
            repairs.repositories.add(finding.repository)
            log.info(
                "storage_link_rewritten", path=planned.path, digest=planned.digest, before=planned.before[:80]
            )


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
    context: JobContext, params: StorageCheckParams, proof: Proof, found: Examined, begun_at: datetime
) -> Mapping[str, Any]:
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
        await store.record_bytes(
            held,
            sample=sample_of(found, taken_at=now),
            repositories=shares_of(found.repositories),
            prefixes=shares_of(found.prefixes),
        )
    return {
        "proof": proof.show(),
        "content": params.content,
        "repositories": check.repositories,
        "blobs": check.blobs,
        "compared": check.compared,
        "damaged": damaged,
        "new": new,
        "harmless": check.harmless,
        "findings": [finding_json(each) for each in findings[:MOST_SHOWN]],
        "left_out": max(len(findings) - MOST_SHOWN, 0),
    }


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings as they are shown: damaged ones first, then by repository and path."""
    return sorted(findings, key=lambda each: (each.severity, each.repository or "", each.path, each.code))

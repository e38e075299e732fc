"""The job ``cleanup``: deletes the tags and manifests that policies planned, and that are due. Tags come first.

Nothing is decided here. What may be done is asked anew before each batch: the plan must still be allowed, in its
window, under the bytes in force, not beyond its brake. Each tag is checked against the record first, and against
the registry right before its request. A tag that is not what the plan says is skipped; the next plan decides
on it anew. So is a manifest that anything needs by now (``unlink``). In the end copies go that are kept no longer.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from indexer.common.errors import RegistryDenied, RegistryError, RegistryMisbehaved
from indexer.inventory.own_actions import ActionKind
from indexer.jobs.params import CleanupParams
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.policies.rules import Policy
from indexer.store import cleanup_plans, policies_in_force, unlinking
from indexer.store import tag_actions as store
from indexer.store.cleanup_plans import Due
from indexer.store.pool import Connection, connection, transaction
from reconciler.acting.context import JobContext
from reconciler.acting.interruptions import JobFailed
from reconciler.cleanup.act import BATCH, Actor, Deleting, Wanted, Why
from reconciler.cleanup.observe import NotAllowed, find_way
from reconciler.cleanup.settle import Settler
from reconciler.cleanup.trash import delete_expired
from reconciler.cleanup.unlink import (
    WAITING,
    Unlinker,
    Unlinking,
    Unwanted,
    children_in,
    first_generation,
    keeping,
)
from reconciler.jobs.delete import SETTLE_SECONDS, UNIT

AT_ONCE: Final = 1000
"""What is due is read so many at a time; those of one repository and policy are deleted together."""
NEAR_MISSES: Final = frozenset({"pushed_again", "put_back", "skipped.changed", "skipped.used"})
"""Somebody pushed it, or used it, while it was to go."""
DONE: Final = frozenset({"deleted", "unlinked", "uncertain", "confirmed", "skipped.absent", "absent"})


class _Counts(dict[str, int]):
    def add(self, word: str, number: int = 1) -> None:
        self[word] = self.get(word, 0) + number


async def run(context: JobContext) -> Mapping[str, Any]:
    """Do what is due; return how many tags and manifests came to what.

    Raise ``JobFailed`` with the same after too many errors.
    """
    params = CleanupParams.model_validate(context.job.params)
    counts = _Counts()
    tried: set[int] = set()
    errors = 0
    while True:
        await context.check()
        due = await _next_batch(context, params, tried)
        if not due:
            break
        tried |= {each.id for each in due}
        policy = await _policy_of(context, due[0].policy)
        if policy is None:
            continue
        try:
            if due[0].tag is None:
                await _unlink(context, policy, due, counts)
            else:
                await _delete(context, policy, due, counts)
        except NotAllowed as error:
            raise JobFailed(str(error), result=dict(counts)) from None
        except RegistryError as error:
            errors += 1
            counts.add("errors")
            if errors >= policy.run.errors:
                raise JobFailed(
                    f"stopped after {errors} errors of the registry, the last: {error}", result=dict(counts)
                ) from None
        done = sum(counts.values())
        await context.progress(done, None, UNIT)
    registry = context.components.registry
    try:
        expired = await delete_expired(
            context.components.pool, registry, check=context.check, repositories=params.repositories
        )
    except (RegistryDenied, RegistryMisbehaved) as error:
        raise JobFailed(f"copies in the trash are left: {error}", result=dict(counts)) from None
    if expired:
        counts.add("copies_deleted", expired)
    return dict(counts)


async def _next_batch(context: JobContext, params: CleanupParams, tried: set[int]) -> list[Due]:
    """Return what is due of one repository and policy and was not tried yet: some tags, or all its manifests."""
    async with connection(context.components.pool) as held:
        now = datetime.now(UTC)
        due = await cleanup_plans.due_verdicts(
            held,
            now=now,
            limit=AT_ONCE,
            without=tried,
            repositories=params.repositories,
            policies=params.policies,
        )
        if due and due[0].tag is None:  # of a family all must be known at once
            due = await cleanup_plans.due_verdicts(
                held,
                now=now,
                without=tried,
                repositories=[due[0].repository],
                policies=[due[0].policy],
            )
    alike = [
        each
        for each in due
        if (each.repository, each.policy, each.tag is None)
        == (due[0].repository, due[0].policy, due[0].tag is None)
    ]
    return alike if alike and alike[0].tag is None else alike[:BATCH]


async def _policy_of(context: JobContext, name: str) -> Policy | None:
    async with connection(context.components.pool) as held:
        file = await policies_in_force.in_force(held)
    if file is None:
        return None
    return next((policy for policy in file.policies().cleanup if policy.id == name), None)


async def _delete(context: JobContext, policy: Policy, due: Sequence[Due], counts: _Counts) -> None:
    pool = context.components.pool
    registry = context.components.registry.paced(policy.run.rate)
    repository = due[0].repository
    settler = Settler(pool, context.components.registry, check=context.check)
    if not await settler.finish_dummies(repository):
        counts.add("under_way", len(due))
        return
    begun = await _begun_before(context, repository)
    left = [each for each in due if (each.tag, each.digest) in begun]
    result = Deleting(begun=[begun[each.tag, each.digest] for each in left])
    wanted = [each for each in due if each not in left and await _still_due(context, policy, each, counts)]
    why = Why(source="policy", actor=policy.id, job=context.job.id, kept_for=policy.undo.manifests)
    tags = [Wanted(tag=TagName(each.tag or ""), digest=each.digest, reason=each.text) for each in wanted]
    try:
        if tags:
            way = await find_way(registry, repository)
            await Actor(pool, registry, check=context.check).delete_tags(
                repository, tags, why, way=way, result=result
            )
    finally:
        await settler.until_settled(result.begun, seconds=SETTLE_SECONDS)
        await _record(context, [*left, *wanted], result, counts)


async def _unlink(context: JobContext, policy: Policy, due: Sequence[Due], counts: _Counts) -> None:
    """Delete manifests, a generation at a time: indexes, then what is attached to them, then children."""
    pool = context.components.pool
    registry = context.components.registry.paced(policy.run.rate)
    repository = due[0].repository
    settler = Settler(pool, context.components.registry, check=context.check)
    if not await settler.finish_dummies(repository):
        counts.add("under_way", len(due))
        return
    before = await _begun_before(context, repository)
    begun = {each.digest: before[None, each.digest] for each in due if (None, each.digest) in before}
    if begun:
        await _settled(context, settler, due, Unlinking(begun=begun), counts)
    left = {
        each.digest: each
        for each in due
        if each.digest not in begun and await _still_due(context, policy, each, counts)
    }
    if not left:
        return
    await find_way(registry, repository)
    actor = Actor(pool, registry, check=context.check)

    async def is_due(held: Connection, digest: Digest) -> bool:
        one = left.get(digest)
        return one is not None and bool(
            await cleanup_plans.due_verdicts(
                held, now=datetime.now(UTC), only=[one.id], repositories=[repository], policies=[policy.id]
            )
        )

    unlinker = Unlinker(pool, registry, actor, repository=repository, is_due=is_due, trash=policy.undo.trash)
    why = Why(source="policy", actor=policy.id, job=context.job.id, kept_for=policy.undo.manifests)
    waits = False
    children: set[Digest] = set()
    begun_with: set[Digest] = set()
    while left:
        async with connection(pool) as held:
            needed = await unlinking.needs(held, repository=repository, digests=left)
            since = {each.plan_id: await _evaluated_at(held, each) for each in left.values()}
        children |= children_in(needed)
        free = first_generation(left, needed)
        # A family that was begun is finished first: an evaluation in between would keep what is left of it.
        now = sorted(free, key=lambda each: (each not in begun_with, each in children))[:BATCH]
        begun_with |= set(left).difference(free)
        result = Unlinking()
        if not now:
            code = "hold.needed" if waits else "skipped.needed"
            for digest in left:
                text = keeping([each for each in needed if each.digest == digest], frozenset(left))
                result.skipped[digest] = (code, text or "it is needed")
        wanted = [
            Unwanted(
                digest=digest,
                since=since[left[digest].plan_id],
                grace=policy.grace.pushed,
                reason=left[digest].text,
            )
            for digest in now
        ]
        try:
            await unlinker.unlink(wanted, why, together=frozenset(left), result=result)
        finally:
            await _settled(context, settler, list(left.values()), result, counts)
        waits = waits or any(code in WAITING for code, _ in result.skipped.values())
        for digest in now or list(left):
            del left[digest]
        await context.progress(sum(counts.values()), None, UNIT)


async def _evaluated_at(held: Connection, due: Due) -> datetime:
    plan = await cleanup_plans.find_plan(held, plan_id=due.plan_id)
    return due.first_at if plan is None else plan.confirmed_at


async def _settled(
    context: JobContext, settler: Settler, due: Sequence[Due], result: Unlinking, counts: _Counts
) -> None:
    """Wait until it is certain what became of what was begun, and record it."""
    await settler.until_settled(list(result.begun.values()), seconds=SETTLE_SECONDS)
    async with connection(context.components.pool) as held:
        actions = {
            each.digest: each for each in await store.find_actions(held, ids=list(result.begun.values()))
        }
    for each in due:
        if each.digest in result.skipped:
            code, text = result.skipped[each.digest]
        elif each.digest in actions:
            action = actions[each.digest]
            code, text = action.outcome or "uncertain", action.note or "it is not certain yet"
        else:
            continue  # it was not begun: it stays due
        await _note_outcome(context, each, code, text, counts)


async def _note_outcome(context: JobContext, due: Due, code: str, text: str, counts: _Counts) -> None:
    counts.add(code)
    now = datetime.now(UTC)
    async with transaction(context.components.pool) as held:
        if code in DONE:
            await cleanup_plans.mark_done(held, planned_id=due.id, at=now)
        elif code not in WAITING:
            await cleanup_plans.mark_skipped(
                held, planned_id=due.id, at=now, because=text, near_miss=code in NEAR_MISSES
            )


async def _begun_before(
    context: JobContext, repository: RepositoryName
) -> dict[tuple[str | None, str], uuid.UUID]:
    """Return the deletions that a process began for this job and was killed before it recorded what came of them."""
    async with connection(context.components.pool) as held:
        actions = await store.of_job(held, job=context.job.id)
    return {
        (each.tag or None, each.digest): each.id
        for each in actions
        if each.repository == repository
        and each.kind in {ActionKind.DELETE, ActionKind.UNLINK}
        and each.looked_at is not None
    }


async def _still_due(context: JobContext, policy: Policy, due: Due, counts: _Counts) -> bool:
    """Tell whether our record still agrees with what was planned; if not, it is skipped, and that is recorded."""
    async with transaction(context.components.pool) as held:
        plan = await cleanup_plans.find_plan(held, plan_id=due.plan_id)
        since = due.first_at if plan is None else plan.confirmed_at
        because = await cleanup_plans.changed_since(held, due=due, since=since, grace=policy.grace.pushed)
        if because is None:
            return True
        await cleanup_plans.mark_skipped(
            held, planned_id=due.id, at=datetime.now(UTC), because=because, near_miss=True
        )
    counts.add("skipped")
    return False


async def _record(context: JobContext, wanted: Sequence[Due], result: Deleting, counts: _Counts) -> None:
    """Record what came of each planned tag."""
    skipped = {each.tag: each for each in result.skipped}
    async with connection(context.components.pool) as held:
        actions = {each.tag: each for each in await store.find_actions(held, ids=result.begun)}
    for due in wanted:
        tag = TagName(due.tag or "")
        if tag in skipped:
            code, text = skipped[tag].code, skipped[tag].text
        elif tag in actions:
            action = actions[tag]
            code = action.outcome or "uncertain"
            text = action.note or "it is not certain yet"
        else:
            continue  # it was not begun: it stays due
        await _note_outcome(context, due, code, text, counts)

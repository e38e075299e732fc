"""The job ``restore``: puts deleted tags and manifests back with all they need, or says why that cannot be."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from indexer.inventory.own_actions import ActionKind, TagAction
from indexer.inventory.tag_protection import judge_push
from indexer.jobs.params import RestoreParams, split_manifest, split_tag
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import tag_actions as store
from indexer.store.pool import connection
from reconciler.acting.context import JobContext
from reconciler.cleanup import observe, unlink
from reconciler.cleanup.act import Actor, SkipError
from reconciler.cleanup.settle import Settler
from reconciler.jobs.delete import SETTLE_SECONDS, UNIT, TagResult, concluded, patterns_of, why_of


async def run(context: JobContext) -> Mapping[str, Any]:
    """Restore the tags; raise ``JobFailed`` with the same result where one of them is not back."""
    params = RestoreParams.model_validate(context.job.params)
    results: list[TagResult] = []
    for text in params.tags:
        repository, tag = split_tag(text)
        outcome, note = await _restore(context, params, repository, tag)
        results.append(TagResult(repository=repository, tag=tag, outcome=outcome, text=note))
        await context.progress(len(results), len(params.tags) + len(params.manifests), UNIT)
    for text in params.manifests:
        repository, digest = split_manifest(text)
        outcome, note = await _restore_manifest(context, params, repository, digest)
        results.append(TagResult(repository=repository, digest=digest, outcome=outcome, text=note))
        await context.progress(len(results), len(params.tags) + len(params.manifests), UNIT)
    return concluded(results, word="restored")


async def _restore(
    context: JobContext, params: RestoreParams, repository: RepositoryName, tag: TagName
) -> tuple[str, str]:
    """Return what came of one tag, in a word and a sentence."""
    registry, pool = context.components.registry, context.components.pool
    settler = Settler(pool, registry, check=context.check)
    begun = await _begun(context, repository, tag)
    if begun is None:
        async with connection(pool) as held:
            if params.deletion is not None:
                found = await store.find_actions(held, ids=[params.deletion])
                deletion = next(
                    (each for each in found if (each.repository, each.tag) == (repository, tag)), None
                )
            else:
                deletion = await store.newest_deletion(held, repository=repository, tag=tag)
            if deletion is None or deletion.kind is not ActionKind.DELETE:
                return "restore.unknown", "it is not in the trash: see /api/v1/trash"
            kept = await store.kept_of(held, number=deletion.id)
        exists = (await observe.look_at(registry, repository, tag)).digest is not None
        denial = judge_push(patterns_of(context.job, repository), tag, exists=exists)
        if denial is not None:
            return "denied", denial.text
        actor = Actor(pool, registry, check=context.check)
        try:
            number = await actor.restore(deletion, why_of(context.job), force=params.force, kept=kept)
        except SkipError as skip:
            return skip.code, str(skip)
        except observe.Unreadable as error:
            return "restore.gone", str(error)
        if number is None:
            # It points there already, or something else is under way: what is there now decides.
            there = (await observe.look_at(registry, repository, tag)).digest == deletion.digest
            return (
                ("restored", "the tag points there already")
                if there
                else ("under_way", "the tag was changed meanwhile: try again")
            )
        async with connection(pool) as held:
            begun = (await store.find_actions(held, ids=[number]))[0]
    return await _settled(context, settler, begun.id)


async def _restore_manifest(
    context: JobContext, params: RestoreParams, repository: RepositoryName, digest: Digest
) -> tuple[str, str]:
    """Return what came of one manifest, in a word and a sentence."""
    registry, pool = context.components.registry, context.components.pool
    settler = Settler(pool, registry, check=context.check)
    begun = await _begun(context, repository, TagName(""), digest)
    if begun is not None:
        return await _settled(context, settler, begun.id)
    async with connection(pool) as held:
        if params.deletion is not None:
            found = await store.find_actions(held, ids=[params.deletion])
            deletion = next(
                (each for each in found if (each.repository, each.digest) == (repository, digest)), None
            )
        else:
            deletion = await store.newest_unlinking(held, repository=repository, digest=digest)
        if deletion is None or deletion.kind is not ActionKind.UNLINK:
            return "restore.unknown", "it is not in the trash: see /api/v1/trash?manifests=true"
        kept = await store.kept_of(held, number=deletion.id)
    # No tag comes back with it, so no pattern is about it; but one that cannot be read may be about anything.
    if patterns_of(context.job, repository).unreadable:
        return "denied", "a tag protection rule of the token that asked cannot be read"
    actor = Actor(pool, registry, check=context.check)
    try:
        number = await unlink.restore(pool, actor, deletion, why_of(context.job), kept=kept)
    except (SkipError, observe.Unreadable) as error:
        return getattr(error, "code", "restore.gone"), str(error)
    there = ("restored", "the repository has it already")
    return there if number is None else await _settled(context, settler, number)


async def _settled(context: JobContext, settler: Settler, number: uuid.UUID) -> tuple[str, str]:
    """Return what an action came to, once that is certain."""
    await settler.until_settled([number], seconds=SETTLE_SECONDS)
    async with connection(context.components.pool) as held:
        action = (await store.find_actions(held, ids=[number]))[0]
    note = action.note or "it is not certain yet that no push was lost; `reconciler run` follows it"
    return action.outcome or "uncertain", note


async def _begun(
    context: JobContext, repository: RepositoryName, tag: TagName, digest: Digest | None = None
) -> TagAction | None:
    """Return what a process before this one has sent already for this job."""
    async with connection(context.components.pool) as held:
        actions = await store.of_job(held, job=context.job.id)
    return next(
        (
            each
            for each in actions
            if (each.repository, each.tag) == (repository, tag)
            and digest in (None, each.digest)
            and each.kind is ActionKind.RESTORE
            and each.looked_at is not None
            and each.outcome != "not_done"
        ),
        None,
    )

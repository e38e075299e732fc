"""The job ``delete``: deletes tags one by one, and waits until it is certain that no push was lost.

Every tag is on record before its first request, so a process that takes the job after another was killed begins none
of them again: it first finishes what was begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from indexer.inventory.own_actions import ActionKind, TagAction
from indexer.inventory.tag_protection import TagPatterns, judge_deletion, read_patterns
from indexer.jobs.job import Job
from indexer.jobs.params import DeleteParams, split_tag
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import holds
from indexer.store import tag_actions as store
from indexer.store.instants import NEVER
from indexer.store.pool import connection
from reconciler.acting.context import JobContext
from reconciler.acting.interruptions import JobFailed
from reconciler.cleanup.act import BATCH, Actor, Deleting, Skipped, Wanted, Why
from reconciler.cleanup.observe import NotAllowed, find_way
from reconciler.cleanup.settle import Settler

UNIT: Final = "tags"
SETTLE_SECONDS: Final = 90.0
"""Longer than it takes until it is known that something stays uncertain; ``reconciler run`` follows it further."""

NOTHING_TO_DO: Final = frozenset({"skipped.absent", "confirmed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TagResult:
    """What came of one tag, or manifest (no tag): ``outcome`` is stable, ``text`` is a sentence."""

    repository: RepositoryName
    outcome: str
    text: str
    tag: TagName | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """REPOSITORY:TAG, or REPOSITORY@DIGEST of a manifest."""
        return f"{self.repository}@{self.digest}" if self.tag is None else f"{self.repository}:{self.tag}"

    def show(self) -> dict[str, Any]:
        """Return it as a job's result shows it."""
        return {
            "repository": self.repository,
            "tag": self.tag,
            **({} if self.digest is None else {"digest": self.digest}),
            "outcome": self.outcome,
            "text": self.text,
        }


async def run(context: JobContext) -> Mapping[str, Any]:
    """Delete the tags; raise ``JobFailed`` with the same result where one of them was not deleted."""
    params = DeleteParams.model_validate(context.job.params)
    wanted: dict[RepositoryName, list[TagName]] = {}
    for text in params.tags:
        repository, tag = split_tag(text)
        wanted.setdefault(repository, []).append(tag)
    results: list[TagResult] = []
    for repository, tags in wanted.items():
        results += await _delete_in(context, repository, tags, params.digest)
        await context.progress(len(results), len(params.tags), UNIT)
    return concluded(results, word="deleted")


def concluded(results: Sequence[TagResult], *, word: str) -> Mapping[str, Any]:
    """Return a job's result; raise ``JobFailed`` with it where something was not done, or is not certain."""
    counts: dict[str, int] = {}
    for each in results:
        counts[each.outcome] = counts.get(each.outcome, 0) + 1
    shown = {**counts, "tags": [each.show() for each in results]}
    wrong = [each for each in results if each.outcome not in {word, *NOTHING_TO_DO}]
    if wrong:
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise JobFailed(f"{first.name} {first.outcome}: {first.text}{more}", result=shown)
    return shown


async def _delete_in(
    context: JobContext, repository: RepositoryName, tags: Sequence[TagName], digest: Digest | None
) -> list[TagResult]:
    registry, pool = context.components.registry, context.components.pool
    settler = Settler(pool, registry, check=context.check)
    async with connection(pool) as held:
        before = [
            each for each in await store.of_job(held, job=context.job.id) if each.repository == repository
        ]
    begun = {each.tag for each in before if each.kind is ActionKind.DELETE and each.looked_at is not None}
    left = [tag for tag in tags if tag not in begun]
    if not await settler.finish_dummies(repository):
        raise JobFailed(
            f"an earlier deletion in {repository} could not be finished yet: a tag may still point to a dummy manifest"
        )
    deleting = Deleting()
    allowed = await _without_denied(context, repository, left, deleting)
    if allowed:
        try:
            way = await find_way(registry, repository)
        except NotAllowed as error:
            raise JobFailed(str(error)) from None
        actor = Actor(pool, registry, check=context.check)
        why = why_of(context.job)
        for start in range(0, len(allowed), BATCH):
            batch = [Wanted(tag=tag, digest=digest) for tag in allowed[start : start + BATCH]]
            await actor.delete_tags(repository, batch, why, way=way, result=deleting)
    async with connection(pool) as held:
        ids = [
            each.id for each in await store.of_job(held, job=context.job.id) if each.repository == repository
        ]
    await settler.until_settled(ids, seconds=SETTLE_SECONDS)
    async with connection(pool) as held:
        done = await store.of_job(held, job=context.job.id)
    return [
        *(skipped_result(repository, each) for each in deleting.skipped),
        *_of_actions(repository, done, skipped={each.tag for each in deleting.skipped}),
    ]


def why_of(job: Job) -> Why:
    """Return who wants what a job does."""
    return Why(
        source="policy" if job.by_policy else "operator", actor=job.asked_by, reason=job.reason, job=job.id
    )


def patterns_of(job: Job, repository: RepositoryName) -> TagPatterns:
    """Return the patterns of the token that asked, for one repository."""
    return read_patterns(job.bounds.get(repository))


def skipped_result(repository: RepositoryName, skipped: Skipped) -> TagResult:
    """Return what a tag came to for which nothing was sent."""
    return TagResult(repository=repository, tag=skipped.tag, outcome=skipped.code, text=skipped.text)


async def _without_denied(
    context: JobContext, repository: RepositoryName, tags: Sequence[TagName], deleting: Deleting
) -> list[TagName]:
    """Return the tags that the asking token may delete and nobody put on hold."""
    patterns = patterns_of(context.job, repository)
    allowed = []
    async with connection(context.components.pool) as held:
        for tag in tags:
            denial = judge_deletion(patterns, [tag])
            if denial is not None:
                deleting.skipped.append(Skipped(tag=tag, code="denied", text=denial.text))
                continue
            recorded = (await store.find_recorded(held, repository=repository, tags=[tag])).get(tag)
            digest = None if recorded is None else recorded.digest
            if await holds.holds_any(held, repository=repository, tag=tag, digest=digest, since=NEVER):
                text = "it is on hold: see `reconciler holds list`"
                deleting.skipped.append(Skipped(tag=tag, code="hold", text=text))
                continue
            allowed.append(tag)
    return allowed


def _of_actions(
    repository: RepositoryName, actions: Iterable[TagAction], *, skipped: set[TagName]
) -> list[TagResult]:
    newest: dict[TagName, TagAction] = {}
    for action in actions:
        if action.repository == repository and action.kind is ActionKind.DELETE and action.tag not in skipped:
            other = newest.get(action.tag)
            if other is None or action.asked_at > other.asked_at:
                newest[action.tag] = action
    return [
        TagResult(
            repository=repository,
            tag=tag,
            outcome=action.outcome or "uncertain",
            text=action.note
            or "it is not certain yet that no push was lost; `reconciler run` follows it, see `reconciler status`",
        )
        for tag, action in sorted(newest.items())
    ]

"""The verdict of one policy on every tag and manifest of the repositories it owns. A pure function: :func:`evaluate`.

The rules, in the order they apply, for each repository:

1. Carriers (``families``) are set aside: no rule of tags is about them.
2. Every other tag is asked protect, grace, keep, delete (``tag_rules``); what no rule deletes stays.
3. A repository that would lose every tag keeps the newest, and every other that may be it (``brake.never_empty``).
4. Something that is not known holds what would go: a manifest that cannot be read, a source that fell silent, a tag
   that was not verified, an incomplete reconcile.
5. A budget gives back what need not go (``limits``).
6. What tags that stay need stays; the rest is asked for itself (``manifest_rules``). Carriers go with their subject.
7. The share of the repository holds it; the brake judges the whole plan (``limits``), before that.

Equal facts give equal verdicts, in whatever order they come. But for budgets, ``never_empty`` and ``newest`` by pulls,
which weigh tags against each other: one more rule of keep, pull, referrer or doubt never makes anything go.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from indexer.policies import rules
from indexer.policies.facts import Snapshot
from indexer.policies.freed import freed_bytes
from indexer.policies.limits import Limit, Nominated, braked, holds_repository, within_budget
from indexer.policies.repository_verdicts import RepositoryCase
from indexer.policies.selectors import Versions
from indexer.policies.verdicts import Decision, Hit, Reason, Verdict

ENGINE = 1
"""Grows with every change of what the same facts and policy come to; a plan of another engine is not carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a policy comes to. ``verdicts`` are sorted by repository, tag, digest. ``brake``: why the plan is stopped.

    ``freed_bytes``: what its deletions free together, once manifests are unlinked and garbage is collected. ``notes``:
    what whoever wrote the policy may not have meant.
    """

    verdicts: tuple[Verdict, ...]
    brake: tuple[Limit, ...]
    freed_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[Decision, int]:
        """Return how many verdicts each decision has."""
        found = Counter(verdict.decision for verdict in self.verdicts)
        return {decision: found[decision] for decision in Decision}


def evaluate(
    snapshot: Snapshot,
    policy: rules.Policy,
    *,
    now: datetime,
    owners: Mapping[str, int],
    sources: Sequence[rules.InUseSource] = (),
    points: bool = False,
) -> Evaluation:
    """Return what a policy says of a snapshot, which has the repositories that it owns (``rules.owner_of``).

    ``owners``: how many manifests of the whole registry hold each blob (``freed.owners_of``). ``sources``: those that
    the file names in ``in_use``. ``points``: as if the latest instant of every interval were the right one, and no pull
    had been missed; what differs is what rests on weak evidence.
    """
    with _no_collector():
        return _evaluate(snapshot, policy, now=now, owners=owners, sources=sources, points=points)


def _evaluate(
    snapshot: Snapshot,
    policy: rules.Policy,
    *,
    now: datetime,
    owners: Mapping[str, int],
    sources: Sequence[rules.InUseSource],
    points: bool,
) -> Evaluation:
    repositories = sorted(snapshot.repositories, key=lambda each: each.name)
    cases = [
        RepositoryCase(snapshot, repository, policy, now=now, sources=sources, points=points)
        for repository in repositories
    ]
    _apply_budget(policy, cases)
    said = _notes(policy, cases)
    verdicts: list[Verdict] = []
    going = []
    tags = deleted = 0
    while cases:
        case = (
            cases.pop()
        )  # what a repository was judged with is not needed any more, and takes most of the memory
        found = case.verdicts()
        lost = sum(each.decision is Decision.DELETE and each.tag is not None for each in found)
        tags += len(case.repository.tags)
        deleted += lost
        going += [case.families.manifests[digest] for digest in case.going]
        if lost and holds_repository(policy.brake, deleted=lost, tags=len(case.repository.tags)):
            found = [_held(each) for each in found]
        verdicts += reversed(found)
    verdicts.reverse()
    freed = freed_bytes(going, owners)
    return Evaluation(
        verdicts=tuple(verdicts),
        brake=braked(policy.brake, deleted=deleted, tags=tags, freed_bytes=freed),
        freed_bytes=freed,
        notes=said,
    )


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python from looking for circles: none are made here, and it would go through all facts again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def differing_share(verdicts: Sequence[Verdict], as_points: Sequence[Verdict]) -> float:
    """Return the share of deletions that rest on weak evidence: those of the points that the intervals do not make."""
    wanted = {_key(each) for each in as_points if each.decision is Decision.DELETE}
    certain = {_key(each) for each in verdicts if each.decision is Decision.DELETE}
    return len(wanted ^ certain) / len(wanted | certain) if wanted | certain else 0.0


def plan_id(policies_sha256: str, policy_id: str, *, position: int, now: datetime) -> str:
    """Return the name of a plan: equal for equal bytes of the file, policy, snapshot, instant and engine."""
    parts = (policies_sha256, policy_id, str(position), now.isoformat(), str(ENGINE))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _notes(policy: rules.Policy, cases: Sequence[RepositoryCase]) -> tuple[str, ...]:
    """Return what whoever wrote a policy may not have meant: rules without a tag, tags that nearly are versions."""
    chosen = {name for case in cases for name in case.rules_that_choose}
    every = [*policy.protect, *policy.keep, *policy.delete]
    by_tags = [rule for rule in every if not isinstance(rule, rules.ProtectInUse | rules.ProtectHeld)]
    found = [f"rule {rule.id} chooses no tag in the whole scope" for rule in by_tags if rule.id not in chosen]
    if any(isinstance(rule.tags, Versions) for rule in by_tags):
        nearly = sorted({name for case in cases for name in case.nearly_versions()})
        if nearly:
            named = ", ".join(nearly[:3]) + (", …" if len(nearly) > 3 else "")  # noqa: PLR2004 - enough to understand
            found.append(
                f"{len(nearly)} tags look like versions and are none (three numbers, as 1.2.3): {named}"
            )
    return tuple(found)


def _apply_budget(policy: rules.Policy, cases: Sequence[RepositoryCase]) -> None:
    if policy.budget is None:
        return
    nominated = [
        Nominated(repository=case.repository.name, tag=tag, digest=digest, last_used_at=at)
        for case in cases
        for tag, digest, at in case.nominated()
    ]
    stay = within_budget(
        policy.budget.bytes,
        nominated,
        {case.repository.name: [tag.digest for tag in case.repository.tags if tag.digest] for case in cases},
        {case.repository.name: case.families for case in cases},
    )
    by_name = {case.repository.name: case for case in cases}
    for repository, tag in stay:
        by_name[repository].give_back(tag, policy.budget.bytes)


def _held(verdict: Verdict) -> Verdict:
    if verdict.decision is not Decision.DELETE:
        return verdict
    hit = Hit(Reason.HOLD_REPOSITORY_SHARE, verdict.rule)
    also = (verdict.hit, *verdict.also)
    return verdict._replace(decision=Decision.HOLD, hit=hit, also=also, expires_at=None)


def _key(verdict: Verdict) -> tuple[str, str | None, str | None]:
    return verdict.repository, verdict.tag, verdict.digest

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
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from indexer.policies import rules
from indexer.policies.facts import ManifestFacts, RepositoryFacts, Snapshot
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
    with no_collector():
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
    evaluator = Evaluator(snapshot, policy, now=now, sources=sources, points=points)
    verdicts: list[Verdict] = []
    for repository in sorted(snapshot.repositories, key=lambda each: each.name):
        verdicts += evaluator.add(repository)
    for found in evaluator.rest():
        verdicts += found
    freed = freed_bytes(evaluator.going, owners)
    return Evaluation(
        verdicts=tuple(verdicts), brake=evaluator.brake(freed), freed_bytes=freed, notes=evaluator.notes()
    )


class Evaluator:
    """An evaluation repository by repository: what is known of one need not be held in memory for the next.

    ``add`` is called with each repository, in the order of names, and returns the verdicts on it; where the policy has
    a budget it returns none, and ``rest`` yields all of them at the end. Then ``going`` has the manifests that go.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        policy: rules.Policy,
        *,
        now: datetime,
        sources: Sequence[rules.InUseSource] = (),
        points: bool = False,
    ) -> None:
        self.going: list[ManifestFacts] = []
        self.tags = 0
        """In the scope."""
        self.deleted = 0
        """Of these, held by a repository's share or not."""
        self._snapshot = snapshot
        self._policy = policy
        self._now = now
        self._sources = sources
        self._points = points
        self._cases: deque[RepositoryCase] = deque()
        self._chosen: set[str] = set()
        self._nearly: set[str] = set()
        every = [*policy.protect, *policy.keep, *policy.delete]
        self._by_tags = [
            rule for rule in every if not isinstance(rule, rules.ProtectInUse | rules.ProtectHeld)
        ]
        self._by_version = any(isinstance(rule.tags, Versions) for rule in self._by_tags)

    def add(self, repository: RepositoryFacts) -> list[Verdict]:
        """Judge a repository."""
        case = RepositoryCase(
            self._snapshot,
            repository,
            self._policy,
            now=self._now,
            sources=self._sources,
            points=self._points,
        )
        self._chosen |= case.rules_that_choose
        if self._by_version:
            self._nearly.update(case.nearly_versions())
        if self._policy.budget is not None:
            self._cases.append(case)
            return []
        return self._verdicts(case)

    def rest(self) -> Iterator[list[Verdict]]:
        """Yield the verdicts on each repository that waited for the others."""
        _apply_budget(self._policy, self._cases)
        while self._cases:  # what a repository was judged with takes most of the memory
            yield self._verdicts(self._cases.popleft())

    def brake(self, freed: int) -> tuple[Limit, ...]:
        """Return the limits that all of it is beyond; ``freed``: bytes."""
        return braked(self._policy.brake, deleted=self.deleted, tags=self.tags, freed_bytes=freed)

    def notes(self) -> tuple[str, ...]:
        """Return what whoever wrote it may not have meant: rules without a tag, names that are nearly versions."""
        found = [
            f"rule {rule.id} chooses no tag in the whole scope"
            for rule in self._by_tags
            if rule.id not in self._chosen
        ]
        nearly = sorted(self._nearly)
        if nearly:
            named = ", ".join(nearly[:3]) + (", …" if len(nearly) > 3 else "")  # noqa: PLR2004 - enough to understand
            found.append(
                f"{len(nearly)} tags look like versions and are none (three numbers, as 1.2.3): {named}"
            )
        return tuple(found)

    def _verdicts(self, case: RepositoryCase) -> list[Verdict]:
        found = case.verdicts()
        lost = sum(each.decision is Decision.DELETE and each.tag is not None for each in found)
        self.tags += len(case.repository.tags)
        self.deleted += lost
        self.going += [case.families.manifests[digest] for digest in case.going]
        if lost and holds_repository(self._policy.brake, deleted=lost, tags=len(case.repository.tags)):
            found = [_held(each) for each in found]
        return found


@contextmanager
def no_collector() -> Iterator[None]:
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


def _apply_budget(policy: rules.Policy, cases: Collection[RepositoryCase]) -> None:
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

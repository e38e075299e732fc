"""What policies come to now: facts from the store, batch by batch, into the pure evaluation.

The same function for the preview, the API, plans and whoever looks again before it acts. Memory is bounded by the
largest repository and by what is deleted, unless a policy has a budget, which weighs all repositories against each
other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from indexer.policies.cleanup import Evaluator, no_collector
from indexer.policies.facts import ManifestFacts, RepositoryFacts, Snapshot
from indexer.policies.freed import blobs_of, freed_bytes
from indexer.policies.limits import Limit
from indexer.policies.rules import Mode, Policies, Policy, owner_of
from indexer.policies.verdicts import Decision, Verdict
from indexer.store import cleanup_facts, holds, in_use
from indexer.store.cleanup_facts import Known, RepositoryRow
from indexer.store.pool import Connection

BATCH = 20_000
"""Tags and manifests that are read at a time, or one repository if it has more."""

Key = tuple[str, str | None, str | None]
Take = Callable[[Sequence[Verdict]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What holds for every repository at one instant."""

    now: datetime
    known: Known
    snapshot: Snapshot
    """Without repositories."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What one policy came to; see ``policies.cleanup.Evaluation``. ``going``: the manifests that go."""

    policy: Policy
    counts: dict[Decision, int] = field(default_factory=lambda: dict.fromkeys(Decision, 0))
    brake: tuple[Limit, ...] = ()
    freed_bytes: int = 0
    going: Sequence[ManifestFacts] = ()
    weak_share: float = 0.0
    notes: tuple[str, ...] = ()


@asynccontextmanager
async def at_one_instant(connection: Connection) -> AsyncIterator[None]:
    """Read everything as of one instant."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield


async def look_at_world(connection: Connection, *, now: datetime) -> World:
    """Return what holds for every repository."""
    known = await cleanup_facts.known(connection, now=now)
    held = [each.as_policies_have_it() for each in await holds.list_holds(connection, now=now)]
    reports = await in_use.reports(connection)
    return World(
        now=now,
        known=known,
        snapshot=Snapshot(repositories=(), coverage=known.coverage, in_use=reports, holds=held),
    )


async def owned(
    connection: Connection,
    policies: Policies,
    *,
    policy_ids: Iterable[str] | None = None,
    repositories: Iterable[str] | None = None,
) -> list[tuple[Policy, list[RepositoryRow]]]:
    """Return the policies, or some of them, in the order of the file, each with the repositories that it owns."""
    rows = await cleanup_facts.list_repositories(connection, names=repositories)
    found: dict[str, list[RepositoryRow]] = {policy.id: [] for policy in policies.cleanup}
    for row in rows:
        owner = owner_of(row.name, policies.cleanup)
        if owner is not None:
            found[owner.id].append(row)
    wanted = None if policy_ids is None else set(policy_ids)
    return [
        (policy, found[policy.id]) for policy in policies.cleanup if wanted is None or policy.id in wanted
    ]


async def evaluate_policy(
    connection: Connection,
    policy: Policy,
    rows: Sequence[RepositoryRow],
    *,
    policies: Policies,
    world: World,
    take: Take,
    progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Evaluate a policy over the repositories that it owns; ``take`` gets the verdicts on each, in order.

    ``progress`` is called with the number of repositories that are done.
    """
    wanted = cleanup_facts.wanted_by(policy, in_use=bool(world.snapshot.in_use), now=world.now)
    snapshot = replace(world.snapshot, coverage=world.known.coverage_for(wanted))
    judging = _Judging(policy, policies, replace(world, snapshot=snapshot), take)
    done = 0
    with no_collector():
        for batch in _batches(rows):
            facts = await cleanup_facts.load_facts(
                connection, repositories=batch, wanted=wanted, suspected_at=world.known.suspected_at
            )
            if policy.budget is not None:
                facts = await _with_blobs(connection, facts)
            await asyncio.to_thread(judging.add, facts)
            done += len(batch)
            progress(done)
        await asyncio.to_thread(judging.add_rest)
    return judging.outcome(await _freed(connection, judging.evaluator.going))


async def freed_together(connection: Connection, outcomes: Sequence[Outcome]) -> int:
    """Return how many bytes policies free together: a blob that goes with manifests of several counts, too."""
    if sum(bool(outcome.going) for outcome in outcomes) <= 1:
        return sum(outcome.freed_bytes for outcome in outcomes)
    return await _freed(connection, [each for outcome in outcomes for each in outcome.going])


class _Judging:
    """A policy's evaluation under way; beside it, where it would act by itself, one in which times are points."""

    def __init__(self, policy: Policy, policies: Policies, world: World, take: Take) -> None:
        def begin(*, points: bool) -> Evaluator:
            return Evaluator(world.snapshot, policy, now=world.now, sources=policies.in_use, points=points)

        self.evaluator = begin(points=False)
        self._as_points = begin(points=True) if policy.mode is Mode.ENFORCE else None
        self._take = take
        self._outcome = Outcome(policy=policy)
        self._certain: set[Key] = set()
        self._likely: set[Key] = set()

    def add(self, facts: Sequence[RepositoryFacts]) -> None:
        """Judge repositories."""
        for each in facts:
            self._taken(self.evaluator.add(each))
            if self._as_points is not None:
                self._likely.update(_deleted(self._as_points.add(each)))

    def add_rest(self) -> None:
        """Judge what waited for the others."""
        for verdicts in self.evaluator.rest():
            self._taken(verdicts)
        for verdicts in () if self._as_points is None else self._as_points.rest():
            self._likely.update(_deleted(verdicts))

    def outcome(self, freed: int) -> Outcome:
        """Return what it came to; ``freed``: bytes."""
        found = self._outcome
        found.freed_bytes, found.brake, found.notes = (
            freed,
            self.evaluator.brake(freed),
            self.evaluator.notes(),
        )
        found.going = self.evaluator.going
        either = self._certain | self._likely
        found.weak_share = len(self._certain ^ self._likely) / len(either) if either else 0.0
        return found

    def _taken(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._outcome.counts[verdict.decision] += 1
        if self._as_points is not None:
            self._certain.update(_deleted(verdicts))
        self._take(verdicts)


def _deleted(verdicts: Sequence[Verdict]) -> Iterator[Key]:
    return ((each.repository, each.tag, each.digest) for each in verdicts if each.decision is Decision.DELETE)


def _batches(rows: Sequence[RepositoryRow]) -> Iterator[list[RepositoryRow]]:
    batch: list[RepositoryRow] = []
    size = 0
    for row in rows:
        if batch and size + row.tag_count + row.manifest_count > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row.tag_count + row.manifest_count
    if batch:
        yield batch


async def _with_blobs(connection: Connection, facts: Sequence[RepositoryFacts]) -> list[RepositoryFacts]:
    """Return facts whose manifests name their blobs: a budget weighs them."""
    every = [manifest for each in facts for manifest in each.manifests]
    blobs = await cleanup_facts.add_blobs(connection, manifests=every)
    return [
        replace(
            each,
            manifests=[
                replace(manifest, blobs=blobs.get(manifest.digest, ())) for manifest in each.manifests
            ],
        )
        for each in facts
    ]


async def _freed(connection: Connection, manifests: Sequence[ManifestFacts]) -> int:
    """Return how many bytes some manifests free together."""
    if not manifests:
        return 0
    blobs = await cleanup_facts.add_blobs(connection, manifests=manifests)
    going = [replace(each, blobs=blobs.get(each.digest, ())) for each in manifests]
    wanted = {blob for each in going for blob, _ in blobs_of(each)}
    owners: Mapping[str, int] = await cleanup_facts.owners_of_blobs(connection, blobs=wanted)
    return freed_bytes(going, owners)

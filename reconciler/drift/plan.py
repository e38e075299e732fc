"""A plan: what a walk would change. Looks like a walk, touches nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from indexer.errors import RegistryError
from indexer.inventory.changes import DriftKind
from indexer.inventory.seen import Outcome
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.pool import Pool
from reconciler.drift.compare import UNKNOWN, Comparer, Comparison, Part
from reconciler.drift.hidden import HiddenTags
from reconciler.drift.known import every_name
from reconciler.drift.report import Progress
from reconciler.observe import raise_if_down
from reconciler.registry.protocol import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing a walk would change. ``tag`` is None for a manifest."""

    kind: DriftKind
    repository: RepositoryName
    tag: TagName | None
    expected: Digest | None
    found: Digest | None


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a walk would change, and what could not be decided."""

    differences: list[Difference] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    repositories: int = 0
    tags: int = 0


async def make_plan(
    pool: Pool,
    registry: Registry,
    *,
    concurrency: int,
    scope: Sequence[RepositoryName] | None,
    on_progress: Callable[[Progress], None],
    hidden_tag_requests: int = 0,
) -> Plan:
    """Compare every repository; raise ``RegistryUnavailable`` if the registry stops answering."""
    limit = asyncio.Semaphore(concurrency)
    comparer = Comparer(
        pool,
        registry,
        limit=limit,
        reread_after=timedelta(0),
        keeps_record=False,
        hidden=HiddenTags(registry, requests=hidden_tag_requests, limit=limit),
    )
    made = Plan()
    names = scope
    if names is None:
        known = await every_name(pool, registry)
        names = known.names
        if known.incomplete is not None:
            made.undecided.append(known.incomplete)
    for name in names:
        try:
            await _plan_one(made, await comparer.begin(name), named=scope is not None)
        except RegistryError as error:
            await raise_if_down(registry, error)
            made.undecided.append(f"{name}: {error}")
        on_progress(Progress(repositories=made.repositories, total=len(names), tags=made.tags))
    made.differences.sort(key=lambda item: (item.repository, item.tag or "", item.kind, item.expected or ""))
    return made


async def _plan_one(made: Plan, comparison: Comparison, *, named: bool) -> None:
    if named and not await comparison.is_known():
        made.undecided.append(f"{comparison.repository}: {UNKNOWN}")
        return
    async for part in comparison.parts():
        made.differences += differences(comparison.repository, part)
        made.undecided += [f"{comparison.repository}:{item.tag}: {item.reason}" for item in part.undecided]
        made.tags += len(part.looks)
    made.repositories += 1


def differences(repository: RepositoryName, part: Part) -> Iterator[Difference]:
    """Return what differs in a part of one repository."""
    for observation, record in part.looks:
        expected = record.digest if record is not None else None
        kind = _kind(
            observation.outcome,
            on_record=record is not None,
            broken=record is not None and record.broken,
            same=observation.digest == expected,
        )
        if kind is not None:
            yield Difference(
                kind=kind,
                repository=repository,
                tag=observation.tag,
                expected=expected,
                found=observation.digest,
            )
    for manifest, _ in part.gone:
        yield Difference(
            kind=DriftKind.MANIFEST_EXTRA,
            repository=repository,
            tag=None,
            expected=manifest.digest,
            found=None,
        )


def _kind(outcome: Outcome, *, on_record: bool, broken: bool, same: bool) -> DriftKind | None:
    match outcome:
        case Outcome.ABSENT:
            return DriftKind.TAG_EXTRA if on_record else None
        case Outcome.BROKEN:
            return None if broken else DriftKind.TAG_BROKEN
        case _ if not on_record:
            return DriftKind.TAG_MISSING
        case _ if not same:
            return DriftKind.TAG_STALE
        case _:
            return DriftKind.TAG_READABLE if broken else None

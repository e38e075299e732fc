"""A plan: what a reconcile would change. It observes and compares as one does, and stores nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from indexer.common.errors import RegistryDenied, RegistryError
from indexer.inventory.changes import DriftKind
from indexer.inventory.observations import TagState
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import repositories
from indexer.store.pool import Pool, connection
from indexer.store.reconcile_runs import Undecided
from reconciler.drift.compare import UNKNOWN, Comparer, Comparison, TagRange
from reconciler.drift.exceptions import Closed, blocking_kinds
from reconciler.drift.hidden import HiddenTags
from reconciler.drift.report import UNKNOWN_REPOSITORY, Progress
from reconciler.drift.repository_names import every_name
from reconciler.observing.tags import kind_of, raise_if_down
from reconciler.registry.protocol import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One change that a reconcile would make. ``tag`` is None for a manifest."""

    kind: DriftKind
    repository: RepositoryName
    tag: TagName | None
    expected: Digest | None
    found: Digest | None


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a reconcile would change.

    ``undecided``: what keeps the plan incomplete. ``left_out``: what was not decided and leaves it complete
    (``exceptions``). Both in words for an operator.
    """

    differences: list[Difference] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    of_cache: bool = False
    """The registry is a pull-through cache, and nothing was compared."""
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """Why each item is undecided, by kind."""

    def add(self, kind: str, reason: str) -> None:
        """Add one undecided item."""
        self.reasons.setdefault(kind, []).append(reason)

    def add_all(self, undecided: Undecided) -> None:
        """Add undecided items that are counted by kind already."""
        for kind, what in undecided.items():
            for example in what["examples"]:
                self.add(kind, example)

    def classify(self, *, share: float) -> None:
        """Divide the undecided items into those that keep the plan incomplete and those that do not."""
        counts = {"repositories": self.repositories, "manifests": self.manifests}
        counted = {kind: {"count": len(reasons)} for kind, reasons in self.reasons.items()}
        blocking = blocking_kinds(counted, counts, share=share)
        for kind, reasons in self.reasons.items():
            (self.undecided if kind in blocking else self.left_out).extend(reasons)


async def make_plan(
    pool: Pool,
    registry: Registry,
    *,
    concurrency: int,
    scope: Sequence[RepositoryName] | None,
    on_progress: Callable[[Progress], None],
    hidden_tag_requests: int = 0,
    closed: Closed = Closed(),  # noqa: B008 - frozen
    share: float = 0.0,
) -> Plan:
    """Compare every repository; raise ``RegistryUnavailable`` if the registry stops answering.

    ``closed`` and ``share`` (of the brake, 0 to 1) say what may be left out of a complete plan; see ``exceptions``.
    """
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
    if (await registry.kind()).is_cache:
        made.of_cache = True
        return made
    names = scope
    if names is None:
        known = await every_name(pool, registry, closed=closed)
        names = known.names
        made.add_all(known.undecided)
    for name in names:
        try:
            await _plan_one(made, await comparer.begin(name), named=scope is not None)
        except RegistryError as error:
            await raise_if_down(registry, error)
            kind = kind_of(error)
            if isinstance(error, RegistryDenied):
                async with connection(pool) as held:
                    compared_at = await repositories.last_reconciled(held, name=name)
                kind = closed.kind_of(name, compared_at=compared_at, now=datetime.now(UTC))
            made.add(kind, f"{name}: {error}")
        on_progress(Progress(repositories=made.repositories, total=len(names), tags=made.tags))
    made.classify(share=share)
    made.differences.sort(key=lambda item: (item.repository, item.tag or "", item.kind, item.expected or ""))
    return made


async def _plan_one(made: Plan, comparison: Comparison, *, named: bool) -> None:
    if named and not await comparison.is_known():
        made.add(UNKNOWN_REPOSITORY, f"{comparison.repository}: {UNKNOWN}")
        return
    async for compared in comparison.ranges():
        made.differences += differences(comparison.repository, compared)
        for item in compared.undecided:
            made.add(item.kind, f"{comparison.repository}:{item.tag}: {item.reason}")
        made.tags += len(compared.observations)
        made.manifests += compared.manifests_checked
    made.add_all(comparison.left_out)
    made.repositories += 1


def differences(repository: RepositoryName, compared: TagRange) -> Iterator[Difference]:
    """Return what differs in a range of one repository."""
    for observation, record in compared.observations:
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
        elif record is not None and not record.has_manifest and observation.outcome is TagState.POINTS:
            yield _missing(repository, observation.tag, observation.digest)
    for manifest in compared.gone:
        yield Difference(
            kind=DriftKind.MANIFEST_EXTRA,
            repository=repository,
            tag=None,
            expected=manifest.digest,
            found=None,
        )
    for manifest in compared.returned:
        yield _missing(repository, None, manifest.digest)


def _missing(repository: RepositoryName, tag: TagName | None, digest: Digest | None) -> Difference:
    """Return the difference of a manifest that the registry serves and the inventory does not have."""
    return Difference(
        kind=DriftKind.MANIFEST_MISSING, repository=repository, tag=tag, expected=None, found=digest
    )


def _kind(outcome: TagState, *, on_record: bool, broken: bool, same: bool) -> DriftKind | None:
    match outcome:
        case TagState.ABSENT:
            return DriftKind.TAG_EXTRA if on_record else None
        case TagState.BROKEN:
            return None if broken else DriftKind.TAG_BROKEN
        case _ if not on_record:
            return DriftKind.TAG_MISSING
        case _ if not same:
            return DriftKind.TAG_STALE
        case _:
            return DriftKind.TAG_READABLE if broken else None

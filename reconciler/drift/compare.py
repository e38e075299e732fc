"""One repository: what is listed, what is on record, and a look at each tag of either."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from indexer.errors import RegistryError
from indexer.inventory.records import ManifestRecord
from indexer.inventory.seen import Outcome, TagObservation, as_deletion
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import manifests, repositories, tags
from indexer.store.pool import Pool, connection
from indexer.store.tags import RecordedTag
from reconciler.observe import Answered, Question, Undecided, first_unavailable, observe_tags, raise_if_down
from reconciler.registry.answers import NotFound, TagListing
from reconciler.registry.protocol import Registry

PAGE = 1000
UNKNOWN = "neither the registry nor the inventory knows this repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one repository came to.

    ``observations`` carry the revision the record had before the look. ``gone`` are manifests on record that the
    registry does not serve. ``began`` is when this comparison did, ``walked_at`` when the one before it did.
    ``vanished``: the registry does not know the repository.
    """

    repository: RepositoryName
    began: datetime
    observations: Sequence[tuple[TagObservation, int]] = ()
    gone: Sequence[ManifestRecord] = ()
    served: Sequence[Digest] = ()
    undecided: Sequence[Undecided] = ()
    manifests_checked: int = 0
    vanished: bool = False
    walked_at: datetime | None = None
    recorded: Mapping[TagName, RecordedTag] = field(default_factory=dict)


@dataclass(slots=True)
class _Checked:
    """What asking for manifests came to."""

    count: int = 0
    served: list[Digest] = field(default_factory=list)
    gone: list[ManifestRecord] = field(default_factory=list)
    undecided: list[Undecided] = field(default_factory=list)

    def take(self, record: ManifestRecord, result: bool | Undecided) -> None:
        self.count += 1
        if isinstance(result, Undecided):
            self.undecided.append(result)
        elif result:
            self.served.append(record.digest)
        else:
            self.gone.append(record)


class Comparer:
    """Looks at repositories, ``limit`` requests at a time over all of them."""

    def __init__(
        self, pool: Pool, registry: Registry, *, limit: asyncio.Semaphore, reread_after: timedelta
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._limit = limit
        self._reread_after = reread_after

    async def compare(self, repository: RepositoryName) -> Compared:
        """Compare one repository; raise ``RegistryUnavailable`` if the registry does not answer."""
        began = datetime.now(UTC)
        recorded = await self._recorded(repository)
        async with self._limit:
            listing = await self._registry.list_tags(repository)
        wanted = {tag: recorded.get(tag) for tag in [*listing.names, *recorded]}
        questions = [self._question(tag, record, began) for tag, record in wanted.items()]
        try:
            answered = await self._observe(repository, questions)
            served = _served(answered.observations.values())
            checked = await self._check_manifests(repository, began, set(served))
        except ExceptionGroup as failures:
            raise first_unavailable(failures) or failures from failures
        return Compared(
            repository=repository,
            observations=[
                (observation, record.revision if (record := wanted[tag]) is not None else 0)
                for tag, observation in answered.observations.items()
            ],
            gone=checked.gone,
            served=[*served, *checked.served],
            undecided=[*_incomplete(listing), *answered.undecided, *checked.undecided],
            manifests_checked=checked.count,
            vanished=listing.unknown_repository and not listing.names,
            walked_at=await self._last_walked(repository),
            began=began,
            recorded=recorded,
        )

    async def _observe(self, repository: RepositoryName, questions: Sequence[Question]) -> Answered:
        answered = await observe_tags(self._registry, repository, questions, limit=self._limit)
        async with connection(self._pool) as held:
            dummies = await manifests.find_dummies(held)
        observations = {tag: as_deletion(look, dummies) for tag, look in answered.observations.items()}
        return replace(answered, observations=observations)

    async def _last_walked(self, repository: RepositoryName) -> datetime | None:
        async with connection(self._pool) as held:
            return await repositories.last_walked(held, name=repository)

    async def _recorded(self, repository: RepositoryName) -> dict[TagName, RecordedTag]:
        found: dict[TagName, RecordedTag] = {}
        after = ""
        async with connection(self._pool) as held:
            while page := await tags.list_recorded(held, repository=repository, after=after, limit=PAGE):
                found |= {record.name: record for record in page}
                after = page[-1].name
        return found

    def _question(self, tag: TagName, record: RecordedTag | None, now: datetime) -> Question:
        """The cheap look where the manifest was read not long ago."""
        if record is None or record.digest is None or record.broken or record.read_at is None:
            return Question(tag=tag)
        fresh = now - record.read_at < self._reread_after
        return Question(tag=tag, if_digest=record.digest if fresh else None)

    async def _check_manifests(
        self, repository: RepositoryName, now: datetime, served: set[Digest]
    ) -> _Checked:
        """Ask for the manifests on record that nothing has confirmed lately: untagged ones are in no listing."""
        checked = _Checked()
        after = b""
        while page := await self._unconfirmed(repository, now, after):
            after = digest_to_bytes(page[-1].digest)
            asked = [record for record in page if record.digest not in served]
            async with asyncio.TaskGroup() as group:
                looks = [group.create_task(self._check(repository, record)) for record in asked]
            for record, look in zip(asked, looks, strict=True):
                checked.take(record, look.result())
        return checked

    async def _unconfirmed(
        self, repository: RepositoryName, now: datetime, after: bytes
    ) -> list[ManifestRecord]:
        async with connection(self._pool) as held:
            return await manifests.list_held(
                held,
                repository=repository,
                unconfirmed_since=now - self._reread_after,
                after=after,
                limit=PAGE,
            )

    async def _check(self, repository: RepositoryName, record: ManifestRecord) -> bool | Undecided:
        async with self._limit:
            try:
                look = await self._registry.look_at_manifest(repository, record.digest)
            except RegistryError as error:
                await raise_if_down(self._registry, error)
                return Undecided(tag=TagName(record.digest), reason=str(error))
        return not isinstance(look, NotFound)


async def is_known(pool: Pool, compared: Compared) -> bool:
    """Tell whether either side knows the repository; if not, whoever named it most likely mistyped it."""
    if not compared.vanished or compared.recorded:
        return True
    async with connection(pool) as held:
        return bool(await repositories.find_ids(held, names={compared.repository}))


def _served(observations: Iterable[TagObservation]) -> list[Digest]:
    return [
        observation.digest
        for observation in observations
        if observation.outcome is Outcome.POINTS and observation.digest is not None
    ]


def _incomplete(listing: TagListing) -> list[Undecided]:
    """A listing that lacks something may lack tags that are on no record: then the comparison is not complete."""
    if listing.complete:
        return []
    return [Undecided(tag=TagName(""), reason="; ".join(listing.reasons) or "listing incomplete")]

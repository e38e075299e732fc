"""Compares one repository, one range of tags at a time: listing, record, and an observation of each tag of either.

A range bounds memory, not the repository: the listing is kept packed, the record is read in pages beside it, and the
caller stores a range before the next one is observed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from indexer.common.errors import RegistryError
from indexer.common.task_group import TaskGroup
from indexer.inventory.apply_tag_observation import as_deletion
from indexer.inventory.observations import ManifestObservation, TagObservation, TagState
from indexer.inventory.records import ManifestRecord
from indexer.oci.digest import digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import manifests, repositories, tags
from indexer.store.pool import Pool, connection
from indexer.store.reconcile_runs import Undecided as Counted
from indexer.store.tags import RecordedTag
from reconciler.drift.exceptions import NOT_A_TAG
from reconciler.drift.hidden import HiddenTags
from reconciler.drift.report import left_out
from reconciler.observing.tags import (
    LISTING_INCOMPLETE,
    MANIFEST_UNREADABLE,
    Answered,
    Missing,
    TagQuestion,
    Undecided,
    answers_500,
    confirm_missing,
    first_unavailable,
    observe_tags_once,
    raise_if_down,
    undecided_by,
)
from reconciler.registry.answers import Found, ManifestAnswer, TagListing
from reconciler.registry.protocol import Registry

PAGE: Final = 1000
CONFIRMED_TOGETHER: Final = 20 * PAGE
"""Tags that answered 404 share the listing that confirms them: each one costs the registry its whole directory."""

UNKNOWN: Final = "neither the registry nor the inventory knows this repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRange:
    """The result of comparing some tags or manifests of one repository.

    ``observations``: each with the record it was made against. ``gone``: manifests on record that the registry did not
    serve. ``served``: manifests that it served. ``returned``: those of ``served`` that are on record as deleted.
    """

    observations: Sequence[tuple[TagObservation, RecordedTag | None]] = ()
    gone: Sequence[ManifestObservation] = ()
    served: Sequence[ManifestObservation] = ()
    returned: Sequence[ManifestObservation] = ()
    undecided: Sequence[Undecided] = ()
    manifests_checked: int = 0


class Comparer:
    """Compares repositories; ``limit`` bounds the requests under way over all of them.

    ``reread_after``: a manifest that was read longer ago is read again. ``keeps_record``: the caller stores what was
    served before it takes the next range, so nothing is requested twice. Otherwise the comparison remembers the digests
    itself (about 100 MB for a million manifests). ``hidden`` adds tags that the registry leaves out of its listing.
    """

    def __init__(
        self,
        pool: Pool,
        registry: Registry,
        *,
        limit: asyncio.Semaphore,
        reread_after: timedelta,
        keeps_record: bool = True,
        hidden: HiddenTags | None = None,
    ) -> None:
        self.pool = pool
        self.registry = registry
        self.limit = limit
        self.reread_after = reread_after
        self.keeps_record = keeps_record
        self.hidden = hidden

    async def begin(self, repository: RepositoryName) -> Comparison:
        """List the tags of one repository; raise ``RegistryError`` if there is no listing."""
        began = datetime.now(UTC)
        async with self.limit:
            listing = await self.registry.list_tags(repository)
        if self.hidden is not None:
            listing = await self.hidden.complete(repository, listing)
        async with connection(self.pool) as held:
            reconciled_at = await repositories.last_reconciled(held, name=repository)
        return Comparison(self, repository, listing, began=began, reconciled_at=reconciled_at)


class Comparison:
    """The comparison of one repository.

    ``began``: when this comparison began. ``reconciled_at``: when the last complete one before it began. ``vanished``:
    the registry answered that it does not know the repository.
    """

    def __init__(
        self,
        comparer: Comparer,
        repository: RepositoryName,
        listing: TagListing,
        *,
        began: datetime,
        reconciled_at: datetime | None,
    ) -> None:
        self.repository = repository
        self.began = began
        self.reconciled_at = reconciled_at
        self.vanished = listing.unknown_repository and not listing.names
        self._comparer = comparer
        self._listing = listing
        self._served: set[bytes] = set()

    @property
    def left_out(self) -> Counted:
        """The listed names that are no valid tag names."""
        if not self._listing.left_out:
            return {}
        return left_out(
            NOT_A_TAG,
            self._listing.left_out,
            "names that no tag can have",
            self._listing.left_out_examples,
            where=f"{self.repository}: ",
        )

    async def is_known(self) -> bool:
        """Return whether registry or inventory knows the repository; if neither does, its name is probably mistyped."""
        if not self.vanished:
            return True
        async with connection(self._comparer.pool) as held:
            return bool(await repositories.find_ids(held, names={self.repository}))

    async def ranges(self) -> AsyncIterator[TagRange]:
        """Observe every tag and manifest; raise ``RegistryUnavailable`` if the registry does not answer."""
        try:
            async for compared in self._tags():
                yield compared
            if not self._listing.complete:
                # The registry may have tags that are neither listed nor on record.
                reason = "; ".join(self._listing.reasons) or "listing incomplete"
                yield TagRange(undecided=[Undecided(tag=TagName(""), reason=reason, kind=LISTING_INCOMPLETE)])
            async for compared in self._manifests():
                yield compared
        except ExceptionGroup as failures:
            raise first_unavailable(failures) or failures from failures

    async def _tags(self) -> AsyncIterator[TagRange]:
        missing: dict[TagName, Missing] = {}
        records: dict[TagName, RecordedTag | None] = {}
        async for page in self._pages():
            first = await observe_tags_once(
                self._comparer.registry,
                self.repository,
                [self._question(tag, record) for tag, record in page.items()],
                limit=self._comparer.limit,
            )
            missing |= first.missing
            records |= {tag: page[tag] for tag in first.missing}
            yield await self._range(first.answered, page)
            if len(missing) >= CONFIRMED_TOGETHER:
                yield await self._confirm(missing, records)
                missing, records = {}, {}
        if missing:
            yield await self._confirm(missing, records)

    async def _confirm(
        self, missing: Mapping[TagName, Missing], records: Mapping[TagName, RecordedTag | None]
    ) -> TagRange:
        confirmed = await confirm_missing(
            self._comparer.registry, self.repository, missing, limit=self._comparer.limit
        )
        return await self._range(confirmed, records)

    async def _range(self, answered: Answered, records: Mapping[TagName, RecordedTag | None]) -> TagRange:
        async with connection(self._comparer.pool) as held:
            dummies = await manifests.find_dummies(held)
        observations = [
            (as_deletion(observation, dummies), records[tag])
            for tag, observation in answered.observations.items()
        ]
        served = {
            observation.digest: observation.of_manifest(observation.digest)
            for observation, _ in observations
            if observation.outcome is TagState.POINTS and observation.digest is not None
        }
        if not self._comparer.keeps_record:
            self._served.update(map(digest_to_bytes, served))
        return TagRange(observations=observations, served=list(served.values()), undecided=answered.undecided)

    async def _pages(self) -> AsyncIterator[dict[TagName, RecordedTag | None]]:
        page: dict[TagName, RecordedTag | None] = {}
        async for tag, record in self._listed_or_recorded():
            page[tag] = record
            if len(page) == PAGE:
                yield page
                page = {}
        if page:
            yield page

    async def _listed_or_recorded(self) -> AsyncIterator[tuple[TagName, RecordedTag | None]]:
        """Merge the listing and the record: both are sorted by byte."""
        listed = iter(self._listing.names)
        ahead = next(listed, None)
        async for record in self._recorded():
            while ahead is not None and ahead < record.name:
                yield ahead, None
                ahead = next(listed, None)
            if ahead == record.name:
                ahead = next(listed, None)
            yield record.name, record
        while ahead is not None:
            yield ahead, None
            ahead = next(listed, None)

    async def _recorded(self) -> AsyncIterator[RecordedTag]:
        after = ""
        while page := await self._recorded_page(after):
            for record in page:
                yield record
            after = page[-1].name

    async def _recorded_page(self, after: str) -> list[RecordedTag]:
        async with connection(self._comparer.pool) as held:
            return await tags.list_recorded(held, repository=self.repository, after=after, limit=PAGE)

    def _question(self, tag: TagName, record: RecordedTag | None) -> TagQuestion:
        """Return how to ask about a tag.

        A conditional HEAD (304, no manifest is read) is enough while the manifest was read within ``reread_after``. A
        tag on record as broken may answer 500: that is its state, not a failure.
        """
        if record is None or record.digest is None or record.broken or record.read_at is None:
            known = None if record is None else record.digest
            return TagQuestion(tag=tag, on_record=known, unreadable=record is not None and record.broken)
        if not record.has_manifest:
            return TagQuestion(tag=tag, on_record=record.digest)
        fresh = self.began - record.read_at < self._comparer.reread_after
        return TagQuestion(tag=tag, if_digest=record.digest if fresh else None, on_record=record.digest)

    async def _manifests(self) -> AsyncIterator[TagRange]:
        """Ask for the manifests on record that nothing confirmed lately: an untagged one is in no listing."""
        after = b""
        while page := await self._unconfirmed(after):
            after = digest_to_bytes(page[-1].digest)
            to_check = [record for record in page if digest_to_bytes(record.digest) not in self._served]
            async with TaskGroup() as group:
                tasks = [group.create_task(self._check(record)) for record in to_check]
            results = [(record, task.result()) for record, task in zip(to_check, tasks, strict=True)]
            found = [
                (record, _manifest_observation(record, answer))
                for record, answer in results
                if not isinstance(answer, Undecided)
            ]
            yield TagRange(
                gone=[each for record, each in found if not each.served and record.present],
                served=[each for _, each in found if each.served],
                returned=[each for record, each in found if each.served and not record.present],
                undecided=[answer for _, answer in results if isinstance(answer, Undecided)],
                manifests_checked=len(to_check),
            )

    async def _unconfirmed(self, after: bytes) -> list[ManifestRecord]:
        async with connection(self._comparer.pool) as held:
            return await manifests.list_unconfirmed(
                held,
                repository=self.repository,
                unconfirmed_since=self.began - self._comparer.reread_after,
                after=after,
                limit=PAGE,
            )

    async def _check(self, record: ManifestRecord) -> ManifestAnswer | Undecided:
        async with self._comparer.limit:
            try:
                return await self._comparer.registry.head_manifest(self.repository, record.digest)
            except RegistryError as error:
                await raise_if_down(self._comparer.registry, error)
                undecided = undecided_by(TagName(record.digest), error)
                return replace(undecided, kind=MANIFEST_UNREADABLE) if answers_500(error) else undecided


def _manifest_observation(record: ManifestRecord, answer: ManifestAnswer) -> ManifestObservation:
    found = answer if isinstance(answer, Found) else None
    return ManifestObservation(
        repository=record.repository,
        digest=record.digest,
        served=found is not None,
        observed_at=answer.observed_at,
        as_of=answer.as_of,
        media_type=found.media_type if found is not None else "",
        size_bytes=found.size if found is not None else 0,
    )

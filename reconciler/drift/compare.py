"""One repository, part by part: what is listed, what is on record, and a look at each tag of either.

Memory is bounded by the parts, not by the repository: the listing is kept packed, the record is read in pages
beside it, and whoever takes a part stores it before the next is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from indexer.common.errors import RegistryError
from indexer.common.task_group import TaskGroup
from indexer.inventory.apply_observation import TagObservation, TagState, as_deletion
from indexer.inventory.records import ManifestRecord
from indexer.inventory.repository_manifests import ManifestObservation
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
"""Tags that answered 404 wait for one listing together: a listing costs the registry its whole directory."""

UNKNOWN: Final = "neither the registry nor the inventory knows this repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRange:
    """Some of what one repository came to.

    ``looks`` carry what was on record before the look. ``gone`` are manifests on record that the registry did not
    serve, ``served`` those that it was seen to serve, ``returned`` those of them that are on record as deleted.
    """

    observations: Sequence[tuple[TagObservation, RecordedTag | None]] = ()
    gone: Sequence[ManifestObservation] = ()
    served: Sequence[ManifestObservation] = ()
    returned: Sequence[ManifestObservation] = ()
    undecided: Sequence[Undecided] = ()
    manifests_checked: int = 0


class Comparer:
    """Looks at repositories, ``limit`` requests at a time over all of them.

    ``keeps_record``: who takes a part writes down what was served before taking the next, so that nothing is asked
    for twice. Else the comparison remembers it (about 100 MB for a million manifests). ``hidden`` completes what the
    registry lists.
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
        """List one repository; raise ``RegistryError`` if that cannot be had."""
        began = datetime.now(UTC)
        async with self.limit:
            listing = await self.registry.list_tags(repository)
        if self.hidden is not None:
            listing = await self.hidden.complete(repository, listing)
        async with connection(self.pool) as held:
            walked_at = await repositories.last_reconciled(held, name=repository)
        return Comparison(self, repository, listing, began=began, walked_at=walked_at)


class Comparison:
    """What is being compared.

    ``began`` is when this comparison did, ``walked_at`` when the one before it did. ``vanished``: the registry does
    not know the repository.
    """

    def __init__(
        self,
        comparer: Comparer,
        repository: RepositoryName,
        listing: TagListing,
        *,
        began: datetime,
        walked_at: datetime | None,
    ) -> None:
        self.repository = repository
        self.began = began
        self.walked_at = walked_at
        self.vanished = listing.unknown_repository and not listing.names
        self._comparer = comparer
        self._listing = listing
        self._remembered: set[bytes] = set()

    @property
    def left_out(self) -> Counted:
        """Names in the listing that no tag can have."""
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
        """Tell whether either side knows the repository; if not, whoever named it most likely mistyped it."""
        if not self.vanished:
            return True
        async with connection(self._comparer.pool) as held:
            return bool(await repositories.find_ids(held, names={self.repository}))

    async def parts(self) -> AsyncIterator[TagRange]:
        """Look at every tag and manifest; raise ``RegistryUnavailable`` if the registry does not answer."""
        try:
            async for part in self._tags():
                yield part
            if not self._listing.complete:
                # Then tags may be missing that are on no record, and the comparison is not complete.
                reason = "; ".join(self._listing.reasons) or "listing incomplete"
                yield TagRange(undecided=[Undecided(tag=TagName(""), reason=reason, kind=LISTING_INCOMPLETE)])
            async for part in self._manifests():
                yield part
        except ExceptionGroup as failures:
            raise first_unavailable(failures) or failures from failures

    async def _tags(self) -> AsyncIterator[TagRange]:
        missing: dict[TagName, Missing] = {}
        records: dict[TagName, RecordedTag | None] = {}
        async for page in self._pages():
            looked = await observe_tags_once(
                self._comparer.registry,
                self.repository,
                [self._question(tag, record) for tag, record in page.items()],
                limit=self._comparer.limit,
            )
            missing |= looked.missing
            records |= {tag: page[tag] for tag in looked.missing}
            yield await self._part(looked.answered, page)
            if len(missing) >= CONFIRMED_TOGETHER:
                yield await self._settle(missing, records)
                missing, records = {}, {}
        if missing:
            yield await self._settle(missing, records)

    async def _settle(
        self, missing: Mapping[TagName, Missing], records: Mapping[TagName, RecordedTag | None]
    ) -> TagRange:
        settled = await confirm_missing(
            self._comparer.registry, self.repository, missing, limit=self._comparer.limit
        )
        return await self._part(settled, records)

    async def _part(self, answered: Answered, records: Mapping[TagName, RecordedTag | None]) -> TagRange:
        async with connection(self._comparer.pool) as held:
            dummies = await manifests.find_dummies(held)
        observations = [
            (as_deletion(look, dummies), records[tag]) for tag, look in answered.observations.items()
        ]
        served = {
            look.digest: look.of_manifest(look.digest)
            for look, _ in observations
            if look.outcome is TagState.POINTS and look.digest is not None
        }
        if not self._comparer.keeps_record:
            self._remembered.update(map(digest_to_bytes, served))
        return TagRange(observations=observations, served=list(served.values()), undecided=answered.undecided)

    async def _pages(self) -> AsyncIterator[dict[TagName, RecordedTag | None]]:
        page: dict[TagName, RecordedTag | None] = {}
        async for tag, record in self._wanted():
            page[tag] = record
            if len(page) == PAGE:
                yield page
                page = {}
        if page:
            yield page

    async def _wanted(self) -> AsyncIterator[tuple[TagName, RecordedTag | None]]:
        """Go through what is listed and what is on record side by side: both are sorted by byte."""
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
        """The cheap look where the manifest was read not long ago; a tag known to be broken may answer 500 for ever."""
        if record is None or record.digest is None or record.broken or record.read_at is None:
            known = None if record is None else record.digest
            return TagQuestion(tag=tag, on_record=known, unreadable=record is not None and record.broken)
        if not record.held:
            return TagQuestion(tag=tag, on_record=record.digest)
        fresh = self.began - record.read_at < self._comparer.reread_after
        return TagQuestion(tag=tag, if_digest=record.digest if fresh else None, on_record=record.digest)

    async def _manifests(self) -> AsyncIterator[TagRange]:
        """Ask for the manifests on record that nothing has confirmed lately: untagged ones are in no listing."""
        after = b""
        while page := await self._unconfirmed(after):
            after = digest_to_bytes(page[-1].digest)
            asked = [record for record in page if digest_to_bytes(record.digest) not in self._remembered]
            async with TaskGroup() as group:
                observations = [group.create_task(self._check(record)) for record in asked]
            results = [(record, look.result()) for record, look in zip(asked, observations, strict=True)]
            found = [
                (record, _manifest_observation(record, look))
                for record, look in results
                if not isinstance(look, Undecided)
            ]
            yield TagRange(
                gone=[each for record, each in found if not each.served and record.present],
                served=[each for _, each in found if each.served],
                returned=[each for record, each in found if each.served and not record.present],
                undecided=[look for _, look in results if isinstance(look, Undecided)],
                manifests_checked=len(asked),
            )

    async def _unconfirmed(self, after: bytes) -> list[ManifestRecord]:
        async with connection(self._comparer.pool) as held:
            return await manifests.list_held(
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


def _manifest_observation(record: ManifestRecord, look: ManifestAnswer) -> ManifestObservation:
    found = look if isinstance(look, Found) else None
    return ManifestObservation(
        repository=record.repository,
        digest=record.digest,
        served=found is not None,
        observed_at=look.observed_at,
        as_of=look.as_of,
        media_type=found.media_type if found is not None else "",
        size_bytes=found.size if found is not None else 0,
    )

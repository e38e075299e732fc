"""The job ``storage-import``: tags with their past, and manifests that no API lists, from the registry's storage.

Repository by repository in the order of their names, in batches. A process that takes the job after another was killed
goes on after the last repository that was finished; what it reads again changes nothing.

Three things go on at a time: links are read of one batch, manifests are stored of the one before it, tags of the one
before that. Each of the three keeps the order of the batches, so a tag's manifest is on record before the tag.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import structlog

from indexer.common.errors import StoreBusy, StoreError, StoreUnavailable
from indexer.inventory.apply_storage import ManifestFound, TagFound, TagVerdict
from indexer.inventory.changes import WorkKind
from indexer.jobs.params import StorageImportParams
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store import apply, manifest_contents, manifests, repositories, work_items
from indexer.store.manifest_contents import ReadManifest
from indexer.store.pool import connection, transaction
from indexer.store.work_items import WorkKey
from reconciler.acting.context import JobContext
from reconciler.storage.canary import proven
from reconciler.storage.gathering import Batch, RevisionLink, batches, list_repositories
from reconciler.storage.manifests import Contents, NotServed, read_contents
from reconciler.storage.objects import Storage, open_storage

log = structlog.get_logger()

UNIT: Final = "repositories"
REPORT_EVERY: Final = timedelta(seconds=1)

T = TypeVar("T")


async def run(context: JobContext) -> Mapping[str, Any]:
    """Import, and return what was found by what it came to."""
    params = StorageImportParams.model_validate(context.job.params)
    components = context.components
    storage = await asyncio.to_thread(open_storage, components.settings)
    proof = await proven(storage, components.registry, components.pool, needs_canary=True)
    names = await asyncio.to_thread(list_repositories, storage)
    if params.repositories is not None:
        names = [name for name in names if name in set(params.repositories)]
    done = await _Import(context, storage, names).run()
    return {**done, "storage": proof.show()}


class _Import:
    """One import. What it counts is kept with the place from which it goes on."""

    def __init__(self, context: JobContext, storage: Storage, names: Sequence[RepositoryName]) -> None:
        state = context.state
        self._context = context
        self._storage = storage
        self._counts: Counter[str] = Counter(state.get("counts", {}))
        self._total = len(names)
        self._names = [name for name in names if name > state.get("after", "")]
        self._unreadable: set[Digest] = set()
        self._reported_at = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> dict[str, int]:
        """Work through the repositories, reading ahead."""
        storing: asyncio.Task[None] | None = None
        try:
            async with aclosing(_ahead(batches(self._storage, self._names), "storage batch")) as found:
                async for batch in found:
                    await self._context.check()
                    counts: Counter[str] = Counter(tags_left_out=batch.unreadable)
                    await self._take_manifests(batch, counts)
                    if storing is not None:
                        await storing
                    storing = asyncio.create_task(self._finish(batch, counts), name="storage tags")
                if storing is not None:
                    await storing
        finally:
            if storing is not None:
                storing.cancel()
                await asyncio.gather(storing, return_exceptions=True)
        return {name: self._counts[name] for name in COUNTED}

    async def _finish(self, batch: Batch, counts: Counter[str]) -> None:
        """Store the tags of a batch whose manifests are stored, and note how far it went."""
        if batch.tags:
            await self._take_tags(batch.tags, counts)
        counts["repositories"] += batch.repositories
        self._counts += counts
        if batch.complete is not None:
            await self._context.save({"after": batch.complete, "counts": dict(self._counts)})
        await self._report()

    async def _take_manifests(self, batch: Batch, counts: Counter[str]) -> None:
        """Record the manifests of a batch whose bytes are right, and what those hold that were not read before."""
        if batch.revisions or batch.tags:
            names = {each.repository for each in batch.revisions} | {each.repository for each in batch.tags}
            await self._context.components.lookups.repositories(dict.fromkeys(names, batch.read_at))
        if not batch.revisions:
            return
        links: dict[Digest, list[RevisionLink]] = {}
        for link in batch.revisions:
            links.setdefault(link.digest, []).append(link)
        async with connection(self._context.components.pool) as held:
            known = await manifests.find_manifests(held, digests=links)
        self._unreadable = {digest for digest, row in known.items() if row.content == "unreadable"}
        read = [digest for digest in links if digest in known and known[digest].read]
        await self._record(batch, [link for digest in read for link in links.pop(digest)], {}, counts)
        async with aclosing(
            _ahead(read_contents(self._storage, sorted(links)), "storage manifests")
        ) as found:
            async for some in found:
                await self._context.check()
                await self._store(batch, links, some, counts)

    async def _store(
        self,
        batch: Batch,
        links: Mapping[Digest, Sequence[RevisionLink]],
        some: Contents,
        counts: Counter[str],
    ) -> None:
        for digest, why in some.not_served.items():
            counts["manifests_left_out"] += len(links[digest])
            level = log.debug if why is NotServed.DUMMY else log.warning
            level("manifest_left_out", digest=digest, why=why.value, repository=links[digest][0].repository)
        by_digest = {read.digest: read for read in some.read}
        await self._record(batch, [link for digest in by_digest for link in links[digest]], by_digest, counts)
        new = [read for read in some.read if read.readable or read.digest not in self._unreadable]
        if new:
            await self._store_contents(new, counts)
            await self._measure({link.repository for read in new for link in links[read.digest]})

    async def _store_contents(self, reads: Sequence[ReadManifest], counts: Counter[str]) -> None:
        """Store what manifests hold, together; if that fails one by one, so that one does not block the others."""
        components = self._context.components
        try:
            now = datetime.now(UTC)
            await manifest_contents.store_manifests(components.pool, components.lookups, reads, now=now)
        except (StoreUnavailable, StoreBusy):
            raise
        except StoreError as error:
            if len(reads) == 1:
                counts["manifests_left_out"] += 1
                log.warning("manifest_not_stored", digest=reads[0].digest, error=str(error))
                return
            for read in reads:
                await self._store_contents([read], counts)
            return
        counts["manifests_read"] += len(reads)

    async def _measure(self, names: Iterable[RepositoryName]) -> None:
        """Have the sizes of repositories computed, now that the sizes of their manifests are known."""
        now = datetime.now(UTC)
        async with transaction(self._context.components.pool) as held:
            ids = await repositories.find_ids(held, names=names)
            keys = [
                WorkKey(kind=WorkKind.MEASURE, repository_id=number, key="")
                for number in sorted(ids.values())
            ]
            await work_items.enqueue(held, keys=keys, now=now, due_at=now + work_items.MEASURE_DELAY)

    async def _record(
        self,
        batch: Batch,
        links: Sequence[RevisionLink],
        contents: Mapping[Digest, ReadManifest],
        counts: Counter[str],
    ) -> None:
        """Record which repositories have which manifests, before their content: sizes of indexes follow from both."""
        found = [_found(link, contents.get(link.digest), batch.read_at) for link in links]
        if not found:
            return
        now = datetime.now(UTC)
        async with transaction(self._context.components.pool) as held:
            new = await apply.apply_found_manifests(held, self._context.components.lookups, found, now=now)
        counts["manifests_found"] += new

    async def _take_tags(self, tags: Sequence[TagFound], counts: Counter[str]) -> None:
        now = datetime.now(UTC)
        async with transaction(self._context.components.pool) as held:
            results = await apply.apply_found_tags(held, self._context.components.lookups, tags, now=now)
        for tag, result in zip(tags, results, strict=True):
            if result is None:
                counts["tags_left_out"] += 1
                log.warning("tag_left_out", repository=tag.repository, tag=tag.tag, digest=tag.digest)
                continue
            counts[_COUNT_OF[result.verdict]] += 1
            counts["earlier_digests"] += result.placed
            counts["earlier_digests_undated"] += result.undated

    async def _report(self) -> None:
        now = datetime.now(UTC)
        if now - self._reported_at < REPORT_EVERY:
            return
        self._reported_at = now
        tags = sum(self._counts[name] for name in _COUNT_OF.values())
        await self._context.progress(self._counts["repositories"], self._total, UNIT, f"{tags} tags")


_COUNT_OF: Final = {
    TagVerdict.CREATED: "tags_created",
    TagVerdict.DATED: "tags_dated",
    TagVerdict.EXTENDED: "tags_extended",
    TagVerdict.UNCHANGED: "tags_unchanged",
    TagVerdict.DIFFERS: "tags_to_verify",
}
COUNTED: Final = (
    "repositories",
    *_COUNT_OF.values(),
    "tags_left_out",
    "earlier_digests",
    "earlier_digests_undated",
    "manifests_found",
    "manifests_read",
    "manifests_left_out",
)
"""The members of a result, in their order."""


def _found(link: RevisionLink, read: ReadManifest | None, read_at: datetime) -> ManifestFound:
    return ManifestFound(
        repository=link.repository,
        digest=link.digest,
        written_at=link.written_at,
        read_at=read_at,
        media_type="" if read is None else read.media_type,
        size_bytes=0 if read is None else read.size_bytes,
    )


async def _ahead(values: Iterator[T], name: str) -> AsyncGenerator[T, None]:
    """Yield values that a worker thread makes, the next one while one is worked on."""
    making = asyncio.create_task(asyncio.to_thread(_next, values), name=name)
    try:
        while (value := await making) is not None:
            making = asyncio.create_task(asyncio.to_thread(_next, values), name=name)
            yield value
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)


def _next(values: Iterator[T]) -> T | None:
    """Return the next of some values, or None: an exception that ends an iterator ends no task."""
    return next(values, None)

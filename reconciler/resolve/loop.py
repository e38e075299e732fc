"""The loop that resolves manifests: those named by events and observations, then their children."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from indexer.background.loop import IterationResult
from indexer.common.backoff import growing_wait
from indexer.common.errors import RegistryError, StoreUnavailable
from indexer.inventory.changes import AuditSource, Change, ManifestChanged, VerifyTagsOfDigest, WorkKind
from indexer.inventory.dummies import is_dummy_content
from indexer.inventory.observations import ManifestObservation
from indexer.inventory.precedence import RACE_WINDOW
from indexer.inventory.records import ManifestKey
from indexer.oci.config import ImageConfig, parse_image_config
from indexer.oci.digest import Digest, parse_digest
from indexer.oci.manifest import ParsedManifest, parse_manifest
from indexer.oci.reference import RepositoryName
from indexer.store import (
    apply,
    manifest_contents,
    manifests,
    repositories,
    tags,
    work_items,
    write_notices,
)
from indexer.store.apply import Stored
from indexer.store.lookups import Lookups
from indexer.store.manifest_contents import ReadManifest
from indexer.store.pool import Connection, Pool, connection, transaction
from indexer.store.work_items import Deferred, WorkItem, WorkKey
from reconciler.observing.contents import (
    MAX_CONFIG_BYTES,
    config_to_read,
    describe,
    is_read_as_manifest,
    unreadable,
)
from reconciler.observing.tags import raise_if_down
from reconciler.registry.answers import Dated, ManifestContent, NotFound
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

BATCH = 64
LEASE = timedelta(seconds=30)
"""A batch takes a few seconds. If it takes longer, the work is done twice, which changes nothing. If its worker dies,
the work waits this long."""

CONCURRENT_BATCHES = 2
IN_A_ROW = 5
"""While whole batches wait: one is stored while the registry serves the next; and how many each task does of them."""

MOST_LOGGED = 5
REST_SECONDS = 1.0
RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(minutes=30)
ATTEMPTS_UNTIL_ABSENT = 2
"""404 answers before a manifest is recorded as deleted."""
CONFIG_ATTEMPTS = 10
"""Attempts to read a config that the registry cannot serve, over an hour and a half. The manifest is stored after the
first; after the last the config stays marked as unread until its manifest is pushed again."""
ATTEMPTS_UNTIL_WAITED = 3
"""The waits before them, of ``RACE_WINDOW`` and longer, add up to more than the clock margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the registry served for a work item, parsed; ``again``: when its config is tried again."""

    row: WorkItem
    content: ManifestContent
    read: ReadManifest
    again: Deferred | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """The bytes of an image config, or None; ``failed``: the registry could not serve them."""

    blob: bytes | None = None
    failed: bool = False


_Result = Deferred | BaseException | None
"""The result for a work item: when to try again, what failed, or None: it is done."""


class Resolver:
    """The loop of work items of kind ``resolve``."""

    name = "resolve"

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        registry: Registry,
        *,
        concurrency: int,
        repositories: Sequence[RepositoryName] | None = None,
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._registry = registry
        self._limit = asyncio.Semaphore(concurrency)
        self._repositories = repositories
        self._behind = False
        self._of_cache = False
        """Whether the registry is a pull-through cache: then only manifests pulled through it are read, by digest."""

    async def run_once(self) -> IterationResult:
        """Resolve one batch, several concurrently while whole batches wait.

        Raises ``RegistryUnavailable`` if the registry does not answer.
        """
        done = await (self._catch_up() if self._behind else self._resolve_next())
        self._behind = done >= BATCH
        return IterationResult(items=done, rest_seconds=0 if done else REST_SECONDS)

    async def _catch_up(self) -> int:
        """Resolve batches concurrently; return the number of manifests."""

        async def resolve_some() -> int:
            done = 0
            for _ in range(IN_A_ROW):
                count = await self._resolve_next()
                done += count
                if count < BATCH:
                    break
            return done

        results = await asyncio.gather(
            *(resolve_some() for _ in range(CONCURRENT_BATCHES)), return_exceptions=True
        )
        if failures := [result for result in results if isinstance(result, BaseException)]:
            raise failures[0]
        return sum(result for result in results if not isinstance(result, BaseException))

    async def _lease(self) -> list[WorkItem]:
        async with connection(self._pool) as held:
            return await work_items.lease_work(
                held,
                kind=WorkKind.RESOLVE,
                now=datetime.now(UTC),
                lease=LEASE,
                limit=BATCH,
                repositories=self._repositories,
            )

    async def _resolve_next(self) -> int:
        """Resolve the next batch; return the number of its manifests."""
        rows = await self._lease()
        if not rows:
            return 0
        try:
            self._of_cache = (await self._registry.kind()).is_cache
        except RegistryError as error:
            await self._end(rows, [error] * len(rows))
            raise
        answers = await asyncio.gather(*(self._ask(row) for row in rows), return_exceptions=True)
        await self._end(rows, await self._store(answers))
        return len(rows)

    async def _end(self, rows: list[WorkItem], results: Sequence[_Result]) -> None:
        """Complete, reschedule or give back each item; then raise an error of the registry or database as a whole.

        Any other error counts as a failed attempt of its manifest, which is tried again after a growing wait.
        """
        now = datetime.now(UTC)
        done: list[WorkItem] = []
        later: list[Deferred] = []
        unavailable: list[BaseException] = []
        for row, result in zip(rows, results, strict=True):
            if result is None:
                done.append(row)
            elif isinstance(result, Deferred):
                later.append(result)
            elif _is_common(result):
                unavailable.append(result)
                later.append(Deferred.given_back(row, due_at=now))
            else:
                reason = f"{type(result).__name__}: {result}"
                log.warning("manifest_not_stored", repository=row.repository, digest=row.key, error=reason)
                later.append(_later(row))
        async with transaction(self._pool) as held:
            await work_items.complete(held, rows=done, now=now)
            await work_items.reschedule(held, deferred=later, now=now)
            await write_notices.tell_read(held)
        for error in unavailable:
            raise error

    async def _ask(self, row: WorkItem) -> _Answer | Deferred | None:
        """Read one manifest; return what to store, when to try again, or None: nothing is left to do."""
        digest = parse_digest(row.key)
        async with self._limit:
            try:
                content = await self._registry.get_manifest(row.repository, digest)
                if isinstance(content, NotFound):
                    return await self._missing(row, digest, content)
                manifest, read, config = await self._read(row.repository, content)
            except RegistryError as error:
                await raise_if_down(self._registry, error)
                log.warning("manifest_not_read", repository=row.repository, digest=digest, error=str(error))
                return _later(row)
        if manifest is not None and config.blob is not None and is_dummy_content(manifest, config.blob):
            await self._store_dummy(row, read, content)
            return None
        again = (
            _later(row, observation=row.key) if config.failed and row.attempts + 1 < CONFIG_ATTEMPTS else None
        )
        return _Answer(row=row, content=content, read=read, again=again)

    async def _store(self, answers: Sequence[_Answer | _Result]) -> list[_Result]:
        """Store what was read in one transaction; if that fails one by one, so that one does not block the others.

        If the database fails, that is the result of all that were to be stored: they are given back.
        """
        results: list[_Result] = [each.again if isinstance(each, _Answer) else each for each in answers]
        to_store = {number: each for number, each in enumerate(answers) if isinstance(each, _Answer)}
        try:
            stored = await self._store_together(list(to_store.values()))
        except StoreUnavailable as error:
            return [error if number in to_store else each for number, each in enumerate(results)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it counts against the item that causes it
            if len(to_store) == 1:
                return [error if number in to_store else each for number, each in enumerate(results)]
            away: _Result = None
            for number, answer in to_store.items():
                if away is None:
                    (results[number],) = await self._store([answer])
                    away = results[number] if isinstance(results[number], StoreUnavailable) else None
                else:
                    results[number] = away
            return results
        for number, result in zip(to_store, stored, strict=True):
            results[number] = result
        return results

    async def _store_together(self, answers: Sequence[_Answer]) -> list[_Result]:
        """Store what was read; return for each when to read it again, if its record is too young to be changed."""
        if not answers:
            return []
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            observations = [_served(answer) for answer in answers]
            stored = await apply.apply_manifest_observations(
                held,
                self._lookups,
                observations,
                source=AuditSource.VERIFY,
                now=now,
                waited={_key(answer.row) for answer in answers if _has_waited(answer.row)},
            )
            # Before the sizes of indexes are computed: a child recorded later would be missing in them.
            present = await self._present_children(held, answers)
        await manifest_contents.store_manifests(
            self._pool, self._lookups, [answer.read for answer in answers], now=now
        )
        async with connection(self._pool) as held:
            unread = await self._unread_children(held, answers, present)
            await work_items.enqueue(held, keys=unread, now=now, due_at=now)
            numbers = {answer.row.repository_id for answer in answers}
            keys = [
                WorkKey(kind=WorkKind.MEASURE, repository_id=number, key="") for number in sorted(numbers)
            ]
            await work_items.enqueue(held, keys=keys, now=now, due_at=now + work_items.MEASURE_DELAY)
        return [
            _later(answer.row, retry=RACE_WINDOW, observation=answer.row.key)
            if result is Stored.INCONCLUSIVE
            else answer.again
            for answer, result in zip(answers, stored, strict=True)
        ]

    async def _read(
        self, repository: RepositoryName, content: ManifestContent
    ) -> tuple[ParsedManifest | None, ReadManifest, _Config]:
        size = len(content.content)
        try:
            manifest = parse_manifest(content.content, content.media_type)
        except ValueError as error:
            log.warning("manifest_unreadable", repository=repository, digest=content.digest, error=str(error))
            read = unreadable(content.media_type, digest=content.digest, size_bytes=size)
            return None, read, _Config()
        blob = await self._read_config(repository, manifest)
        config = None if blob.blob is None else _parse_config(repository, blob.blob)
        read = describe(manifest, config, digest=content.digest, size_bytes=size)
        if read.unread:
            reasons = [each.reason for each in (*manifest.unread, *(config.unread if config else ()))]
            log.warning(
                "manifest_partly_read",
                repository=repository,
                digest=content.digest,
                unread=list(read.unread[:MOST_LOGGED]),
                reasons=reasons[:MOST_LOGGED],
            )
        return manifest, read, blob

    async def _read_config(self, repository: RepositoryName, manifest: ParsedManifest) -> _Config:
        """Read the config; the manifest is stored even if the registry cannot serve it."""
        descriptor = config_to_read(manifest)
        if descriptor is None or self._of_cache:
            return _Config()  # a cache would fetch a blob that it does not have
        known = {"repository": repository, "digest": descriptor.digest}
        if descriptor.size > MAX_CONFIG_BYTES:
            log.warning("config_too_large", **known, size_bytes=descriptor.size)
            return _Config()
        try:
            blob = await self._registry.get_blob(repository, descriptor.digest, limit=MAX_CONFIG_BYTES)
        except RegistryError as error:
            await raise_if_down(self._registry, error)
            log.warning("config_not_read", **known, error=str(error))
            return _Config(failed=True)
        if blob is None:
            log.warning("config_missing", **known)
        return _Config(blob=blob)

    async def _store_dummy(self, row: WorkItem, read: ReadManifest, content: ManifestContent) -> None:
        """Store a new dummy manifest of GitLab's: no repository has it, and its tags are verified again."""
        now = datetime.now(UTC)
        log.info("dummy_manifest_recognised", repository=row.repository, digest=read.digest)
        key = (row.repository, read.digest)
        async with transaction(self._pool) as held:
            ids = await repositories.lock_repositories(held, names={row.repository})
            await manifests.add_dummy(held, digest=read.digest, at=now)
            record = (await manifests.find_repository_manifests(held, keys=[key], repository_ids=ids)).get(
                key
            )
            changes: list[Change] = [VerifyTagsOfDigest(repository=row.repository, digest=read.digest)]
            if record is not None and record.present:
                as_of = max(record.as_of, content.as_of)
                gone = replace(record, as_of=as_of, deleted_at=content.observed_at)
                changes.append(ManifestChanged(before=record, after=gone))
            await apply.apply_changes(held, self._lookups, changes, repositories=[row.repository], now=now)
        await manifest_contents.store_manifests(self._pool, self._lookups, [read], now=now)

    async def _present_children(
        self, held: Connection, answers: Sequence[_Answer]
    ) -> Container[tuple[RepositoryName, Digest]]:
        """Return which children are on record in the repository of their index; the repositories are locked."""
        children = _children_of(answers)
        if not children:
            return ()
        on_record = await manifests.find_repository_manifests(
            held,
            keys=[(row.repository, digest) for row, digest in children],
            repository_ids={row.repository: row.repository_id for row, _ in children},
        )
        return {key for key, record in on_record.items() if record.present}

    async def _unread_children(
        self,
        held: Connection,
        answers: Sequence[_Answer],
        present: Container[tuple[RepositoryName, Digest]],
    ) -> list[WorkKey]:
        """Return the children to resolve: not read yet, or not on record in this repository though read elsewhere."""
        children = _children_of(answers)
        if not children or self._of_cache:
            return []  # a child that is pulled through a cache has an event of its own
        found = await manifests.find_manifests(held, digests={digest for _, digest in children})
        return [
            WorkKey(kind=WorkKind.RESOLVE, repository_id=row.repository_id, key=digest)
            for row, digest in children
            if not (digest in found and found[digest].read and (row.repository, digest) in present)
        ]

    async def _missing(self, row: WorkItem, digest: Digest, answer: NotFound) -> Deferred | None:
        """Decide about a 404: believed the second time, and not while a push may still be under way.

        If a live tag points to the manifest, the tag is verified first: a manifest served through its tag is not gone,
        and a tag that is not served is broken. Until then the 404 counts as a failed attempt.
        """
        if row.attempts + 1 < ATTEMPTS_UNTIL_ABSENT:
            return _later(row, retry=RACE_WINDOW, observation=work_items.ABSENT)
        if self._of_cache:  # a cache answers 404 for what it dropped and cannot fetch: that is no absence
            log.info("manifest_not_in_cache", repository=row.repository, digest=digest)
            return None
        now = datetime.now(UTC)
        key = (row.repository, digest)
        async with transaction(self._pool) as held:
            ids = await repositories.lock_repositories(held, names={row.repository})
            if key in await tags.find_pointing(held, keys=[key], repository_ids=ids):
                ask = VerifyTagsOfDigest(repository=row.repository, digest=digest)
                await apply.apply_changes(held, self._lookups, [ask], repositories=[row.repository], now=now)
                return _later(row, observation=work_items.ABSENT)
            (stored,) = await apply.apply_manifest_observations(
                held,
                self._lookups,
                [_observation(row.repository, digest, answer, served=False)],
                source=AuditSource.VERIFY,
                now=now,
                waited={key} if _has_waited(row) else (),
            )
            if stored is Stored.INCONCLUSIVE:
                return _later(row, retry=RACE_WINDOW, observation=work_items.ABSENT)
            await manifest_contents.mark_unreadable(held, digest=digest, now=now)
        return None


class WantedResolver(Resolver):
    """The loop of manifests that questions about referrers wait for: no other work holds it up."""

    name = "referrers"

    async def _lease(self) -> list[WorkItem]:
        async with connection(self._pool) as held:
            return await work_items.lease_wanted(held, now=datetime.now(UTC), lease=LEASE, limit=BATCH)


def _children_of(answers: Sequence[_Answer]) -> list[tuple[WorkItem, Digest]]:
    return [
        (answer.row, child.digest)
        for answer in answers
        for child in answer.read.children
        if is_read_as_manifest(child)
    ]


def _is_common(error: BaseException) -> bool:
    """Return whether an error is not about the manifest: registry or database do not answer, or we are cancelled."""
    return isinstance(error, RegistryError | StoreUnavailable) or not isinstance(error, Exception)


def _key(row: WorkItem) -> ManifestKey:
    return row.repository, parse_digest(row.key)


def _has_waited(row: WorkItem) -> bool:
    """Return whether so many attempts followed the last event of the manifest that the clock margin is over."""
    return row.attempts >= ATTEMPTS_UNTIL_WAITED


def _served(answer: _Answer) -> ManifestObservation:
    content = answer.content
    observation = _observation(answer.row.repository, content.digest, content, served=True)
    return replace(observation, media_type=content.media_type, size_bytes=len(content.content))


def _observation(
    repository: RepositoryName, digest: Digest, answer: Dated, *, served: bool
) -> ManifestObservation:
    return ManifestObservation(
        repository=repository,
        digest=digest,
        served=served,
        observed_at=answer.observed_at,
        as_of=answer.as_of,
    )


def _parse_config(repository: RepositoryName, blob: bytes) -> ImageConfig | None:
    try:
        return parse_image_config(blob)
    except ValueError as error:
        log.warning("config_unreadable", repository=repository, error=str(error))
        return None


def _later(row: WorkItem, *, retry: timedelta = RETRY, observation: str | None = None) -> Deferred:
    seconds = growing_wait(
        row.attempts + 1, first=retry.total_seconds(), longest=LONGEST_RETRY.total_seconds()
    )
    wait = timedelta(seconds=seconds)
    return Deferred(
        row=row,
        due_at=datetime.now(UTC) + wait,
        attempts=row.attempts + 1,
        last_observation=observation,
    )

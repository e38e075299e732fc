"""The requests that change a tag: each on record before it is sent, sent once, and only on what was just looked at.

Deleting a tag with DELETE, where the registry can (3.x)::

    look ─▶ keep the manifests, put the action on record ─▶ look in a later second ─▶ DELETE tag ─▶ settle

With a dummy manifest, where it deletes manifests only (2.8). The dummy is unique to the batch, so its deletion touches
no other tag; its digest is on record before the first PUT, so that a crash leaves nothing unknown::

    look ─▶ keep, record ─▶ upload the dummy's config ─▶ per tag: look, PUT tag ─▶ DELETE dummy ─▶ settle

The two looks lie in different seconds of the registry's clock, which shows whole seconds: a push that was made before
the first look is then certainly older than the second.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, Protocol

import structlog

from indexer.common.errors import IndexerError, RegistryDenied, RegistryError, RegistryMisbehaved
from indexer.inventory.own_actions import ActionKind, TagAction, WatchedEvent
from indexer.inventory.records import TimeSource
from indexer.oci import media_types
from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import manifests as manifests_store
from indexer.store import tag_actions as store
from indexer.store.pool import Connection, Pool, connection, transaction
from indexer.store.tag_actions import KeptManifest, RecordedTag
from reconciler.cleanup import observe
from reconciler.cleanup.mounting import mount_back
from reconciler.cleanup.observe import Look, Unreadable, Way
from reconciler.registry.answers import Deletion, NotFound
from reconciler.registry.exchange import Once
from reconciler.registry.manifests import manifest_path
from reconciler.registry.protocol import ActingRegistry

log = structlog.get_logger()

LEASE_SECONDS: Final = 60.0
SEND_WITHIN_SECONDS: Final = 45.0
"""After a lease was extended a request may begin so long: it ends before another process takes the action."""

EXTEND_EVERY_SECONDS: Final = LEASE_SECONDS / 10

BATCH: Final = 50
"""Tags that point to one dummy at a time: while they do, a pull gets an empty image."""

WATCHED: Final = timedelta(days=1)
"""How long a push that is announced late is still put back."""

NEXT_SECOND: Final = 1.05
VERIFIED_WITHIN_SECONDS: Final = 10.0
SETTLE_AFTER: Final = timedelta(milliseconds=300)
AGAIN_AFTER: Final = timedelta(seconds=2)


class LeaseLost(IndexerError):  # noqa: N818 - a state
    """Another process may act by now, so nothing more is sent."""


class SkipError(Exception):
    """Nothing is done for a tag, and why; ``code`` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Check(Protocol):
    """Raises where nothing more may be done: a job that was cancelled, or whose lease another process has.

    ``finishing``: something is half done that must not stay so.
    """

    def __call__(self, *, finishing: bool = False) -> Awaitable[None]:
        """Return if the next request may be sent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Who wants it: ``source`` is ``operator`` or ``policy``."""

    source: str
    actor: str | None = None
    reason: str | None = None
    job: uuid.UUID | None = None
    kept_for: timedelta = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A tag to delete; ``digest``: what it must point to (None: whatever it does now).

    ``reason``: why this tag, where that is not what is said for all.
    """

    tag: TagName
    digest: Digest | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A tag for which nothing was sent, and why: ``code`` is stable."""

    tag: TagName
    code: str
    text: str


@dataclass(slots=True, kw_only=True)
class Deleting:
    """What came of a call: the actions that were begun, and the tags that were skipped."""

    begun: list[uuid.UUID] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A tag whose deletion is on record."""

    action: TagAction
    first: Look


async def _always(*, finishing: bool = False) -> None:  # noqa: ARG001 - the protocol's
    return None


class Actor:
    """Sends what changes tags. ``holder`` names this object's leases; ``check`` is asked before every such request."""

    def __init__(self, pool: Pool, registry: ActingRegistry, *, check: Check = _always) -> None:
        self._pool = pool
        self.registry = registry
        self.check = check
        self.holder = uuid.uuid4()

    # --- deleting ---------------------------------------------------------------------------------------------

    async def delete_tags(
        self, repository: RepositoryName, wanted: Sequence[Wanted], why: Why, *, way: Way, result: Deleting
    ) -> None:
        """Delete tags, a batch at a time, adding to ``result``; raise the registry errors and what ``check`` raises."""
        try:
            for start in range(0, len(wanted), BATCH):
                ready = await self._prepare(repository, wanted[start : start + BATCH], why, result)
                if not ready:
                    continue
                await self._wait_for_next_second(repository, ready)
                if way is Way.BY_TAG:
                    for number, each in enumerate(ready):
                        left = [other.action.id for other in ready[number:]]
                        await self._delete_by_tag(each.action, left, result)
                else:
                    await self._delete_by_dummy(repository, ready, result)
        finally:
            async with connection(self._pool) as held:
                await store.drop_planned(held, holder=self.holder, now=datetime.now(UTC))

    async def _prepare(
        self, repository: RepositoryName, batch: Sequence[Wanted], why: Why, result: Deleting
    ) -> list[_Ready]:
        """Look at the tags, keep what belongs to them, and put their deletion on record."""
        ready: list[_Ready] = []
        extended_at = monotonic()
        for each in batch:
            await self.check()
            if (
                monotonic() - extended_at > EXTEND_EVERY_SECONDS
            ):  # at a low rate a batch takes longer than a lease
                await self._extend([one.action.id for one in ready])
                extended_at = monotonic()
            try:
                first, recorded = await self._first_look(repository, each)
                async with connection(self._pool) as held:
                    family = await observe.read_family(
                        self.registry, held, repository, first.digest or Digest("")
                    )
            except SkipError as skip:
                result.skipped.append(Skipped(tag=each.tag, code=skip.code, text=str(skip)))
                continue
            except Unreadable as error:
                result.skipped.append(Skipped(tag=each.tag, code="hold.unreadable", text=str(error)))
                continue
            assert first.digest is not None  # noqa: S101 - the look raised otherwise
            of_it = why if each.reason is None else replace(why, reason=each.reason)
            action = planned(ActionKind.DELETE, repository, each.tag, first.digest, of_it, recorded=recorded)
            async with transaction(self._pool) as held:
                if not await self.put_on_record(held, action):
                    skipped = Skipped(
                        tag=each.tag, code="under_way", text="something is under way for this tag already"
                    )
                    result.skipped.append(skipped)
                    continue
                await store.keep_manifests(held, number=action.id, manifests=family, now=action.asked_at)
            ready.append(_Ready(action=action, first=first))
        return ready

    async def put_on_record(self, held: Connection, action: TagAction) -> bool:
        """Put an action on record before anything is sent; False: something is under way for it."""
        return await store.plan_action(
            held,
            action,
            watched_until=action.asked_at + WATCHED,
            lease_seconds=LEASE_SECONDS,
            holder=self.holder,
        )

    async def _first_look(self, repository: RepositoryName, wanted: Wanted) -> tuple[Look, RecordedTag]:
        """Look at a tag that the inventory must know as it is; raise ``SkipError``."""
        until = monotonic() + VERIFIED_WITHIN_SECONDS
        while True:
            async with connection(self._pool) as held:
                recorded = await store.find_recorded(held, repository=repository, tags=[wanted.tag])
            on_record = recorded.get(wanted.tag)
            expected = wanted.digest or (None if on_record is None else on_record.digest)
            look = await observe.look_at(self.registry, repository, wanted.tag, expected=expected)
            if look.digest is None:
                raise SkipError("skipped.absent", "the registry does not have this tag")
            if wanted.digest is not None and look.digest != wanted.digest:
                raise SkipError("skipped.changed", f"the tag points to {look.digest} by now")
            if on_record is not None and on_record.digest == look.digest and on_record.verified:
                return look, on_record
            if monotonic() > until:
                raise SkipError(
                    "skipped.unverified",
                    "the inventory does not know this tag as it is: it was changed just now, or run "
                    "`reconciler once` first",
                )
            await asyncio.sleep(0.1)

    async def _wait_for_next_second(self, repository: RepositoryName, ready: Sequence[_Ready]) -> None:
        """Wait until the registry's clock shows a later second than the last first look did."""
        newest = max(ready, key=lambda each: each.first.at)
        await self._extend([each.action.id for each in ready])
        while True:
            look = await observe.look_at(
                self.registry, repository, newest.action.tag, expected=newest.action.digest
            )
            if look.at > newest.first.at:
                return
            await asyncio.sleep(NEXT_SECOND / 4)

    async def _delete_by_tag(self, action: TagAction, left: Sequence[uuid.UUID], result: Deleting) -> None:
        before = await self.permit(left)
        look = await self._second_look(action, result)
        if look is None:
            return
        once = await self.note({action.id: look.at}, "DELETE", action.repository, action.tag, before)
        result.begun.append(action.id)
        try:
            answer = await self.registry.delete_once(action.repository, action.tag, once=once)
        except RegistryError as error:
            await self.unanswered([action.id], error)
            return
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            if answer is Deletion.ACCEPTED:
                await store.mark_done(held, ids=[action.id], now=now, due_at=now + SETTLE_AFTER)
            elif answer is Deletion.ABSENT:
                await self.end(
                    held, action.id, "skipped", "absent", "somebody else deleted the tag meanwhile"
                )
            else:
                await self.end(held, action.id, "refused", "refused", "the registry does not delete this tag")

    async def _second_look(self, action: TagAction, result: Deleting) -> Look | None:
        """Look right before the request; None: the tag is not as it was, which is recorded."""
        look = await observe.look_at(self.registry, action.repository, action.tag, expected=action.digest)
        if look.digest == action.digest:
            return look
        now_is = "is gone" if look.digest is None else f"points to {look.digest}"
        text = f"the tag was changed meanwhile: it {now_is}"
        async with connection(self._pool) as held:
            await self.end(held, action.id, "skipped", "changed", text)
        result.skipped.append(Skipped(tag=action.tag, code="skipped.changed", text=text))
        return None

    # --- 2.8 -----------------------------------------------------------------------------------------------------

    async def _delete_by_dummy(
        self, repository: RepositoryName, ready: Sequence[_Ready], result: Deleting
    ) -> None:
        await self.permit([each.action.id for each in ready])
        async with connection(self._pool) as held:
            kept = await store.kept_of(held, number=ready[0].action.id)
        docker = any(each.role == "tagged" and "docker" in each.media_type for each in kept)
        config, manifest, media_type = dummy_of(ready[0].action.id, docker=docker)
        dummy = digest_of(manifest)
        async with transaction(self._pool) as held:
            await manifests_store.add_dummy(held, digest=dummy, at=datetime.now(UTC))
            await store.keep_dummy(
                held, digest=dummy, media_type=media_type, content=manifest, now=datetime.now(UTC)
            )
        await self.registry.put_blob(repository, config)
        parked: list[TagAction] = []
        skipped: set[uuid.UUID] = set()
        try:
            for each in ready:
                before = await self.permit([r.action.id for r in ready if r.action.id not in skipped])
                action = replace(each.action, dummy=dummy)
                look = await self._second_look(action, result)
                if look is None:
                    skipped.add(action.id)
                    continue
                once = await self.note(
                    {action.id: look.at}, "PUT", repository, action.tag, before, dummy=dummy
                )
                parked.append(action)
                result.begun.append(action.id)
                try:
                    await self.registry.put_manifest_once(
                        repository, action.tag, manifest, media_type=media_type, once=once
                    )
                except RegistryError as error:
                    log.warning("cleanup_request_failed", error=str(error))
        finally:
            if parked:  # also where the job was cancelled: no tag stays on a dummy
                await self.remove_dummy(parked)

    async def remove_dummy(self, parked: Sequence[TagAction]) -> None:
        """Delete a dummy manifest of ours, and with it the tags that point to it and no others."""
        repository, dummy = parked[0].repository, parked[0].dummy
        assert dummy is not None  # noqa: S101 - the caller's
        before = await self.permit([each.id for each in parked], finishing=True)
        async with connection(self._pool) as held:
            # Also those of the batch that another process follows: the request deletes their tags, too.
            ids = await store.with_dummy(held, repository=repository, dummy=dummy)
        once = await self.note(dict.fromkeys(ids), "DELETE", repository, dummy, before)
        try:
            await self.registry.delete_once(repository, dummy, once=once)
        except RegistryError as error:
            await self.unanswered([each.id for each in parked], error)
            return
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            await store.mark_done(held, ids=ids, now=now, due_at=now + SETTLE_AFTER)

    async def finish(self, action: TagAction) -> None:
        """Delete the dummy of a deletion that was interrupted; where it is gone but listed, put it there once more.

        A registry that ends between removing a manifest and removing its tags leaves tags that nothing but a push can
        reach.
        """
        assert action.dummy is not None  # noqa: S101 - the caller's
        seen = await observe.see(self.registry, action.repository, action.tag, dummy=action.dummy)
        if seen.dangling:
            async with connection(self._pool) as held:
                kept = await store.find_kept(held, digest=action.dummy)
            if kept is None:
                raise RegistryMisbehaved(
                    f"{action.repository}:{action.tag} is listed, and nothing but a push can reach it: push "
                    "anything to it, then delete it"
                )
            before = await self.permit([action.id])
            once = await self.note(
                {action.id: None}, "PUT", action.repository, action.tag, before, dummy=action.dummy
            )
            await self.registry.put_manifest_once(
                action.repository, action.tag, kept.content, media_type=kept.media_type, once=once
            )
        await self.remove_dummy([action])

    # --- putting back and restoring ------------------------------------------------------------------------------

    async def put_back(self, action: TagAction, push: WatchedEvent) -> uuid.UUID | None:
        """Push again what somebody pushed and our request undid; None: the tag was changed meanwhile, or is busy."""
        assert push.digest is not None  # noqa: S101 - it is a push
        expected = None if action.kind is ActionKind.DELETE else action.digest
        now = datetime.now(UTC)
        put = replace(
            planned(
                ActionKind.PUT_BACK,
                action.repository,
                action.tag,
                push.digest,
                Why(source=action.source, actor=action.actor, reason=action.reason, job=action.job),
            ),
            of_action=action.id,
            published_at=push.at,
            published_source=TimeSource.EVENT,
            first_seen_at=action.first_seen_at or now,
            pushed_by=push.actor,
        )
        content = await self.content(action.repository, push.digest)
        if content is None:
            log.error("cleanup_push_lost", repository=action.repository, tag=action.tag, digest=push.digest)
            raise RegistryMisbehaved(
                f"{action.repository}:{action.tag}: {push.digest} was pushed while the tag was deleted, and its "
                "manifest is gone: push it again"
            )
        return await self.put(put, expected, content)

    async def restore(
        self, deletion: TagAction, why: Why, *, force: bool, kept: Sequence[KeptManifest]
    ) -> uuid.UUID | None:
        """Put a deleted tag back with everything it needs: children, then the tag, then referrers. Raise ``SkipError``.

        None: there is nothing to do, since the tag points there.
        """
        repository, tag = deletion.repository, deletion.tag
        now_at = await observe.look_at(self.registry, repository, tag)
        if now_at.digest == deletion.digest:
            return None
        if now_at.digest is not None and not force:
            raise SkipError(
                "restore.occupied",
                f"{repository}:{tag} points to {now_at.digest} by now; use --force to have it point to "
                f"{deletion.digest} again",
            )
        tagged = await self.restorable(deletion, kept)
        action = replace(
            planned(ActionKind.RESTORE, repository, tag, deletion.digest, why),
            of_action=deletion.id,
            published_at=deletion.published_at,
            published_source=deletion.published_source,
            first_seen_at=deletion.first_seen_at,
            pushed_by=deletion.pushed_by,
        )
        before_tag = [each for each in kept if each.role == "child"]
        await self.put_missing(repository, before_tag)
        number = await self.put(action, now_at.digest, tagged)
        await self.put_missing(repository, [each for each in kept if each.role == "referrer"])
        return number

    async def restorable(self, deletion: TagAction, kept: Sequence[KeptManifest]) -> KeptManifest:
        """Return the manifest of a deletion, once every blob was delivered that it and its family need.

        Raise ``SkipError`` where that cannot be; it is on record then.
        """
        repository = deletion.repository
        missing = await observe.missing_blob(self.registry, repository, kept)
        if missing is not None and await mount_back(
            self._pool, self.registry, repository, kept, check=self.check
        ):
            missing = await observe.missing_blob(self.registry, repository, kept)
        async with connection(self._pool) as held:
            because = (
                None if missing is None else f"{missing} is gone from the registry: garbage was collected"
            )
            await store.mark_gone(held, number=deletion.id, because=because)
        if because is not None:
            raise SkipError("restore.gone", because)
        content = next((each for each in kept if each.digest == deletion.digest), None)
        if content is None:
            raise SkipError("restore.gone", "its manifest was not kept")
        return content

    async def put_missing(self, repository: RepositoryName, manifests: Sequence[KeptManifest]) -> None:
        """Push manifests by digest that the repository does not have. A digest that is there stays as it is."""
        for each in manifests:
            if not isinstance(await self.registry.head_manifest(repository, each.digest), NotFound):
                continue
            await self.check()
            once = Once(nonce=uuid.uuid4().bytes, before=lambda: None)
            await self.registry.put_manifest_once(
                repository, each.digest, each.content, media_type=each.media_type, once=once
            )

    async def put(
        self, action: TagAction, expected: Digest | None, content: KeptManifest
    ) -> uuid.UUID | None:
        """Push a manifest under a tag that still points to ``expected``; None: it does not, or is busy."""
        async with connection(self._pool) as held:
            if not await self.put_on_record(held, action):
                return None
        try:
            before = await self.permit([action.id])
            look = await observe.look_at(self.registry, action.repository, action.tag, expected=expected)
            if look.digest != expected:
                async with connection(self._pool) as held:
                    await self.end(
                        held, action.id, "skipped", "changed", f"the tag points to {look.digest} by now"
                    )
                return None
            once = await self.note({action.id: look.at}, "PUT", action.repository, action.tag, before)
            await self.registry.put_manifest_once(
                action.repository, action.tag, content.content, media_type=content.media_type, once=once
            )
        except (RegistryDenied, RegistryMisbehaved) as error:
            async with connection(self._pool) as held:
                await self.end(held, action.id, "refused", "refused", str(error)[:500])
            raise
        except RegistryError as error:
            await self.unanswered([action.id], error)
            raise
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            await store.mark_done(held, ids=[action.id], now=now, due_at=now + SETTLE_AFTER)
        return action.id

    async def content(self, repository: RepositoryName, digest: Digest) -> KeptManifest | None:
        """Return a manifest as the registry has it, or as it was kept; None: it is nowhere."""
        answer = await self.registry.get_manifest(repository, digest)
        if not isinstance(answer, NotFound):
            return KeptManifest(
                role="tagged", digest=digest, media_type=answer.media_type, content=answer.content
            )
        async with connection(self._pool) as held:
            return await store.find_kept(held, digest=digest)

    # --- leases and records --------------------------------------------------------------------------------------

    async def permit(self, ids: Sequence[uuid.UUID], *, finishing: bool = False) -> Callable[[], None]:
        """Check that we may go on; return what raises if the request begins too late for that."""
        await self.check(finishing=finishing)
        return await self._extend(ids)

    async def _extend(self, ids: Sequence[uuid.UUID]) -> Callable[[], None]:
        deadline = monotonic() + SEND_WITHIN_SECONDS
        async with connection(self._pool) as held:
            ours = await store.extend_leases(held, ids=ids, holder=self.holder, seconds=LEASE_SECONDS)
        if ours != set(ids):
            raise LeaseLost("another process has taken over: nothing more is sent")

        def before() -> None:
            if monotonic() > deadline:
                raise LeaseLost("this process was stopped for too long: nothing more is sent")

        return before

    async def note(
        self,
        looked_at: Mapping[uuid.UUID, datetime | None],
        method: str,
        repository: RepositoryName,
        reference: TagName | Digest,
        before: Callable[[], None],
        *,
        dummy: Digest | None = None,
    ) -> Once:
        """Put a request on record that is about to be sent."""
        nonce = uuid.uuid4()
        async with connection(self._pool) as held:
            await store.note_request(
                held,
                looked_at=looked_at,
                nonce=nonce,
                method=method,
                path=manifest_path(repository, reference),
                now=datetime.now(UTC),
                dummy=dummy,
            )
        return Once(nonce=nonce.bytes, before=before)

    async def unanswered(self, ids: Sequence[uuid.UUID], error: RegistryError) -> None:
        """Leave open whether the registry did it: what it has is looked at later."""
        log.warning("cleanup_request_failed", error=str(error))
        async with connection(self._pool) as held:
            await store.put_off(held, ids=ids, until=datetime.now(UTC) + AGAIN_AFTER)

    async def end(self, held: Connection, number: uuid.UUID, state: str, outcome: str, note: str) -> None:
        """Record what an action came to."""
        await store.end_action(
            held, number=number, now=datetime.now(UTC), state=state, outcome=outcome, note=note
        )


def dummy_of(number: uuid.UUID, *, docker: bool) -> tuple[bytes, bytes, str]:
    """Return config, manifest and media type of a dummy that no other deletion has."""
    config = json.dumps({"config": {}, "registry-indexer-deletion": str(number)}).encode()
    media_type = media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST
    config_type = media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "size": len(config), "digest": digest_of(config)},
        "layers": [],
    }
    return config, json.dumps(document).encode(), media_type


def planned(
    kind: ActionKind,
    repository: RepositoryName,
    tag: TagName,
    digest: Digest,
    why: Why,
    *,
    recorded: RecordedTag | None = None,
) -> TagAction:
    """Return a new action; ``recorded``: the tag as it was."""
    now = datetime.now(UTC)
    return TagAction(
        id=uuid.uuid4(),
        kind=kind,
        state="planned",
        repository=repository,
        tag=tag,
        digest=digest,
        dummy=None,
        source=why.source,
        actor=why.actor,
        reason=why.reason,
        job=why.job,
        of_action=None,
        asked_at=now,
        looked_at=None,
        requested_at=None,
        done_at=None,
        ended_at=None,
        kept_until=now + why.kept_for,
        outcome=None,
        note=None,
        gone=None,
        published_at=None if recorded is None else recorded.published_at,
        published_source=None if recorded is None else recorded.published_source,
        first_seen_at=None if recorded is None else recorded.first_seen_at,
        pushed_by=None if recorded is None else recorded.pushed_by,
    )

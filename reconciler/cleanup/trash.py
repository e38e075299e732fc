"""Copies of manifests in another repository, made before they are deleted: no collection takes what they refer to.

``undo.trash`` of a policy names where: with ``trash`` those of ``team/app`` lie in ``trash/team/app``. The blobs are
mounted, so no bytes are copied, and none are freed before the copy is deleted::

    delete:   on record ─▶ mount the blobs, PUT each manifest under a tag of its own ─▶ look ─▶ DELETE (``unlink``)
    restore:  mount back what the repository does not deliver ─▶ put back (``act``)
    the end:  kept long enough, no other tag on it ─▶ DELETE the copy by its digest

Every manifest has a tag: ``garbage-collect --delete-untagged`` takes children of an index, and what is attached to
something, where they have none.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import structlog

from indexer.common.errors import RegistryDenied, RegistryMisbehaved
from indexer.inventory.own_actions import TagAction
from indexer.inventory.trash import copy_tag, trash_repository
from indexer.oci.reference import RepositoryName
from indexer.store import trash_copies, unlinking
from indexer.store.pool import Pool, connection
from indexer.store.tag_actions import KeptManifest
from indexer.store.trash_copies import TrashCopy
from reconciler.cleanup import observe
from reconciler.cleanup.act import LEASE_SECONDS, SEND_WITHIN_SECONDS, Actor, Check, LeaseLost, SkipError
from reconciler.registry.answers import Deletion, NotFound
from reconciler.registry.exchange import Once
from reconciler.registry.protocol import ActingRegistry

log = structlog.get_logger()

AT_A_TIME: Final = 20
HELD: Final = "hold.trash"
"""The code where a manifest stays because it could not be copied."""


class Trash:
    """Copies what one actor deletes, below the name ``below``."""

    def __init__(self, pool: Pool, registry: ActingRegistry, actor: Actor, *, below: str) -> None:
        self._pool = pool
        self._registry = registry
        self._actor = actor
        self._below = below

    async def copy(self, action: TagAction, family: Sequence[KeptManifest]) -> None:
        """Copy a manifest that is to be deleted, with its family; raise ``SkipError`` where that cannot be."""
        target = trash_repository(self._below, action.repository)
        if target is None:
            raise SkipError(HELD, f"no repository can be called {self._below}/{action.repository}")
        async with connection(self._pool) as held:
            may_be = await trash_copies.plan_copies(
                held,
                repository=action.repository,
                trash=target,
                digests=[each.digest for each in family],
                kept_until=action.kept_until,
            )
        if not may_be:
            raise SkipError(HELD, f"an older copy of it in {target} is being deleted just now")
        try:
            for each in family:
                await self._copy_one(action, each, target)
        except (RegistryDenied, RegistryMisbehaved) as error:
            raise SkipError(HELD, f"it could not be copied to {target}: {error}") from None

    async def _copy_one(self, action: TagAction, manifest: KeptManifest, target: RepositoryName) -> None:
        tag = copy_tag(manifest.digest)
        there = await observe.look_at(self._registry, target, tag, expected=manifest.digest)
        if there.digest != manifest.digest:
            for blob in observe.blobs_of(action.repository, manifest):
                await self._actor.permit([action.id])
                if not await self._registry.mount_blob(target, blob, source=action.repository):
                    raise SkipError(
                        HELD,
                        f"{blob} could not be mounted into {target}: the registry does not have it, or the reconciler "
                        f"may not push there",
                    )
            before = await self._actor.permit([action.id])
            once = Once(nonce=uuid.uuid4().bytes, before=before)
            await self._registry.put_manifest_once(
                target, tag, manifest.content, media_type=manifest.media_type, once=once
            )
        async with connection(self._pool) as held:
            await trash_copies.note_put(held, trash=target, digest=manifest.digest, at=datetime.now(UTC))


async def delete_expired(
    pool: Pool,
    registry: ActingRegistry,
    *,
    check: Check,
    repositories: Sequence[RepositoryName] | None,
) -> int:
    """Delete copies that are not kept any longer; return how many. A copy that somebody else tagged, too, stays."""
    deleted = 0
    while True:
        await check()
        async with connection(pool) as held:
            taken = await trash_copies.take_expired(
                held,
                before=datetime.now(UTC),
                limit=AT_A_TIME,
                lease_seconds=LEASE_SECONDS,
                repositories=repositories,
            )
        deadline = monotonic() + SEND_WITHIN_SECONDS
        for copy in taken:
            deleted += await _delete(pool, registry, copy, check=check, deadline=deadline)
        if not taken:
            return deleted


async def _delete(
    pool: Pool, registry: ActingRegistry, copy: TrashCopy, *, check: Check, deadline: float
) -> bool:
    def before() -> None:
        if monotonic() > deadline:
            raise LeaseLost("this process was too slow: a copy may be made there again by now")

    async with connection(pool) as held:
        needs = await unlinking.needs(held, repository=copy.trash, digests=[copy.digest])
    others = sorted(need.tag for need in needs if need.tag not in (None, copy_tag(copy.digest)))
    there = not isinstance(await registry.head_manifest(copy.trash, copy.digest), NotFound)
    answer = Deletion.ABSENT
    if others:
        log.warning("trash_copy_left", repository=copy.trash, digest=copy.digest, tags=others[:10])
    elif there:
        await check()
        before()
        once = Once(nonce=uuid.uuid4().bytes, before=before)
        answer = await registry.delete_once(copy.trash, copy.digest, once=once)
    if answer is Deletion.UNSUPPORTED:
        raise RegistryDenied(f"the registry does not delete the copy {copy.trash}@{copy.digest}")
    async with connection(pool) as held:
        await trash_copies.forget_copy(held, copy=copy)
    log.info("trash_copy_deleted", repository=copy.trash, digest=copy.digest, was_there=there)
    return answer is Deletion.ACCEPTED

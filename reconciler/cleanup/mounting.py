"""Mounts blobs back from the copies that were made before a manifest was deleted (``trash``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from indexer.oci.reference import RepositoryName
from indexer.store import trash_copies
from indexer.store.pool import Pool, connection
from indexer.store.tag_actions import KeptManifest
from reconciler.cleanup import observe
from reconciler.registry.protocol import ActingRegistry


async def mount_back(
    pool: Pool,
    registry: ActingRegistry,
    repository: RepositoryName,
    kept: Iterable[KeptManifest],
    *,
    check: Callable[[], Awaitable[None]],
) -> bool:
    """Mount what a repository does not deliver of some manifests back from their copies; False: there is no copy.

    Whether every blob is there is asked afterwards: only a byte that arrives proves it.
    """
    manifests = list(kept)
    async with connection(pool) as held:
        sources = await trash_copies.copies_of(
            held, repository=repository, digests=[each.digest for each in manifests]
        )
    blobs = {blob: None for each in manifests for blob in observe.blobs_of(repository, each)}
    for blob in blobs if sources else ():
        if await registry.has_blob(repository, blob) and await registry.delivers_blob(repository, blob):
            continue
        for source in sources:
            await check()
            if await registry.mount_blob(repository, blob, source=source):
                break
    return bool(sources)

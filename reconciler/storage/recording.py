"""Records what a pass over the storage found, beside damage: what bytes belong to, and whether a collection ran."""

from __future__ import annotations

from datetime import datetime

from indexer.store import collections, storage
from indexer.store.collections import Inferred, Reading
from indexer.store.pool import Connection
from reconciler.storage.canary import REPOSITORY
from reconciler.storage.examine import Examined
from reconciler.storage.present import roots_of, sample_of, shares_of


async def record_pass(
    held: Connection,
    found: Examined,
    *,
    is_proven: bool,
    before: Reading | None,
    begun_at: datetime,
    ended_at: datetime,
) -> Inferred | None:
    """Record a pass in the caller's transaction; return the collection that ran since the one ``before``, if any did.

    In a storage that may be another registry's every blob is missing: nothing is concluded from it.
    """
    await storage.record_bytes(
        held,
        sample=sample_of(found, taken_at=ended_at),
        repositories=shares_of(found.repositories),
        prefixes=shares_of(found.prefixes),
        roots=roots_of(found.roots),
    )
    if not is_proven:
        return None
    return await collections.record_reading(
        held,
        before=before,
        begun_at=begun_at,
        ended_at=ended_at,
        gone=found.gone,
        unreferenced=found.unreferenced,
        besides=REPOSITORY,
    )

"""A pull-through cache is not reconciled: it lists its upstream's tags, and fetches every manifest it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import structlog

from indexer.store.pool import Pool, connection
from indexer.store.traits import Trait, note_trait
from reconciler.registry.cache import CacheKind, RegistryKind

log = structlog.get_logger()

CACHE_NOTE: Final = (
    "the registry is a pull-through cache: nothing was compared; the inventory has what is pulled through it"
)


async def note_kind(pool: Pool, kind: RegistryKind) -> None:
    """Record whether the registry is a cache; an unknown kind changes nothing on record."""
    if kind.nature is CacheKind.UNKNOWN:
        log.info("registry_kind_unknown", because=kind.because)
        return
    async with connection(pool) as held:
        now = datetime.now(UTC)
        await note_trait(held, trait=Trait.IS_CACHE, holds=kind.is_cache, because=kind.because, at=now)

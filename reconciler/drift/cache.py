"""A pull-through cache is not compared: its tags are its upstream's, and to ask for them would fill it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import structlog

from indexer.store.pool import Pool, connection
from indexer.store.traits import Trait, note_trait
from reconciler.registry.cache import CacheKind, RegistryKind

log = structlog.get_logger()

CACHE_NOTE: Final = (
    "the registry is a pull-through cache: nothing is compared, what is pulled through it is on record"
)


async def note_kind(pool: Pool, kind: RegistryKind) -> None:
    """Remember what the registry is; what cannot be told leaves no trace, and takes none away."""
    if kind.nature is CacheKind.UNTOLD:
        log.info("registry_kind_untold", because=kind.because)
        return
    async with connection(pool) as held:
        now = datetime.now(UTC)
        await note_trait(held, trait=Trait.IS_CACHE, holds=kind.is_cache, because=kind.because, at=now)

"""Which repositories there are: what the catalog lists, and what is on record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from indexer.oci.reference import RepositoryName
from indexer.store import repositories
from indexer.store.pool import Pool, connection
from reconciler.registry.protocol import Registry

NAMES_PAGE: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNames:
    """Every repository either side knows; ``incomplete`` says what the catalog is known to lack."""

    names: Sequence[RepositoryName]
    incomplete: str | None


async def every_name(pool: Pool, registry: Registry) -> KnownNames:
    """Merge the catalog with what is on record: a catalog omits repositories, on every version in some layout."""
    catalog = await registry.list_repositories()
    names = set(catalog.names)
    async with connection(pool) as held:
        after = ""
        while page := await repositories.list_names(held, after=after, limit=NAMES_PAGE):
            names.update(page)
            after = page[-1]
    incomplete = None if catalog.complete else "the catalog is incomplete: " + "; ".join(catalog.reasons)
    return KnownNames(names=sorted(names), incomplete=incomplete)


async def put_on_record(pool: Pool, names: Iterable[RepositoryName]) -> None:
    """Add repositories that are new to the record, heard of now."""
    async with connection(pool) as held:
        await repositories.add_repositories(held, heard=dict.fromkeys(names, datetime.now(UTC)))

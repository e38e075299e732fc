"""Which repositories a run compares: those that the catalog lists, and those on record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from indexer.common.errors import RegistryDenied, RegistryError
from indexer.oci.reference import RepositoryName
from indexer.store import repositories
from indexer.store.pool import Pool, connection
from indexer.store.reconcile_runs import Undecided
from reconciler.drift.exceptions import CATALOG, DENIED_ACCEPTED, NOT_A_REPOSITORY, Closed
from reconciler.drift.report import CATALOG_DENIED, CATALOG_INCOMPLETE, left_out, one_undecided
from reconciler.observing.tags import raise_if_down
from reconciler.registry.protocol import Registry

NAMES_PAGE: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryNames:
    """Every repository that the registry or the inventory knows; ``undecided``: what the catalog is known to lack."""

    names: Sequence[RepositoryName]
    undecided: Undecided


async def every_name(pool: Pool, registry: Registry, *, closed: Closed) -> RepositoryNames:
    """Merge the catalog with the repositories on record: in some layouts every version omits repositories.

    If the registry answers but gives no catalog, only those on record are returned.
    """
    listed, undecided = await _list(registry, closed)
    names = set(listed)
    async with connection(pool) as held:
        after = ""
        while page := await repositories.list_names(held, after=after, limit=NAMES_PAGE):
            names.update(page)
            after = page[-1]
    return RepositoryNames(names=sorted(names), undecided=undecided)


async def _list(registry: Registry, closed: Closed) -> tuple[Sequence[RepositoryName], Undecided]:
    try:
        catalog = await registry.list_repositories()
    except RegistryDenied as error:
        kind = DENIED_ACCEPTED if closed.accepts(CATALOG) else CATALOG_DENIED
        return (), one_undecided(kind, f"new repositories cannot be found: {error}")
    except RegistryError as error:
        await raise_if_down(registry, error)
        return (), one_undecided(CATALOG_INCOMPLETE, f"new repositories cannot be found: {error}")
    undecided: Undecided = {}
    if not catalog.complete:
        reason = "the catalog is incomplete: " + "; ".join(catalog.reasons)
        undecided |= one_undecided(CATALOG_INCOMPLETE, reason)
    if catalog.left_out:
        undecided |= left_out(
            NOT_A_REPOSITORY, catalog.left_out, "names that no repository can have", catalog.left_out_examples
        )
    return catalog.names, undecided


async def put_on_record(pool: Pool, names: Iterable[RepositoryName]) -> None:
    """Add the repositories that are not on record yet, first known now."""
    async with connection(pool) as held:
        await repositories.add_repositories(held, announced=dict.fromkeys(names, datetime.now(UTC)))

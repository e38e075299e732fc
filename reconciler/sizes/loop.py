"""Computes the size of a repository again shortly after its manifests changed, once for all changes until then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from indexer.background.loop import IterationResult
from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName
from indexer.store import repositories, work_items
from indexer.store.pool import Pool, transaction

BATCH = 20
LEASE = timedelta(seconds=60)
REST_SECONDS = 1.0


class Measurer:
    """The loop of work items of kind ``measure``."""

    name = "measure"

    def __init__(self, pool: Pool, *, repositories: Sequence[RepositoryName] | None = None) -> None:
        self._pool = pool
        self._repositories = repositories

    async def run_once(self) -> IterationResult:
        """Measure one batch of repositories, each in a transaction of its own."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            rows = await work_items.lease_work(
                held,
                kind=WorkKind.MEASURE,
                now=now,
                lease=LEASE,
                limit=BATCH,
                repositories=self._repositories,
            )
        for row in rows:
            async with transaction(self._pool) as held:
                await repositories.lock_repositories(held, names=[row.repository])
                await repositories.measure(held, repository_id=row.repository_id, now=datetime.now(UTC))
                await work_items.complete(held, rows=[row], now=datetime.now(UTC))
        return IterationResult(items=len(rows), rest_seconds=0 if rows else REST_SECONDS)

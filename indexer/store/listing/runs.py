"""Reconcile runs, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.store.drift import RUN_LOCK
from indexer.store.pool import Connection
from indexer.store.queries import load

if TYPE_CHECKING:  # `reconciler status` imports this, and needs no lists
    from indexer.store.listing.page_query import Row

SQL = load("listing_drift")


async def latest_runs(connection: Connection, *, limit: int) -> list[Row]:
    """Return the newest reconcile runs."""
    return list(await connection.fetch(SQL["latest_runs"], limit, RUN_LOCK))

"""The walks that looked for drift, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.store.drift import RUN_LOCK
from indexer.store.pool import Connection
from indexer.store.queries import load

if TYPE_CHECKING:  # a status is asked for at the command line, and lists nothing page by page
    from indexer.store.listing.page_query import Row

SQL = load("listing_drift")


async def latest_runs(connection: Connection, *, limit: int) -> list[Row]:
    """Return the newest runs of the walk."""
    return list(await connection.fetch(SQL["latest_runs"], limit, RUN_LOCK))

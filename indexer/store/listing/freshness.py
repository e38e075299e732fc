"""How fresh an answer is.

``as_of``: every notification received before that instant has been applied. It is the current time if nothing waits,
else the arrival of the oldest delivery that waits.

``last_reconciled_at``: for lists of one repository, when the last complete comparison of it began; for lists across
repositories, when the last complete full reconcile ended. None: never yet.

``pulls_known``: the registry announces pulls. If it does not, a tag without pulls on record may have been pulled.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_freshness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How fresh an answer is; see above."""

    as_of: datetime
    last_reconciled_at: datetime | None
    pulls_known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRef:
    """A repository on record, with what a listing of its content needs first."""

    id: int
    name: RepositoryName
    tag_count: int
    large: bool
    freshness: Freshness


async def freshness(connection: Connection) -> Freshness:
    """Return how fresh lists across repositories are. Call it before the list is read."""
    row = await connection.fetchrow(SQL["freshness"])
    assert row is not None  # noqa: S101 - a SELECT without FROM has a row; tells mypy
    return Freshness(
        as_of=row["as_of"], last_reconciled_at=row["last_reconciled_at"], pulls_known=row["pulls_known"]
    )


async def find_repository(connection: Connection, *, name: RepositoryName) -> RepositoryRef | None:
    """Return a repository and how fresh its lists are. Call it before they are read."""
    row = await connection.fetchrow(SQL["freshness_of"], name)
    if row is None:
        return None
    return RepositoryRef(
        id=row["id"],
        name=name,
        tag_count=row["tag_count"],
        large=row["large"],
        freshness=Freshness(
            as_of=row["as_of"], last_reconciled_at=row["last_reconciled_at"], pulls_known=row["pulls_known"]
        ),
    )

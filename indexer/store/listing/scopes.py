"""Which repositories a list across repositories covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from indexer.store.listing.statement import Condition, Statement, starts_with
from indexer.store.pool import Connection

SPREAD_AT_MOST = 300
"""For so many repositories it is cheaper to ask each for its newest and merge, than to walk everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Ids of repositories, and how many tags they have together."""

    ids: tuple[int, ...]
    tags: int


async def find_scope(
    connection: Connection,
    *,
    repository: str | None = None,
    prefix: str | None = None,
    granted: Iterable[str] | None = None,
) -> Scope | None:
    """Return the repositories that a name, a prefix and a caller's grants leave; None: all of them."""
    conditions: list[Condition] = []
    if repository is not None:
        conditions.append(Condition("name = {}", (repository,)))
    if prefix is not None:
        conditions += starts_with("name", prefix)
    if granted is not None:
        conditions.append(Condition("name = ANY ({}::text[])", (sorted(granted),)))
    if not conditions:
        return None
    statement = Statement()
    where = statement.where(*conditions)
    rows = await connection.fetch(f"SELECT id, tag_count FROM repository {where}", *statement.values)
    return Scope(ids=tuple(row["id"] for row in rows), tags=sum(row["tag_count"] for row in rows))

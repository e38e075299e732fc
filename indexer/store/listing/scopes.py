"""Which repositories a list across repositories covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexer.store.listing.statement import NOTHING, Condition, SqlStatement, starts_with
from indexer.store.pool import Connection

SPREAD_AT_MOST = 300
"""Up to so many repositories it is cheaper to read the newest rows of each and merge them than to scan everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Ids of repositories, how many tags they have together, and whether all of them are large.

    ``granted``: the caller may not see any other.
    """

    ids: tuple[int, ...]
    tags: int
    large: bool = False
    granted: bool = False


async def find_scope(
    connection: Connection,
    *,
    repositories: Sequence[str] = (),
    prefix: str | None = None,
    granted: Iterable[str] | None = None,
) -> Scope | None:
    """Return the repositories that names (none: any), a prefix and the caller's grants leave; None: all."""
    conditions: list[Condition] = []
    if repositories:
        conditions.append(Condition("name = ANY ({}::text[])", (list(repositories),)))
    if prefix is not None:
        conditions += starts_with("name", prefix)
    if granted is not None:
        conditions.append(Condition("name = ANY ({}::text[])", (sorted(granted),)))
    if not conditions:
        return None
    statement = SqlStatement()
    where = statement.where(*conditions)
    rows = await connection.fetch(f"SELECT id, tag_count, large FROM repository {where}", *statement.values)
    return Scope(
        ids=tuple(row["id"] for row in rows),
        tags=sum(row["tag_count"] for row in rows),
        large=all(row["large"] for row in rows),
        granted=granted is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """How a list is restricted to a scope: see the members of ``PageQuery`` of the same names.

    ``bounded``: the list may scan many entries that do not belong to it.
    """

    scope: tuple[Condition, ...] = ()
    filters: tuple[Condition, ...] = ()
    each: tuple[int, ...] | None = None
    bounded: bool = False


def restrict(  # noqa: PLR0911 - a table of cases
    scope: Scope | None, *, searches: bool, found: bool = False
) -> Restriction:
    """Decide how to restrict a list to a scope.

    ``found``: an index of another filter finds the few entries there can be. ``searches``: filters without an index may
    scan many entries. One repository has its own index. Of a few, each gives its newest rows, unless that may mean a
    search in each. For more, everything is scanned. But if the caller may not see the other repositories, only its own
    entries are scanned: where a bounded scan ends would tell how many entries are not shown.
    """
    if scope is None:
        return Restriction(bounded=searches and not found)
    if not scope.ids:
        return Restriction(filters=(NOTHING,))
    if found:
        return Restriction(filters=(of_repositories(scope),))
    if len(scope.ids) == 1:
        return Restriction(scope=(Condition("t.repository_id = {}", scope.ids),), bounded=searches)
    if len(scope.ids) <= SPREAD_AT_MOST and not searches:
        return Restriction(each=scope.ids)
    if scope.granted:
        return Restriction(scope=(of_repositories(scope),), bounded=True)
    return Restriction(filters=(of_repositories(scope),), bounded=True)


def of_repositories(scope: Scope) -> Condition:
    """Match what belongs to any of the repositories."""
    return Condition("t.repository_id = ANY ({}::integer[])", (list(scope.ids),))

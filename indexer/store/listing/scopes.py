"""Which repositories a list across repositories covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexer.store.listing.statement import NOTHING, Condition, SqlStatement, starts_with
from indexer.store.pool import Connection

SPREAD_AT_MOST = 300
"""For so many repositories it is cheaper to ask each for its newest and merge, than to walk everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Ids of repositories, how many tags they have together, and whether indexes of large ones have them all.

    ``granted``: the caller may not know of any other.
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
    """Return the repositories that names (none: any), a prefix and a caller's grants leave; None: all of them."""
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
class Cover:
    """How a list is kept to a scope: see the members of ``Listing`` of the same names.

    ``bounded``: it may pass over many entries that do not belong to it.
    """

    scope: tuple[Condition, ...] = ()
    filters: tuple[Condition, ...] = ()
    each: tuple[int, ...] | None = None
    bounded: bool = False


def cover(  # noqa: PLR0911 - a table of cases
    scope: Scope | None, *, searches: bool, found: bool = False
) -> Cover:
    """Decide how to keep a list to a scope.

    ``found``: another filter has an index that finds the few entries there can be. ``searches``: the others may
    pass over many. One repository has its own index. A few give their newest each, unless that may mean a search
    in each. More are found by walking everything; but where a caller may not know of the others, only their own entries
    are walked: a bounded walk ends anywhere, and how far it came would tell of entries that are not shown.
    """
    if scope is None:
        return Cover(bounded=searches and not found)
    if not scope.ids:
        return Cover(filters=(NOTHING,))
    if found:
        return Cover(filters=(of_repositories(scope),))
    if len(scope.ids) == 1:
        return Cover(scope=(Condition("t.repository_id = {}", scope.ids),), bounded=searches)
    if len(scope.ids) <= SPREAD_AT_MOST and not searches:
        return Cover(each=scope.ids)
    if scope.granted:
        return Cover(scope=(of_repositories(scope),), bounded=True)
    return Cover(filters=(of_repositories(scope),), bounded=True)


def of_repositories(scope: Scope) -> Condition:
    """Match what belongs to any of the repositories."""
    return Condition("t.repository_id = ANY ({}::integer[])", (list(scope.ids),))

"""Tags: of one repository or across repositories, by any key and filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from indexer.store.listing.freshness import RepositoryRef
from indexer.store.listing.interned import FacetRow, Interned
from indexer.store.listing.keyset import Column, orders_of
from indexer.store.listing.page_query import Matcher, Page, PageQuery, PageRows, Row, fetch_page
from indexer.store.listing.protection import Protection, TagKey, protections
from indexer.store.listing.scopes import Restriction, Scope, restrict
from indexer.store.listing.statement import Condition, look_up
from indexer.store.listing.tag_conditions import conditions
from indexer.store.listing.tag_filter import TagFilter
from indexer.store.listing.tag_sources import source, source_everywhere
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_tags")

SEARCHED_TO_THE_END = 50_000
"""Up to so many tags a filter that matches nothing takes 10 ms. Longer lists are searched in steps."""

SORTED_BY_CHECKS = 10_000
"""Up to so many tags are sorted by checks: 10 ms for each page (measured), or each chunk of a regular expression."""

STEP = 20_000
"""Entries that one request scans in a longer list: 2.7 ms (measured)."""

COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column(name="name", sql="t.name", type="text"),
        Column(name="semver", sql="t.semver_key", type="bytea", absent="''::bytea"),
        Column(name="published_at", sql="t.published_at", type="timestamptz"),
        Column(name="created_at", sql="t.image_created", type="timestamptz", absent="'-infinity'"),
        Column(name="size", sql="t.size_bytes", type="bigint"),
        Column(
            name="last_pulled_at",
            sql="t.last_pulled_at",
            type="timestamptz",
            absent="'-infinity'",
            apart=True,
        ),
        Column(name="first_seen_at", sql="t.first_seen_at", type="timestamptz"),
    )
}
"""Sort keys of tags, in one repository and across, by the name that a caller uses."""

OF_REPOSITORY: Mapping[str, Column] = {
    **COLUMNS,
    "last_checked_at": Column(
        name="last_checked_at", sql="t.last_checked_at", type="timestamptz", absent="'-infinity'", apart=True
    ),
}
"""Sort keys of one repository's tags. No index has the order of checks, so a page sorts them all."""

EVERYWHERE: Mapping[str, Column] = {
    **COLUMNS,
    "repository": Column(name="repository", sql="t.repository_id", type="integer"),
}
"""Sort keys across repositories, where repository and name break ties (docs/adr/0062)."""

WITH_REPOSITORY = frozenset({"name", "published_at"})
"""Sort keys of which every repository has an index, so that several can be merged."""

OF_LARGE = frozenset({"semver", "created_at", "size", "first_seen_at"})
"""Sort keys whose indexes have only the tags of large repositories."""

_IDENTITY = (("repository_id", "integer"), ("name", "text"))
_OUTER = (
    "t.name, m.digest, t.facet_id, t.size_bytes, t.published_at::text, t.published_source, t.image_created::text, "
    "t.first_seen_at::text, p.last_pulled_at::text, p.pull_count, k.last_checked_at::text, m.config_digest, "
    "t.pushed_by, "
    "t.verified_at::text, t.broken_reason, t.repository_id"
)
# LIMIT makes it a lookup for each row: a merge join of both tables by name would read all pulls up to the page.
_DIRECT = (
    "LEFT JOIN manifest AS m ON m.id = t.manifest_id "
    "LEFT JOIN LATERAL (SELECT last_pulled_at, pull_count FROM tag_pull AS p "
    "WHERE p.repository_id = t.repository_id AND p.name = t.name LIMIT 1) AS p ON true "
    "LEFT JOIN LATERAL (SELECT last_checked_at FROM tag_check AS k "
    "WHERE k.repository_id = t.repository_id AND k.name = t.name LIMIT 1) AS k ON true"
)
_JOINS = f"{look_up('tag', 't', 'repository_id', 'name')} {_DIRECT}"
_REPOSITORY = "JOIN repository AS r ON r.id = t.repository_id"


_NOT_ELSEWHERE = Condition("NOT t.elsewhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPage:
    """Rows of a page, and the lookup values that they refer to."""

    found: PageRows
    facets: Mapping[int, FacetRow]
    actors: Mapping[int | None, str | None]
    expiring: Mapping[tuple[int, str], Row]
    """What cleanup planned, by the repository's id and the tag's name."""
    protected: Mapping[TagKey, Sequence[Protection]]
    """What keeps tags from cleanup, by the same."""


async def tags_of_repository(
    connection: Connection,
    *,
    repository: RepositoryRef,
    sort: Sequence[tuple[str, bool]],
    wanted: TagFilter,
) -> PageQuery:
    """Return the list of a repository's tags, to be paged or counted."""
    orders = orders_of(OF_REPOSITORY, sort, ties=["name"])
    of_large = orders[0].column.name in OF_LARGE
    scope: tuple[Condition, ...] = (Condition("t.repository_id = {}", (repository.id,)),)
    if of_large and repository.large:
        scope += (Condition("t.large"),)  # all its tags are: with this condition the index is used
    # What is sorted as a whole is joined late, after it is cut to the page.
    late = any(order.column.apart for order in orders) or (of_large and not repository.large)
    within, filters = await conditions(connection, wanted, orders[0].column)
    bounded = repository.tag_count > SEARCHED_TO_THE_END and wanted.searches and not wanted.has_index
    return PageQuery(
        source=partial(source, orders, wanted),
        scope=(*scope, *within),
        orders=orders,
        identity=_IDENTITY,
        outer=_OUTER,
        joins=_JOINS,
        direct=None if late else _DIRECT,
        filters=filters,
        matcher=_matcher(wanted),
        bound=STEP if bounded else None,
    )


async def tags_everywhere(
    connection: Connection,
    *,
    scope: Scope | None,
    sort: Sequence[tuple[str, bool]],
    wanted: TagFilter,
) -> PageQuery:
    """Return the list of all repositories' tags, to be paged or counted; ``scope`` restricts the repositories."""
    orders = orders_of(EVERYWHERE, sort, ties=["repository", "name"])
    within, others = await conditions(connection, wanted, orders[0].column)
    restricted = _restrict_everywhere(orders[0].column, scope, wanted)
    apart = orders[0].column.apart
    plain = orders[0].column.name in WITH_REPOSITORY
    return PageQuery(
        source=partial(source_everywhere if apart else source, orders, wanted),
        scope=(*restricted.scope, *within),
        orders=orders,
        identity=_IDENTITY,
        outer=f"r.name AS repository, {_OUTER}",
        joins=f"{_JOINS} {_REPOSITORY}",
        direct=f"{_DIRECT} {_REPOSITORY}" if plain else None,
        filters=(*others, *restricted.filters, *((_NOT_ELSEWHERE,) if apart else ())),
        matcher=_matcher(wanted),
        bound=STEP if restricted.bounded else None,
        each=restricted.each,
    )


def _restrict_everywhere(key: Column, scope: Scope | None, wanted: TagFilter) -> Restriction:
    """Decide how to restrict a list of tags to a scope.

    Few tags are read and sorted as a whole, repository by repository. Of many, one repository has its own index;
    otherwise all tags are scanned in the order of the key, a bounded number of them.
    """
    searches = wanted.searches_everywhere or key.apart
    short = scope is not None and scope.tags <= SEARCHED_TO_THE_END
    if key.name in WITH_REPOSITORY or scope is None or wanted.digest is not None:
        return restrict(scope, searches=searches and not short, found=wanted.digest is not None)
    if len(scope.ids) == 1 and (scope.large or key.apart):
        condition = () if key.apart else (Condition("t.large"),)
        own = (Condition("t.repository_id = {}", scope.ids), *condition)
        return Restriction(scope=own, bounded=searches and not short)
    if short and scope.ids:
        return Restriction(each=scope.ids)
    return restrict(scope, searches=True)


async def fetch_tags(connection: Connection, interned: Interned, listing: PageQuery, page: Page) -> TagPage:
    """Return one page of tags."""
    found = await fetch_page(connection, listing, page)
    return await with_interned(connection, interned, found)


async def with_interned(connection: Connection, interned: Interned, found: PageRows) -> TagPage:
    """Return rows of tags with the lookup values that they refer to."""
    return TagPage(
        found=found,
        facets=await interned.facets(connection, (row["facet_id"] for row in found.rows)),
        actors=await interned.actors(connection, (row["pushed_by"] for row in found.rows)),
        expiring=await expiring(connection, found.rows),
        protected=await protections(connection, found.rows),
    )


async def expiring(connection: Connection, rows: Sequence[Row]) -> dict[tuple[int, str], Row]:
    """Return what cleanup planned of rows of tags, by the repository's id and the tag's name.

    A statement of its own: joined to each row of the page, a plan made while nothing was planned would read all that is
    planned for each of them.
    """
    if not rows:
        return {}
    keys = [(row["repository_id"], row["name"]) for row in rows]
    repositories, names = zip(*keys, strict=True)
    digests = [row["digest"] for row in rows]
    found = await connection.fetch(SQL["expiring"], repositories, names, digests)
    return {keys[row["number"] - 1]: row for row in found}


async def find_tag(connection: Connection, *, repository_id: int, name: str) -> Row | None:
    """Return one live tag, with the id of its manifest."""
    return await connection.fetchrow(SQL["find_tag"], repository_id, name)


def _matcher(wanted: TagFilter) -> Matcher | None:
    return Matcher(sql="t.name", matches=wanted.name_matches) if wanted.name_matches is not None else None

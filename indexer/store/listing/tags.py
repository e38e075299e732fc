"""Tags: of one repository or across repositories, by any key and filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store.listing.freshness import RepositoryRef
from indexer.store.listing.interned import SQL as IDS
from indexer.store.listing.interned import FacetRow, Interned
from indexer.store.listing.keyset import Column, KeyPart, Order, orders_of
from indexer.store.listing.page_query import Matcher, Page, PageQuery, PageRows, Row, fetch_page
from indexer.store.listing.scopes import Restriction, Scope, restrict
from indexer.store.listing.statement import (
    NOTHING,
    Condition,
    contains,
    look_up,
    matches_glob,
    starts_with,
)
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
    "t.verified_at::text, t.broken_reason"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Apart:
    """A time that is not in table `tag` but in one that only has rows of the tags that have such a time."""

    column: str
    table: str
    alias: str

    @property
    def rows(self) -> str:
        """Return the tag's row of the table, from FROM on."""
        a = self.alias
        return f"FROM {self.table} AS {a} WHERE {a}.repository_id = t.repository_id AND {a}.name = t.name"

    @property
    def joined(self) -> str:
        """Return what joins the table, to be put after ``tag AS t``."""
        a = self.alias
        return f" LEFT JOIN {self.table} AS {a} ON {a}.repository_id = t.repository_id AND {a}.name = t.name"

    @property
    def value(self) -> str:
        """Return what selects the time where the table is joined."""
        return f", coalesce({self.alias}.{self.column}, '-infinity') AS {self.column}"


_APART = (
    _Apart(column="last_pulled_at", table="tag_pull", alias="p"),
    _Apart(column="last_checked_at", table="tag_check", alias="k"),
)
_OF_TAG = (
    "t.manifest_id, t.size_bytes, t.published_at, t.image_created, t.first_seen_at, t.verified_at, t.facet_id, "
    "t.pushed_by, t.broken_reason, t.semver_key"
)
_NOT_ELSEWHERE = Condition("NOT t.elsewhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFilter:
    """Which tags a caller wants; None: any. All conditions must hold; of several values of one, any.

    Times are exclusive bounds, sizes inclusive. ``name_matches`` is a test in Python (a regular expression). A tag
    whose value is not known matches no bound on it, except ``not_pulled_since`` and ``not_checked_since``: a tag that
    was never pulled was not pulled since then.
    """

    name: str | None = None
    name_prefix: str | None = None
    name_glob: str | None = None
    name_matches: Callable[[str], bool] | None = None
    digest: Digest | None = None
    media_types: Sequence[str] | None = None
    artifact_types: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    platforms: Sequence[str] | None = None
    pushed_by: str | None = None
    published_after: datetime | None = None
    published_before: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    pulled_after: datetime | None = None
    pulled_before: datetime | None = None
    checked_after: datetime | None = None
    checked_before: datetime | None = None
    never_pulled: bool | None = None
    not_pulled_since: datetime | None = None
    not_checked_since: datetime | None = None
    size_min: int | None = None
    size_max: int | None = None
    broken: bool | None = None
    verified: bool | None = None

    @property
    def asks_apart(self) -> frozenset[str]:
        """The times in other tables that must be joined."""
        bounds = (
            ("last_pulled_at", self.pulled_after),
            ("last_pulled_at", self.pulled_before),
            ("last_checked_at", self.checked_after),
            ("last_checked_at", self.checked_before),
        )
        return frozenset(column for column, bound in bounds if bound is not None)

    @property
    def has_index(self) -> bool:
        """True if an index finds the few tags that can match, so that no search needs a bound."""
        return self.digest is not None or self.name_prefix is not None

    @property
    def searches(self) -> bool:
        """True if a scan may read many tags that do not match."""
        tested = (
            self.name,
            self.name_glob,
            self.name_matches,
            self.media_types,
            self.artifact_types,
            self.kinds,
            self.platforms,
            self.pushed_by,
            self.broken,
            self.verified,
            self.never_pulled,
            self.not_pulled_since,
            self.not_checked_since,
        )
        return bool(self.asks_apart) or any(value is not None for value in tested)

    @property
    def searches_everywhere(self) -> bool:
        """The same across repositories, where only the sort key and the digest have an index."""
        others = (
            self.name_prefix,
            self.created_after,
            self.created_before,
            self.size_min,
            self.size_max,
        )
        return self.searches or any(value is not None for value in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPage:
    """Rows of a page, and the lookup values that they refer to."""

    found: PageRows
    facets: Mapping[int, FacetRow]
    actors: Mapping[int | None, str | None]


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
    within, filters = await _conditions(connection, wanted, orders[0].column)
    bounded = repository.tag_count > SEARCHED_TO_THE_END and wanted.searches and not wanted.has_index
    return PageQuery(
        source=partial(_source, orders, wanted),
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
    within, conditions = await _conditions(connection, wanted, orders[0].column)
    restricted = _restrict_everywhere(orders[0].column, scope, wanted)
    apart = orders[0].column.apart
    plain = orders[0].column.name in WITH_REPOSITORY
    return PageQuery(
        source=partial(_source_everywhere if apart else _source, orders, wanted),
        scope=(*restricted.scope, *within),
        orders=orders,
        identity=_IDENTITY,
        outer=f"r.name AS repository, {_OUTER}",
        joins=f"{_JOINS} {_REPOSITORY}",
        direct=f"{_DIRECT} {_REPOSITORY}" if plain else None,
        filters=(*conditions, *restricted.filters, *((_NOT_ELSEWHERE,) if apart else ())),
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
    )


async def find_tag(connection: Connection, *, repository_id: int, name: str) -> Row | None:
    """Return one live tag, with the id of its manifest."""
    return await connection.fetchrow(SQL["find_tag"], repository_id, name)


def _source(orders: Sequence[Order], wanted: TagFilter, part: KeyPart) -> str:
    """Return where tags come from. Times in other tables are joined only if they are asked for.

    If such a time is the first key, the known part comes in the order of its own table, the absent part without its
    rows.
    """
    leading = None if part is KeyPart.ALL else _leading(orders)
    values, joins = _others(orders, wanted, leading)
    if leading is None:
        return f"(SELECT t.*{values} FROM tag AS t{joins}) AS t" if joins else "tag AS t"
    if part is KeyPart.ABSENT:
        return (
            f"(SELECT t.*, '-infinity'::timestamptz AS {leading.column}{values} FROM tag AS t{joins} "
            f"WHERE NOT EXISTS (SELECT {leading.rows})) AS t"
        )
    a = leading.alias
    return (
        f"(SELECT {a}.repository_id, {a}.name, {a}.{leading.column}, {_OF_TAG}{values} FROM {leading.table} AS {a} "
        f"JOIN tag AS t ON t.repository_id = {a}.repository_id AND t.name = {a}.name{joins}) AS t"
    )


def _source_everywhere(orders: Sequence[Order], wanted: TagFilter, part: KeyPart) -> str:
    """Return the same of tags across repositories by when they were pulled: its absent part has all tags.

    A filter leaves out those that were pulled, so that a scan of a bounded number of tags ends where it should.
    """
    leading = _leading(orders)
    if part is not KeyPart.ABSENT or leading is None:
        return f"(SELECT t.*, false AS elsewhere FROM {_source(orders, wanted, part)}) AS t"
    values, joins = _others(orders, wanted, leading)
    return (
        f"(SELECT t.*, '-infinity'::timestamptz AS {leading.column}, EXISTS (SELECT {leading.rows}) AS elsewhere"
        f"{values} FROM tag AS t{joins}) AS t"
    )


def _leading(orders: Sequence[Order]) -> _Apart | None:
    """Return the table of the first sort key, if it is a time in another table."""
    return next((each for each in _APART if each.column == orders[0].column.name), None)


def _others(orders: Sequence[Order], wanted: TagFilter, leading: _Apart | None) -> tuple[str, str]:
    """Return what selects and joins the times that are asked for, without the leading one."""
    asked = wanted.asks_apart | {order.column.name for order in orders}
    others = [each for each in _APART if each is not leading and each.column in asked]
    return "".join(each.value for each in others), "".join(each.joined for each in others)


def _matcher(wanted: TagFilter) -> Matcher | None:
    return Matcher(sql="t.name", matches=wanted.name_matches) if wanted.name_matches is not None else None


async def _conditions(
    connection: Connection, wanted: TagFilter, key: Column
) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """Return bounds on the first sort key, which say where a scan begins and ends, and all other conditions."""
    ranges = [*_range_conditions(wanted), *_conditions_apart(wanted, key)]
    within = tuple(condition for of, condition in ranges if of == key.name)
    others = (
        *_name_conditions(wanted),
        *(condition for of, condition in ranges if of != key.name),
        *await _facet_conditions(connection, wanted),
        *await _identity_conditions(connection, wanted),
    )
    return within, others


def _name_conditions(wanted: TagFilter) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    if wanted.name_prefix is not None:
        conditions += starts_with("t.name", wanted.name_prefix)
    if wanted.name_glob is not None:
        conditions += matches_glob("t.name", wanted.name_glob)
    if wanted.name is not None:
        conditions += (contains("t.name", wanted.name),)
    return conditions


_Ranges = tuple[tuple[str, Condition], ...]
"""Conditions, each with the sort key it is about."""


def _range_conditions(wanted: TagFilter) -> _Ranges:
    bounds: tuple[tuple[str, str, object], ...] = (
        ("published_at", "t.published_at > {}", wanted.published_after),
        ("published_at", "t.published_at < {}", wanted.published_before),
        ("created_at", "t.image_created > {}", wanted.created_after),
        ("created_at", "t.image_created > '-infinity' AND t.image_created < {}", wanted.created_before),
        ("last_pulled_at", "t.last_pulled_at > {}", wanted.pulled_after),
        ("last_pulled_at", "t.last_pulled_at > '-infinity' AND t.last_pulled_at < {}", wanted.pulled_before),
        ("last_checked_at", "t.last_checked_at > {}", wanted.checked_after),
        (
            "last_checked_at",
            "t.last_checked_at > '-infinity' AND t.last_checked_at < {}",
            wanted.checked_before,
        ),
        ("size", "t.size_bytes >= {}", wanted.size_min),
        ("size", "t.size_bytes <= {}", wanted.size_max),
        ("", "(t.broken_reason IS NOT NULL) = {}", wanted.broken),
        ("", "(t.verified_at IS NOT NULL) = {}", wanted.verified),
    )
    return tuple((key, Condition(text, (value,))) for key, text, value in bounds if value is not None)


def _conditions_apart(wanted: TagFilter, key: Column) -> _Ranges:
    """Match by pulls and checks that are not on record. If the time is the first key, each row has it or a sentinel."""
    ranges: _Ranges = ()
    never, pulled = wanted.never_pulled, "last_pulled_at"
    if never is not None and key.name == pulled:
        ranges += ((pulled, Condition(f"t.last_pulled_at {'=' if never else '>'} '-infinity'")),)
    elif never is not None:
        ranges += (("", Condition(f"{'NOT ' if never else ''}EXISTS (SELECT {_APART[0].rows})")),)
    for each, since in zip(_APART, (wanted.not_pulled_since, wanted.not_checked_since), strict=True):
        if since is None:
            continue
        if key.name == each.column:
            ranges += ((each.column, Condition(f"t.{each.column} < {{}}", (since,))),)
        else:
            later = f"{each.rows} AND {each.alias}.{each.column} >= {{}}"
            ranges += (("", Condition(f"NOT EXISTS (SELECT {later})", (since,))),)
    return ranges


async def _facet_conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    asked = (wanted.media_types, wanted.artifact_types, wanted.kinds, wanted.platforms)
    if asked == (None, None, None, None):
        return ()
    ids = [row["id"] for row in await connection.fetch(IDS["facets_like"], *asked)]
    return (Condition("t.facet_id = ANY ({}::integer[])", (ids,)) if ids else NOTHING,)


async def _identity_conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    if wanted.digest is not None:
        number = await connection.fetchval(IDS["manifest_id"], digest_to_bytes(wanted.digest))
        conditions += (Condition("t.manifest_id = {}", (number,)) if number is not None else NOTHING,)
    if wanted.pushed_by is not None:
        number = await connection.fetchval(IDS["actor_id"], wanted.pushed_by)
        conditions += (Condition("t.pushed_by = {}", (number,)) if number is not None else NOTHING,)
    return conditions

"""Tags: of one repository by any key and filter, and across repositories by publish time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store.listing.freshness import RepositoryRef
from indexer.store.listing.keyset import Column, Order, Part, orders_of
from indexer.store.listing.scopes import Scope, cover
from indexer.store.listing.statement import NOTHING, Condition, contains, matches_glob, starts_with
from indexer.store.listing.walk import Found, Listing, Matcher, Page, Row, fetch_page
from indexer.store.listing.words import SQL as WORDS
from indexer.store.listing.words import FacetRow, Words
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_tags")

SEARCHED_TO_THE_END = 50_000
"""Up to so many tags a filter that matches nothing costs 10 ms; longer lists are searched in steps."""

STEP = 20_000
"""Entries that one request looks at in a longer list: 2.7 ms (measured)."""

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
"""Sort keys of a repository's tags, by the word a caller uses."""

EVERYWHERE: Mapping[str, Column] = {
    "published_at": COLUMNS["published_at"],
    "repository": Column(name="repository", sql="t.repository_id", type="integer"),
    "name": COLUMNS["name"],
}
"""Across repositories only publish time has an index."""

OF_LARGE = frozenset({"semver", "created_at", "size", "first_seen_at"})
"""Sort keys whose indexes have the tags of large repositories alone."""

_IDENTITY = (("repository_id", "integer"), ("name", "text"))
_OUTER = (
    "t.name, m.digest, t.facet_id, t.size_bytes, t.published_at::text, t.published_source, t.image_created::text, "
    "t.first_seen_at::text, p.last_pulled_at::text, p.pull_count, m.config_digest, t.pushed_by, "
    "t.verified_at::text, t.broken"
)
# LIMIT keeps the look-up of pulls a look-up: a merge join of both tables by name would read all pulls up to the page.
_DIRECT = (
    "LEFT JOIN manifest AS m ON m.id = t.manifest_id "
    "LEFT JOIN LATERAL (SELECT last_pulled_at, pull_count FROM tag_pull AS p "
    "WHERE p.repository_id = t.repository_id AND p.name = t.name LIMIT 1) AS p ON true"
)
_JOINS = f"JOIN tag AS t ON t.repository_id = w.repository_id AND t.name = w.name {_DIRECT}"
_REPOSITORY = "JOIN repository AS r ON r.id = t.repository_id"

_PLAIN = "tag AS t"
_WITH_PULLS = (
    "(SELECT t.*, coalesce(p.last_pulled_at, '-infinity') AS last_pulled_at FROM tag AS t "
    "LEFT JOIN tag_pull AS p ON p.repository_id = t.repository_id AND p.name = t.name) AS t"
)
_PULLED = (
    "(SELECT p.repository_id, p.name, p.last_pulled_at, t.manifest_id, t.size_bytes, t.published_at, "
    "t.image_created, t.first_seen_at, t.verified_at, t.facet_id, t.pushed_by, t.broken, t.semver_key "
    "FROM tag_pull AS p JOIN tag AS t ON t.repository_id = p.repository_id AND t.name = p.name) AS t"
)
_NEVER_PULLED = (
    "(SELECT t.*, '-infinity'::timestamptz AS last_pulled_at FROM tag AS t WHERE NOT EXISTS "
    "(SELECT FROM tag_pull AS p WHERE p.repository_id = t.repository_id AND p.name = t.name)) AS t"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFilter:
    """What tags a caller wants; None: any. All must hold; of several values of one, any.

    Times are exclusive bounds, sizes inclusive. ``name_matches`` is a test made in Python (a regular
    expression). Tags whose value is not known match no bound on it.
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
    size_min: int | None = None
    size_max: int | None = None
    broken: bool | None = None
    verified: bool | None = None

    @property
    def asks_pulls(self) -> bool:
        """True where pull times must be joined."""
        return self.pulled_after is not None or self.pulled_before is not None

    @property
    def has_index(self) -> bool:
        """True where an index finds the few tags that can match, so that no search needs a bound."""
        return self.digest is not None or self.name_prefix is not None

    @property
    def searches(self) -> bool:
        """True where a walk may pass over many tags that do not match."""
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
        )
        return self.asks_pulls or any(value is not None for value in tested)

    @property
    def searches_everywhere(self) -> bool:
        """The same across repositories, where only publish time and digest have an index."""
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
    """Rows of a page with the words they use."""

    found: Found
    facets: Mapping[int, FacetRow]
    actors: Mapping[int | None, str | None]


async def tags_of_repository(
    connection: Connection,
    *,
    repository: RepositoryRef,
    sort: Sequence[tuple[str, bool]],
    wanted: TagFilter,
) -> Listing:
    """Return the list of a repository's tags, to be paged or counted."""
    orders = orders_of(COLUMNS, sort, ties=["name"])
    of_large = orders[0].column.name in OF_LARGE
    scope: tuple[Condition, ...] = (Condition("t.repository_id = {}", (repository.id,)),)
    if of_large and repository.large:
        scope += (Condition("t.large"),)  # all are: it admits the index
    # What is sorted whole is joined late, when it is cut to the page.
    late = any(order.column.apart for order in orders) or (of_large and not repository.large)
    bounded = repository.tag_count > SEARCHED_TO_THE_END and wanted.searches and not wanted.has_index
    return Listing(
        source=partial(_source, orders, wanted),
        scope=scope,
        orders=orders,
        identity=_IDENTITY,
        outer=_OUTER,
        joins=_JOINS,
        direct=None if late else _DIRECT,
        filters=await _conditions(connection, wanted),
        matcher=_matcher(wanted),
        bound=STEP if bounded else None,
    )


async def tags_everywhere(
    connection: Connection, *, scope: Scope | None, descending: bool, wanted: TagFilter
) -> Listing:
    """Return the list of all repositories' tags by publish time; ``scope`` restricts the repositories."""
    orders = orders_of(EVERYWHERE, [("published_at", descending)], ties=["repository", "name"])
    conditions = await _conditions(connection, wanted)
    short = scope is not None and scope.tags <= SEARCHED_TO_THE_END
    searches = wanted.searches_everywhere and not short
    covered = cover(scope, searches=searches, found=wanted.digest is not None)
    return Listing(
        source=partial(_source, orders, wanted),
        scope=covered.scope,
        orders=orders,
        identity=_IDENTITY,
        outer=f"r.name AS repository, {_OUTER}",
        joins=f"{_JOINS} {_REPOSITORY}",
        direct=f"{_DIRECT} {_REPOSITORY}",
        filters=(*conditions, *covered.filters),
        matcher=_matcher(wanted),
        bound=STEP if covered.bounded else None,
        each=covered.each,
    )


async def fetch_tags(connection: Connection, words: Words, listing: Listing, page: Page) -> TagPage:
    """Return one page of tags."""
    found = await fetch_page(connection, listing, page)
    return await with_words(connection, words, found)


async def with_words(connection: Connection, words: Words, found: Found) -> TagPage:
    """Return rows of tags with the words they use."""
    return TagPage(
        found=found,
        facets=await words.facets(connection, (row["facet_id"] for row in found.rows)),
        actors=await words.actors(connection, (row["pushed_by"] for row in found.rows)),
    )


async def find_tag(connection: Connection, *, repository_id: int, name: str) -> Row | None:
    """Return one live tag, with the id of its manifest."""
    return await connection.fetchrow(SQL["find_tag"], repository_id, name)


def _source(orders: Sequence[Order], wanted: TagFilter, part: Part) -> str:
    """Return where tags come from: pulls are joined only where they are asked for."""
    if orders[0].column.apart and part is not Part.ALL:
        return _PULLED if part is Part.KNOWN else _NEVER_PULLED
    asks_pulls = wanted.asks_pulls or any(order.column.apart for order in orders)
    return _WITH_PULLS if asks_pulls else _PLAIN


def _matcher(wanted: TagFilter) -> Matcher | None:
    return Matcher(sql="t.name", matches=wanted.name_matches) if wanted.name_matches is not None else None


async def _conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    return (
        *_name_conditions(wanted),
        *_range_conditions(wanted),
        *await _facet_conditions(connection, wanted),
        *await _identity_conditions(connection, wanted),
    )


def _name_conditions(wanted: TagFilter) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    if wanted.name_prefix is not None:
        conditions += starts_with("t.name", wanted.name_prefix)
    if wanted.name_glob is not None:
        conditions += matches_glob("t.name", wanted.name_glob)
    if wanted.name is not None:
        conditions += (contains("t.name", wanted.name),)
    return conditions


def _range_conditions(wanted: TagFilter) -> tuple[Condition, ...]:
    bounds: tuple[tuple[str, object], ...] = (
        ("t.published_at > {}", wanted.published_after),
        ("t.published_at < {}", wanted.published_before),
        ("t.image_created > {}", wanted.created_after),
        ("t.image_created > '-infinity' AND t.image_created < {}", wanted.created_before),
        ("t.last_pulled_at > {}", wanted.pulled_after),
        ("t.last_pulled_at > '-infinity' AND t.last_pulled_at < {}", wanted.pulled_before),
        ("t.size_bytes >= {}", wanted.size_min),
        ("t.size_bytes <= {}", wanted.size_max),
        ("t.broken = {}", wanted.broken),
        ("(t.verified_at IS NOT NULL) = {}", wanted.verified),
    )
    return tuple(Condition(text, (value,)) for text, value in bounds if value is not None)


async def _facet_conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    asked = (wanted.media_types, wanted.artifact_types, wanted.kinds, wanted.platforms)
    if asked == (None, None, None, None):
        return ()
    ids = [row["id"] for row in await connection.fetch(WORDS["facets_like"], *asked)]
    return (Condition("t.facet_id = ANY ({}::integer[])", (ids,)) if ids else NOTHING,)


async def _identity_conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    if wanted.digest is not None:
        number = await connection.fetchval(WORDS["manifest_id"], digest_to_bytes(wanted.digest))
        conditions += (Condition("t.manifest_id = {}", (number,)) if number is not None else NOTHING,)
    if wanted.pushed_by is not None:
        number = await connection.fetchval(WORDS["actor_id"], wanted.pushed_by)
        conditions += (Condition("t.pushed_by = {}", (number,)) if number is not None else NOTHING,)
    return conditions

"""Repositories, by any of their counters and times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from indexer.oci.reference import RepositoryName
from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery, Row
from indexer.store.listing.statement import Condition, contains, starts_with
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_repositories")

COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column(name="name", sql="t.name", type="text"),
        Column(name="tag_count", sql="t.tag_count", type="integer"),
        Column(name="manifest_count", sql="t.manifest_count", type="integer"),
        Column(name="size_bytes", sql="t.size_bytes", type="bigint"),
        Column(name="created_at", sql="t.created_at", type="timestamptz"),
        Column(name="last_published_at", sql="t.last_published_at", type="timestamptz", absent="'-infinity'"),
        Column(name="last_pulled_at", sql="t.last_pulled_at", type="timestamptz", absent="'-infinity'"),
    )
}
"""Sort keys: every field of a repository."""

_OUTER = (
    "t.name, t.tag_count, t.manifest_count, t.size_bytes, t.created_at, t.last_published_at, t.last_pulled_at, "
    "t.last_checked_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryFilter:
    """Which repositories a caller wants; None: any. ``granted``: those the caller may see."""

    name: str | None = None
    prefix: str | None = None
    has_tags: bool | None = None
    granted: Iterable[str] | None = None


def repositories(sort: Sequence[tuple[str, bool]], wanted: RepositoryFilter) -> PageQuery:
    """Return the list of repositories, to be paged or counted."""
    conditions: tuple[Condition, ...] = ()
    if wanted.prefix is not None:
        conditions += starts_with("t.name", wanted.prefix)
    if wanted.name is not None:
        conditions += (contains("t.name", wanted.name),)
    if wanted.has_tags is not None:
        conditions += (Condition("t.tag_count > 0" if wanted.has_tags else "t.tag_count = 0"),)
    if wanted.granted is not None:
        conditions += (Condition("t.name = ANY ({}::text[])", (sorted(wanted.granted),)),)
    return PageQuery(
        source=_source,
        scope=(),
        orders=orders_of(COLUMNS, sort, ties=["name"]),
        identity=(("id", "integer"),),
        outer=_OUTER,
        joins="JOIN repository AS t ON t.id = w.id",
        filters=conditions,
    )


async def find_repository(connection: Connection, *, name: RepositoryName) -> Row | None:
    """Return one repository."""
    return await connection.fetchrow(SQL["find_repository"], name)


def _source(_part: KeyPart) -> str:
    return "repository AS t"

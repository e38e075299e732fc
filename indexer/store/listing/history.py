"""What tags pointed to, and when: of one tag, of a repository as it was, of a digest; and full versions that moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store.listing.interned import SQL as IDS
from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.scopes import Scope, restrict
from indexer.store.listing.statement import NOTHING, Condition, look_up
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_history")

STEP = 20_000
"""Intervals that one request reads where no index serves its filter."""

COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column(name="from", sql="t.valid_from", type="timestamptz"),
        Column(name="repository", sql="t.repository_id", type="integer"),
        Column(name="tag", sql="t.name", type="text"),
    )
}

_IDENTITY = (("repository_id", "integer"), ("name", "text"), ("valid_from", "timestamptz"))
_OUTER = (
    "m.digest, h.valid_from, h.valid_to, h.not_before, h.to_not_before, h.from_source, h.to_source, "
    "h.event_key, a.name AS actor"
)
_JOINS = (
    f"{look_up('tag_history', 'h', 'repository_id', 'name', 'valid_from')} "
    "JOIN manifest AS m ON m.id = h.manifest_id LEFT JOIN actor AS a ON a.id = h.actor_id"
)
_SOMEWHERE = "r.name AS repository, h.name AS tag"
_REPOSITORY = "JOIN repository AS r ON r.id = w.repository_id"
# What a tag points to now is found by the tag: no index has the current intervals by manifest a second time. Column
# ``indexed`` leaves them out of the first half: with a condition of its own that half would be sorted as a whole.
_POINTING = (
    "(SELECT repository_id, name, valid_from, valid_to, manifest_id, valid_to < 'infinity' AS indexed FROM tag_history "
    "UNION ALL SELECT repository_id, name, (SELECT valid_from FROM tag_history AS h WHERE h.repository_id = "
    "now.repository_id AND h.name = now.name ORDER BY valid_from DESC LIMIT 1), 'infinity', manifest_id, true "
    "FROM tag AS now) AS t"
)
_BEFORE = (
    "JOIN LATERAL (SELECT * FROM tag_history AS p WHERE p.repository_id = h.repository_id "
    "AND p.name = h.name AND p.valid_from < h.valid_from ORDER BY p.valid_from DESC LIMIT 1) AS b ON true "
    "JOIN manifest AS p ON p.id = b.manifest_id"
)


def history_of_tag(*, repository_id: int, tag: str, at: datetime | None, descending: bool) -> PageQuery:
    """Return the list of a tag's intervals by start; ``at``: only the one that contains that instant."""
    conditions: tuple[Condition, ...] = ()
    if at is not None:
        conditions = (Condition("t.valid_from <= {}", (at,)), Condition("t.valid_to > {}", (at,)))
    return PageQuery(
        source=_source,
        scope=(Condition("t.repository_id = {}", (repository_id,)), Condition("t.name = {}", (tag,))),
        orders=orders_of(COLUMNS, [("from", descending)], ties=["from"]),
        identity=_IDENTITY,
        outer=_OUTER,
        joins=_JOINS,
        filters=conditions,
    )


async def history_everywhere(
    connection: Connection,
    *,
    scope: Scope | None,
    tag: str | None = None,
    digest: Digest | None = None,
    at: datetime | None = None,
) -> PageQuery:
    """Return the list of intervals that the filters leave, by repository, tag and start.

    ``at``: only intervals that contain that instant: a repository as it was then.
    """
    within = await _pointing_to(connection, digest)
    filters: tuple[Condition, ...] = ()
    alone = scope is not None and len(scope.ids) == 1
    if tag is not None and alone:
        within += (Condition("t.name = {}", (tag,)),)
    elif tag is not None:
        filters += (Condition("t.name = {}", (tag,)),)
    if at is not None:
        filters += (Condition("t.valid_from <= {}", (at,)), Condition("t.valid_to > {}", (at,)))
    restricted = restrict(scope, searches=bool(filters))
    return PageQuery(
        source=_source if digest is None else _pointing,
        scope=(*restricted.scope, *within),
        orders=orders_of(
            COLUMNS,
            [("repository", False), ("tag", False), ("from", False)],
            ties=["repository", "tag", "from"],
        ),
        identity=_IDENTITY,
        outer=f"{_SOMEWHERE}, {_OUTER}",
        joins=f"{_JOINS} {_REPOSITORY}",
        filters=(*filters, *restricted.filters),
        bound=STEP if restricted.bounded else None,
        each=restricted.each,
    )


def replacements(*, scope: Scope | None, after: datetime | None, before: datetime | None) -> PageQuery:
    """Return the list of intervals, newest first, whose tag is a full version and had another digest before."""
    within: tuple[Condition, ...] = (Condition("t.is_replacement"),)
    if after is not None:
        within += (Condition("t.valid_from > {}", (after,)),)
    if before is not None:
        within += (Condition("t.valid_from < {}", (before,)),)
    restricted = restrict(scope, searches=False)
    return PageQuery(
        source=_source,
        scope=(*restricted.scope, *within),
        orders=orders_of(COLUMNS, [("from", True)], ties=["from", "repository", "tag"]),
        identity=_IDENTITY,
        outer=(
            f"{_SOMEWHERE}, {_OUTER}, p.digest AS previous_digest, b.valid_to AS previous_to, "
            "b.to_not_before AS previous_to_not_before, b.to_source AS previous_to_source"
        ),
        joins=f"{_JOINS} {_REPOSITORY} {_BEFORE}",
        filters=restricted.filters,
        bound=STEP if restricted.bounded else None,
        each=restricted.each,
    )


async def is_tag_known(connection: Connection, *, repository_id: int, tag: str) -> bool:
    """Tell whether a tag is or ever was on record."""
    return bool(await connection.fetchval(SQL["tag_known"], repository_id, tag))


def _source(_part: KeyPart) -> str:
    return "tag_history AS t"


def _pointing(_part: KeyPart) -> str:
    return _POINTING


async def _pointing_to(connection: Connection, digest: Digest | None) -> tuple[Condition, ...]:
    if digest is None:
        return ()
    number = await connection.fetchval(IDS["manifest_id"], digest_to_bytes(digest))
    if number is None:
        return (NOTHING,)
    return (Condition("t.manifest_id = {}", (number,)), Condition("t.indexed"))

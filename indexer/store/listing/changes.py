"""What differs between two instants: tags that point elsewhere, that exist, or that no longer exist.

The list is *net*: a tag that moved and came back is not in it; one that moved ten times is in it once, with the last
move. Each change ends or begins an interval within the time, so the indexes of starts and ends find it. What is not the
last change of its tag, or not a difference, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery, Row
from indexer.store.listing.scopes import Scope, restrict
from indexer.store.listing.statement import Condition, look_up
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_history")

STEP = 20_000
"""Starts and ends that one request reads."""

COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column(name="at", sql="t.at", type="timestamptz"),
        Column(name="repository", sql="t.repository_id", type="integer"),
        Column(name="tag", sql="t.name", type="text"),
        Column(name="ended", sql="t.ended", type="integer"),
    )
}
"""An end and the start that follows it are at one instant. Only ``ended`` distinguishes them."""

# Each half is read in the order of its index. With a condition of its own a half would lose that order, and all its
# rows within the time would be sorted for every page. So column ``happened`` tells which have ended.
_SOURCE = (
    "(SELECT repository_id, name, valid_from AS at, valid_from, valid_to, 0 AS ended, true AS happened "
    "FROM tag_history UNION ALL SELECT repository_id, name, valid_to AS at, valid_from, valid_to, 1 AS ended, "
    "valid_to < 'infinity' AS happened FROM tag_history) AS t"
)
_SAME = "h.repository_id = t.repository_id AND h.name = t.name"
_OUTER = (
    "w.repository_id, w.ended, r.name AS repository, h.name AS tag, m.digest, h.valid_from, h.valid_to, "
    "h.not_before, h.to_not_before, h.from_source, h.to_source, h.event_key, a.name AS actor"
)
_JOINS = (
    f"{look_up('tag_history', 'h', 'repository_id', 'name', 'valid_from')} "
    "JOIN manifest AS m ON m.id = h.manifest_id LEFT JOIN actor AS a ON a.id = h.actor_id "
    "JOIN repository AS r ON r.id = w.repository_id"
)


def changes_between(*, scope: Scope | None, since: datetime, until: datetime) -> PageQuery:
    """Return the list of tags that differ at ``until`` from what they were at ``since``, latest change first."""
    restricted = restrict(scope, searches=False)
    few = scope is not None and len(scope.ids) > 1 and restricted.each is not None
    return PageQuery(
        source=_source,
        scope=(
            *restricted.scope,
            Condition("t.happened"),
            Condition("t.at > {}", (since,)),
            Condition("t.at <= {}", (until,)),
        ),
        orders=orders_of(COLUMNS, [("at", True)], ties=["at", "repository", "tag", "ended"]),
        identity=(
            ("repository_id", "integer"),
            ("name", "text"),
            ("valid_from", "timestamptz"),
            ("ended", "integer"),
        ),
        outer=_OUTER,
        joins=_JOINS,
        filters=(*_net(since, until), *restricted.filters),
        bound=None if few else STEP,
        each=restricted.each,
    )


async def digests_at(connection: Connection, *, rows: Sequence[Row], at: datetime) -> Sequence[bytes | None]:
    """Return the packed digest that the tag of each row pointed to at an instant; None: it did not exist."""
    found = await connection.fetch(
        SQL["digests_at"], [row["repository_id"] for row in rows], [row["tag"] for row in rows], at
    )
    return [row["digest"] for row in found]


def _net(since: datetime, until: datetime) -> tuple[Condition, ...]:
    """Match the last change of a tag, if it is a difference; the cheapest test first."""
    return (
        Condition("(t.ended = 1 OR t.valid_to > {})", (until,)),
        Condition(
            f"(t.ended = 0 OR NOT EXISTS (SELECT FROM tag_history AS h WHERE {_SAME} "
            "AND h.valid_from >= t.valid_to AND h.valid_from <= {}))",
            (until,),
        ),
        Condition(
            "(SELECT CASE WHEN h.valid_to > {} THEN h.manifest_id END FROM tag_history AS h "
            f"WHERE {_SAME} AND h.valid_from <= {{}} ORDER BY h.valid_from DESC LIMIT 1) "
            "IS DISTINCT FROM CASE WHEN t.ended = 0 THEN (SELECT h.manifest_id FROM tag_history AS h "
            f"WHERE {_SAME} AND h.valid_from = t.valid_from) END",
            (since, since),
        ),
    )


def _source(_part: KeyPart) -> str:
    return _SOURCE

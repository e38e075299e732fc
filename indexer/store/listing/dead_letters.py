"""The lists of feeds: their names, and the dead letters of one, each with the entry that it is of."""

from __future__ import annotations

from collections.abc import Mapping

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.statement import Condition, look_up

_FEEDS: Mapping[str, Column] = {"name": Column(name="name", sql="t.name", type="text")}
_LETTERS: Mapping[str, Column] = {"position": Column(name="position", sql="t.position", type="bigint")}


def listed_feeds() -> PageQuery:
    """Return the names of the feeds on record, in order."""
    return PageQuery(
        source=_feeds,
        scope=(),
        orders=orders_of(_FEEDS, [("name", False)], ties=["name"]),
        identity=(("name", "text"),),
        outer="w.name",
        joins="",
    )


def listed_dead_letters(feed: str) -> PageQuery:
    """Return the dead letters of a feed, in the order of the log. An entry may have left the log since."""
    return PageQuery(
        source=_letters,
        scope=(Condition("t.feed = {}::text", (feed,)),),
        orders=orders_of(_LETTERS, [("position", False)], ties=["position"]),
        identity=(("feed", "text"), ("position", "bigint")),
        outer=(
            "d.position, d.tries, d.first_tried_at, d.tried_at, d.retry_requested, d.retry_at, d.reason, "
            "e.action::text AS action, r.name AS repository, e.tag"
        ),
        joins=(
            f"{look_up('feed_dead_letter', 'd', 'feed', 'position')} "
            "LEFT JOIN audit_entry AS e ON e.position = d.position "
            "LEFT JOIN repository AS r ON r.id = e.repository_id"
        ),
    )


def _feeds(_part: KeyPart) -> str:
    return "feed AS t"


def _letters(_part: KeyPart) -> str:
    return "feed_dead_letter AS t"

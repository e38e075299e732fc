"""What a tag pointed to, and when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from indexer.store.listing.keyset import Column, Part, orders_of
from indexer.store.listing.statement import Condition
from indexer.store.listing.walk import Listing
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_history")

COLUMNS: Mapping[str, Column] = {"from": Column(name="from", sql="t.valid_from", type="timestamptz")}

_OUTER = "m.digest, h.valid_from, h.valid_to, h.not_before, h.from_source, h.event_key, a.name AS actor"
_JOINS = (
    "JOIN tag_history AS h "
    "ON h.repository_id = w.repository_id AND h.name = w.name AND h.valid_from = w.valid_from "
    "JOIN manifest AS m ON m.id = h.manifest_id LEFT JOIN actor AS a ON a.id = h.actor_id"
)


def history_of_tag(*, repository_id: int, tag: str, at: datetime | None, descending: bool) -> Listing:
    """Return the list of a tag's intervals by their start; ``at``: only the one that holds that instant."""
    conditions: tuple[Condition, ...] = ()
    if at is not None:
        conditions = (Condition("t.valid_from <= {}", (at,)), Condition("t.valid_to > {}", (at,)))
    return Listing(
        source=_source,
        scope=(Condition("t.repository_id = {}", (repository_id,)), Condition("t.name = {}", (tag,))),
        orders=orders_of(COLUMNS, [("from", descending)], ties=["from"]),
        identity=(("repository_id", "integer"), ("name", "text"), ("valid_from", "timestamptz")),
        outer=_OUTER,
        joins=_JOINS,
        filters=conditions,
    )


async def is_tag_known(connection: Connection, *, repository_id: int, tag: str) -> bool:
    """Tell whether a tag is or ever was on record."""
    return bool(await connection.fetchval(SQL["tag_known"], repository_id, tag))


def _source(_part: Part) -> str:
    return "tag_history AS t"

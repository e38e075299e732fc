"""The list of what we did and of which it is uncertain whether it undid a push, oldest first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.statement import Condition, look_up

_COLUMNS: Mapping[str, Column] = {
    "asked_at": Column(name="asked_at", sql="t.asked_at", type="timestamptz"),
    "id": Column(name="id", sql="t.id", type="uuid"),
}
_JOINS = (
    f"{look_up('tag_action', 'a', 'id')} "
    "LEFT JOIN LATERAL (SELECT t.manifest_id FROM repository AS r JOIN tag AS t ON t.repository_id = r.id "
    "WHERE r.name = a.repository AND t.name = a.tag LIMIT 1) AS n ON true "
    "LEFT JOIN manifest AS m ON m.id = n.manifest_id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UncertainFilter:
    """Which a caller wants; None: any."""

    repositories: Sequence[str] | None = None
    tag: str | None = None


def listed_uncertain(*, granted: Collection[str] | None, wanted: UncertainFilter) -> PageQuery:
    """Return the list. ``granted``: only of these repositories; None: of all."""
    plain: tuple[tuple[str, object], ...] = (
        ("t.repository = ANY ({}::text[])", None if granted is None else sorted(granted)),
        ("t.repository = ANY ({}::text[])", wanted.repositories),
        ("t.tag = {}", wanted.tag),
    )
    return PageQuery(
        source=_source,
        scope=(Condition("t.state = 'uncertain'"),),
        orders=orders_of(_COLUMNS, [("asked_at", False)], ties=["id"]),
        identity=(("id", "uuid"),),
        outer="a.*, m.digest AS now_at",
        joins=_JOINS,
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def _source(_part: KeyPart) -> str:
    return "tag_action AS t"

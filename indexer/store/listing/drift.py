"""The drift report: what differed between registry and inventory. The reconcile runs are in ``runs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.scopes import Scope
from indexer.store.listing.statement import Condition, look_up

COLUMNS: Mapping[str, Column] = {
    "detected_at": Column(name="detected_at", sql="t.detected_at", type="timestamptz"),
    "id": Column(name="id", sql="t.id", type="bigint"),
}

_OUTER = (
    "f.id, f.run_id, f.detected_at, f.repaired_at, f.kind, f.cause, f.tag, f.expected, f.found, f.note, "
    "r.name AS repository"
)
_JOINS = f"{look_up('drift_finding', 'f', 'id')} LEFT JOIN repository AS r ON r.id = f.repository_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFilter:
    """Which findings a caller wants; None: any."""

    run_id: int | None = None
    kinds: Sequence[str] | None = None
    causes: Sequence[str] | None = None
    tag: str | None = None
    repaired: bool | None = None
    detected_after: datetime | None = None
    detected_before: datetime | None = None


def drift_findings(*, scope: Scope | None, wanted: FindingFilter) -> PageQuery:
    """Return the list of findings, newest first."""
    plain: tuple[tuple[str, object], ...] = (
        ("t.run_id = {}", wanted.run_id),
        ("t.kind = ANY ({}::text[])", wanted.kinds),
        ("t.cause = ANY ({}::text[])", wanted.causes),
        ("t.tag = {}", wanted.tag),
        ("(t.repaired_at IS NOT NULL) = {}", wanted.repaired),
        ("t.detected_at > {}", wanted.detected_after),
        ("t.detected_at < {}", wanted.detected_before),
        ("t.repository_id = ANY ({}::integer[])", None if scope is None else list(scope.ids)),
    )
    return PageQuery(
        source=_source,
        scope=(),
        orders=orders_of(COLUMNS, [("detected_at", True)], ties=["detected_at", "id"]),
        identity=(("id", "bigint"),),
        outer=_OUTER,
        joins=_JOINS,
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def _source(_part: KeyPart) -> str:
    return "drift_finding AS t"

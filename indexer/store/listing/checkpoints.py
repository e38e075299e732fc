"""Signed checkpoints of the log, newest first."""

from __future__ import annotations

from collections.abc import Mapping

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery

COLUMNS: Mapping[str, Column] = {"id": Column(name="id", sql="t.id", type="bigint")}

_OUTER = "c.id, c.size, c.signed_at, c.verifier, c.note"


def checkpoints() -> PageQuery:
    """Return the list of checkpoints, newest first."""
    return PageQuery(
        source=_source,
        scope=(),
        orders=orders_of(COLUMNS, [("id", True)], ties=["id"]),
        identity=(("id", "bigint"),),
        outer=_OUTER,
        joins="JOIN audit_checkpoint AS c ON c.id = w.id",
        filters=(),
    )


def _source(_part: KeyPart) -> str:
    return "audit_checkpoint AS t"

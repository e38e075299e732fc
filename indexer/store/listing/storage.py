"""The list of what is wrong in the registry's storage, as the newest check found it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.statement import Condition, look_up

_COLUMNS: Mapping[str, Column] = {
    "repository": Column(name="repository", sql="t.repository", type="text"),
    "path": Column(name="path", sql="t.path", type="text"),
    "code": Column(name="code", sql="t.code", type="text"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFilter:
    """Which findings a caller wants; None: any."""

    repositories: Sequence[str] | None = None
    codes: Sequence[str] | None = None
    is_damaged: bool | None = None


def listed_findings(*, granted: Collection[str] | None, wanted: StorageFilter) -> PageQuery:
    """Return the list, by repository and path. ``granted``: only of these repositories; None: of all."""
    plain: tuple[tuple[str, object], ...] = (
        ("t.repository = ANY ({}::text[])", None if granted is None else sorted(granted)),
        ("t.repository = ANY ({}::text[])", wanted.repositories),
        ("t.code = ANY ({}::text[])", wanted.codes),
        ("t.is_damaged = {}", wanted.is_damaged),
    )
    return PageQuery(
        source=_source,
        scope=(),
        orders=orders_of(_COLUMNS, [("repository", False), ("path", False), ("code", False)], ties=["code"]),
        identity=(("id", "bigint"),),
        outer="f.*",
        joins=look_up("storage_finding", "f", "id"),
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def _source(_part: KeyPart) -> str:
    return "storage_finding AS t"

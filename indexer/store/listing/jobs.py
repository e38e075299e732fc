"""The list of jobs, newest first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.statement import Condition, look_up

COLUMNS: Mapping[str, Column] = {"number": Column(name="number", sql="t.number", type="bigint")}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a caller wants; None: any. ``repositories``: those that name any of these."""

    states: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    repositories: Sequence[str] | None = None
    asked_by: Sequence[str] | None = None


def listed_jobs(*, granted: Collection[str] | None, wanted: JobFilter) -> PageQuery:
    """Return the list. ``granted``: only jobs all of whose repositories are among these; None: all jobs."""
    plain: tuple[tuple[str, object], ...] = (
        ("t.repositories <@ {}::text[]", None if granted is None else sorted(granted)),
        ("t.state = ANY ({}::text[])", wanted.states),
        ("t.kind = ANY ({}::text[])", wanted.kinds),
        ("t.repositories && {}::text[]", wanted.repositories),
        ("t.asked_by = ANY ({}::text[])", wanted.asked_by),
    )
    return PageQuery(
        source=_source,
        scope=(),
        orders=orders_of(COLUMNS, [("number", True)], ties=["number"]),
        identity=(("number", "bigint"),),
        outer="j.*",
        joins=look_up("job", "j", "number"),
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def _source(_part: KeyPart) -> str:
    return "job AS t"

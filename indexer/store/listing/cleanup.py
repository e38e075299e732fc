"""The lists of cleanup: holds, plans, and the verdicts of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.statement import Condition, look_up

_HOLDS: Mapping[str, Column] = {
    "created_at": Column(name="created_at", sql="t.created_at", type="timestamptz"),
    "id": Column(name="id", sql="t.id", type="text"),
}
_PLANS: Mapping[str, Column] = {
    "made_at": Column(name="made_at", sql="t.made_at", type="timestamptz"),
    "id": Column(name="id", sql="t.id", type="text"),
}
_VERDICTS: Mapping[str, Column] = {"number": Column(name="number", sql="t.number", type="integer")}


def listed_holds() -> PageQuery:
    """Return the holds that are not over, oldest first."""
    return PageQuery(
        source=_holds,
        scope=(),
        orders=orders_of(_HOLDS, [("created_at", False)], ties=["id"]),
        identity=(("id", "text"),),
        outer="h.*",
        joins=look_up("cleanup_hold", "h", "id"),
        filters=(Condition("(t.until IS NULL OR t.until > now())", ()),),
    )


def listed_plans() -> PageQuery:
    """Return the plans on record, newest first."""
    return PageQuery(
        source=_plans,
        scope=(),
        orders=orders_of(_PLANS, [("made_at", True)], ties=["id"]),
        identity=(("id", "text"),),
        outer="p.*",
        joins=look_up("cleanup_plan", "p", "id"),
        filters=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictFilter:
    """Which verdicts a caller wants; None: any."""

    repositories: Sequence[str] | None = None
    policies: Sequence[str] | None = None
    decisions: Sequence[str] | None = None


def listed_verdicts(plan_id: str, wanted: VerdictFilter) -> PageQuery:
    """Return the verdicts of a plan that are not to keep, in its order."""
    own = Condition("t.plan_id = {}::text", (plan_id,))
    plain: tuple[tuple[str, object], ...] = (
        (
            "t.repository_id IN (SELECT r.id FROM repository AS r WHERE r.name = ANY ({}::text[]))",
            wanted.repositories,
        ),
        ("t.policy = ANY ({}::text[])", wanted.policies),
        ("t.decision = ANY ({}::text[])", wanted.decisions),
    )
    return PageQuery(
        source=_verdicts,
        scope=(own,),
        orders=orders_of(_VERDICTS, [("number", False)], ties=["number"]),
        identity=(("plan_id", "text"), ("number", "integer")),
        outer="v.shown",
        joins=look_up("cleanup_verdict", "v", "plan_id", "number"),
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def _holds(_part: KeyPart) -> str:
    return "cleanup_hold AS t"


def _plans(_part: KeyPart) -> str:
    return "cleanup_plan AS t"


def _verdicts(_part: KeyPart) -> str:
    return "cleanup_verdict AS t"

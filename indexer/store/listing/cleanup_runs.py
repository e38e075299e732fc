"""The lists of cleanup runs, newest first, and of what one did."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.store.listing.jobs import COLUMNS
from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery
from indexer.store.listing.statement import Condition, look_up

_ACTIONS: Mapping[str, Column] = {
    "asked_at": Column(name="asked_at", sql="t.asked_at", type="timestamptz"),
    "id": Column(name="id", sql="t.id", type="uuid"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs a caller wants; None: any. ``policies``: those that these policies began themselves."""

    states: Sequence[str] | None = None
    policies: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFilter:
    """Which actions of a run a caller wants; None: any."""

    repositories: Sequence[str] | None = None
    outcomes: Sequence[str] | None = None


def listed_runs(wanted: RunFilter) -> PageQuery:
    """Return the jobs of cleanup."""
    plain: tuple[tuple[str, object], ...] = (
        ("t.state = ANY ({}::text[])", wanted.states),
        ("t.by_policy AND t.asked_by = ANY ({}::text[])", wanted.policies),
    )
    return PageQuery(
        source=_jobs,
        scope=(Condition("t.kind = 'cleanup'"),),
        orders=orders_of(COLUMNS, [("number", True)], ties=["number"]),
        identity=(("number", "bigint"),),
        outer="j.*",
        joins=look_up("job", "j", "number"),
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def listed_actions(job: uuid.UUID, wanted: ActionFilter) -> PageQuery:
    """Return what a job did to tags and manifests, in its order."""
    plain: tuple[tuple[str, object], ...] = (
        ("t.repository = ANY ({}::text[])", wanted.repositories),
        ("t.outcome = ANY ({}::text[])", wanted.outcomes),
    )
    return PageQuery(
        source=_actions,
        scope=(Condition("t.job_id = {}::uuid", (job,)),),
        orders=orders_of(_ACTIONS, [("asked_at", False)], ties=["id"]),
        identity=(("id", "uuid"),),
        outer="a.*",
        joins=look_up("tag_action", "a", "id"),
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def _jobs(_part: KeyPart) -> str:
    return "job AS t"


def _actions(_part: KeyPart) -> str:
    return "tag_action AS t"

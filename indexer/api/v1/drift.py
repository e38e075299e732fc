"""Drift: what differed between registry and inventory, the likely cause, and the reconciles that found it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Flag, Several, Text, Texts, Time, WholeNumber
from indexer.api.responses import Items
from indexer.common.rfc3339 import format_time
from indexer.inventory.changes import DriftCause, DriftKind
from indexer.oci.digest import digest_from_bytes
from indexer.store.listing.drift import FindingFilter, drift_findings
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import Row, fetch_page
from indexer.store.listing.runs import latest_runs
from indexer.store.listing.scopes import find_scope

SCOPE = "drift"
RUNS = 20
"""Newest reconcile runs on every page of findings."""


class DriftQuery(ListQuery):
    """Findings, newest first."""

    run: WholeNumber | None = Field(default=None, description="Of this reconcile run.")
    repository: Texts | None = Field(default=None, description="Of any of these repositories.")
    prefix: Text | None = Field(default=None, description="Of repositories whose name begins with this.")
    tag: Text | None = Field(default=None, description="About this tag.")
    kind: Several[DriftKind] | None = Field(default=None, description="How they differed.")
    cause: Several[DriftCause] | None = Field(default=None, description="The likely cause.")
    repaired: Flag | None = Field(default=None, description="Whether the inventory was repaired.")
    detected_after: Time | None = Field(default=None, description="Exclusive.")
    detected_before: Time | None = Field(default=None, description="Exclusive.")
    other_names: ClassVar[Mapping[str, str]] = {
        "after_time": "detected_after",
        "before_time": "detected_before",
        "since": "detected_after",
        "until": "detected_before",
    }


class DriftFinding(Shown):
    """One difference between the registry and the inventory."""

    id: int
    run_id: int | None = Field(description="The reconcile run that found it; null: found by verifying a tag.")
    kind: DriftKind
    repository: str | None
    tag: str | None
    expected: str | None = Field(description="The digest on record; null: none was.")
    found: str | None = Field(description="The digest in the registry; null: none is.")
    cause: DriftCause
    detected_at: datetime
    repaired_at: datetime | None
    note: str | None


class UndecidedShown(Shown):
    """What could not be decided, for one kind of reason."""

    count: int
    examples: list[str] = Field(description="The first few, in full.")


class DriftRun(Shown):
    """One reconcile run."""

    id: int
    mode: Literal["run", "once", "plan"]
    started_at: datetime
    finished_at: datetime | None = Field(
        description="Null: it still runs, or was interrupted and is not closed yet."
    )
    outcome: Literal["complete", "incomplete", "braked", "failed", "interrupted"] | None
    repositories: list[str] | None = Field(description="The repositories to reconcile; null: all of them.")
    cause: str | None = Field(description="Why the reconciler began it by itself; null: an operator did.")
    findings: int
    counts: dict[str, Any]
    undecided: dict[str, UndecidedShown] = Field(
        description="What could not be decided, by kind of reason; nothing was changed for it. While the reconcile "
        "runs, only what was known when it began."
    )
    note: str | None


class DriftPage(Listed[DriftFinding]):
    """Findings, with the newest reconcile runs."""

    runs: list[DriftRun]


@operation("/drift", query=DriftQuery, result=DriftPage, item=DriftFinding)
async def list_drift(call: ApiCall[DriftQuery]) -> Items:
    """List what differed between the registry and the inventory, newest first, with the newest reconcile runs."""
    query = call.query
    wanted = FindingFilter(
        run_id=query.run,
        kinds=query.kind,
        causes=query.cause,
        tag=query.tag,
        repaired=query.repaired,
        detected_after=query.detected_after,
        detected_before=query.detected_before,
    )
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        scope = await find_scope(
            held,
            repositories=query.repository or (),
            prefix=query.prefix,
            granted=call.principal.repositories,
        )
        listing = drift_findings(scope=scope, wanted=wanted)
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
        runs = await latest_runs(held, limit=RUNS) if call.principal.repositories is None else []
    return items_of(
        call,
        SCOPE,
        listing,
        found,
        items=[_show(row) for row in found.rows],
        freshness=fresh,
        count=count,
        more={"runs": [_show_run(row) for row in runs]},
    )


def _show(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "run_id": row["run_id"],
        "kind": row["kind"],
        "repository": row["repository"],
        "tag": row["tag"],
        "expected": None if row["expected"] is None else digest_from_bytes(row["expected"]),
        "found": None if row["found"] is None else digest_from_bytes(row["found"]),
        "cause": row["cause"],
        "detected_at": format_time(row["detected_at"]),
        "repaired_at": format_time(row["repaired_at"]),
        "note": row["note"],
    }


def _show_run(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "mode": row["mode"],
        "started_at": format_time(row["started_at"]),
        "finished_at": format_time(row["finished_at"]),
        "outcome": row["outcome"],
        "repositories": row["scope"],
        "cause": row["cause"],
        "findings": row["findings"],
        "counts": row["counts"],
        "undecided": row["undecided"],
        "note": row["note"],
    }

"""The drift report: reconcile runs, and what they or verification found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexer.inventory.causes import TENTATIVE
from indexer.inventory.changes import Finding
from indexer.oci.digest import digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("drift")
RUN_LOCK = 0x77616C6C
"""Class of the advisory locks that mark workers of a run; the run's id is the other half of the key."""


class RunMode(StrEnum):
    """What began a reconcile run: ``reconciler run``, ``once`` or ``plan``."""

    RUN = "run"
    ONCE = "once"
    PLAN = "plan"


class RunOutcome(StrEnum):
    """How a reconcile run ended."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BRAKED = "braked"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its workers ended before it did, and nobody resumed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRun:
    """A full reconcile that ended complete."""

    id: int
    started_at: datetime
    finished_at: datetime
    counts: Mapping[str, int]


async def add_findings(
    connection: Connection,
    *,
    findings: Sequence[Finding],
    run_id: int | None,
    repository_ids: Mapping[RepositoryName, int],
    note: str | None = None,
) -> None:
    """Record findings; ``run_id`` None: verification found them."""
    await connection.execute(
        SQL["add_findings"],
        [run_id] * len(findings),
        [finding.detected_at for finding in findings],
        [finding.detected_at if finding.repaired else None for finding in findings],
        [repository_ids.get(finding.repository) for finding in findings],
        [finding.kind for finding in findings],
        [finding.cause for finding in findings],
        [finding.tag for finding in findings],
        [digest_to_bytes(f.expected) if f.expected else None for f in findings],
        [digest_to_bytes(f.found) if f.found else None for f in findings],
        [note] * len(findings),
        [finding.not_before for finding in findings],
        TENTATIVE,
    )


async def last_complete_run(connection: Connection) -> CompleteRun | None:
    """Return the newest full reconcile that ended complete."""
    row = await connection.fetchrow(SQL["last_complete_run"])
    if row is None:
        return None
    return CompleteRun(
        id=row["id"], started_at=row["started_at"], finished_at=row["finished_at"], counts=row["counts"]
    )

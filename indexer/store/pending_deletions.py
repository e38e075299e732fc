"""Deletions that a reconcile run has found, kept in the database until its end, when the brake decides on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexer.oci.digest import Digest, digest_from_bytes
from indexer.oci.reference import RepositoryName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("pending_deletions")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDeletion:
    """A deletion that waits. ``key``: the tag, or the manifest's digest. ``expected``: the digest on record."""

    repository: RepositoryName
    key: str
    revision: int
    observed_at: datetime
    as_of: datetime
    expected: Digest | None


async def count_pending(held: Connection, *, run_id: int) -> dict[tuple[bool, bool], int]:
    """Return how many deletions of a run wait, by (is a manifest, its repository vanished)."""
    rows = await held.fetch(SQL["count_pending"], run_id)
    return {(row["is_manifest"], row["repository_vanished"]): row["deletions"] for row in rows}


async def list_pending(
    held: Connection, *, run_id: int, manifests: bool, limit: int
) -> list[PendingDeletion]:
    """Return the first deletions of a run that wait: of manifests, or of tags."""
    return [
        PendingDeletion(
            repository=RepositoryName(row["repository"]),
            key=row["key"],
            revision=row["revision"],
            observed_at=row["observed_at"],
            as_of=row["as_of"],
            expected=digest_from_bytes(row["expected"]) if row["expected"] else None,
        )
        for row in await held.fetch(SQL["list_pending"], run_id, manifests, limit)
    ]


async def drop_pending(
    held: Connection, *, run_id: int, done: Sequence[PendingDeletion], manifests: bool
) -> None:
    """Forget deletions that were carried out or reported."""
    names, keys = [item.repository for item in done], [item.key for item in done]
    await held.execute(SQL["drop_pending"], run_id, names, keys, manifests)


async def record_brake_decision(held: Connection, *, run_id: int, deletes: bool, brake: str | None) -> None:
    """Record what the brake decided on a run's deletions. Whoever finishes the run keeps to it."""
    await held.execute(SQL["record_brake_decision"], run_id, deletes, brake)


async def count_unrepaired(held: Connection, *, run_id: int, limit: int) -> dict[str, int]:
    """Return the repositories with the most tags that a run reported and did not repair, and how many of each."""
    rows = await held.fetch(SQL["count_unrepaired"], run_id, limit)
    return {row["repository"]: row["tags"] for row in rows}


async def list_unrepaired(held: Connection, *, run_id: int, limit: int) -> list[Any]:
    """Return the first tags that a run reported and did not repair; ``all_of_them``: how many there are."""
    return list(await held.fetch(SQL["list_unrepaired"], run_id, limit))

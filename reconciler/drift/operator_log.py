"""Entries of the audit log for what an operator asked of a run; what a loop does by itself has none."""

from __future__ import annotations

from datetime import UTC, datetime

from indexer.inventory.changes import AuditAction
from indexer.store.operators import record_action
from indexer.store.pool import Connection
from reconciler.drift.report import RunSettings


async def record_operator_action(
    held: Connection, settings: RunSettings, action: AuditAction, **detail: object
) -> None:
    """Add an entry if an operator asked for the run; in the caller's transaction."""
    if settings.operator is not None:
        now = datetime.now(UTC)
        await record_action(held, action=action, operator=settings.operator, at=now, detail=detail)

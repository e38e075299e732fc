"""What an operator asked a walk for is entered in the audit log; what a loop does by itself is not an operator's."""

from __future__ import annotations

from datetime import UTC, datetime

from indexer.inventory.changes import AuditAction
from indexer.store.operators import record_action
from indexer.store.pool import Connection
from reconciler.drift.report import RunSettings


async def record_operator_action(
    held: Connection, settings: RunSettings, action: AuditAction, **detail: object
) -> None:
    """Enter an action, if somebody asked for it; in the caller's transaction."""
    if settings.operator is not None:
        now = datetime.now(UTC)
        await record_action(held, action=action, operator=settings.operator, at=now, detail=detail)

"""Maintenance: the times in which nothing acts because an operator said so. By the database's clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from indexer.inventory.changes import AuditAction
from indexer.jobs.pauses import Maintenance, Pause, pause_of
from indexer.store.operators import Operator, record_action
from indexer.store.policies_in_force import in_force
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("maintenance")

UNREADABLE: Final = Pause(
    code="policies_unreadable",
    text="the policies in force cannot be read by this program, which is older than the one that put them in force: "
    "nothing acts until it is upgraded",
)


async def why_paused(connection: Connection) -> Pause | None:
    """Return why nothing may act now; None: it may. Whatever acts asks here, and nowhere else.

    By maintenance, and by the blocked windows of the policies in force. Policies that this program cannot read, because
    a newer one put them in force, may block this very moment: then it lets nothing act.
    """
    maintenance, now = await newest_maintenance(connection)
    pause = pause_of(maintenance=maintenance, now=now)
    if pause is not None:
        return pause
    file = await in_force(connection)
    if file is None or not file.content:
        return None
    from indexer.policies.problems import PoliciesRefused  # noqa: PLC0415 - only where there are policies

    try:
        blocked = file.policies().blocked
    except PoliciesRefused:
        return UNREADABLE
    return pause_of(maintenance=None, blocked=blocked, now=now)


async def newest_maintenance(connection: Connection) -> tuple[Maintenance | None, datetime]:
    """Return the maintenance that was begun last, ended or not, and the time by the database's clock."""
    row = await connection.fetchrow(SQL["newest_maintenance"])
    assert row is not None  # noqa: S101 - tells mypy
    return None if row["begun_at"] is None else _maintenance(row), row["now"]


async def begin_maintenance(
    connection: Connection, *, lasting: timedelta | None, operator: Operator, reason: str | None
) -> Maintenance:
    """Begin maintenance, in place of one that holds, with its entry in the log; in the caller's transaction."""
    await connection.execute(SQL["lock_maintenance"])
    await connection.execute(SQL["end_maintenance"])
    begun = _maintenance(await connection.fetchrow(SQL["begin_maintenance"], lasting, operator.name, reason))
    await record_action(
        connection,
        action=AuditAction.OPERATOR_MAINTENANCE_BEGAN,
        operator=operator,
        at=begun.begun_at,
        detail={"reason": reason, "until": None if begun.until is None else begun.until.isoformat()},
    )
    return begun


async def end_maintenance(connection: Connection, *, operator: Operator, reason: str | None) -> bool:
    """End maintenance, with its entry in the log; False: none held. In the caller's transaction."""
    await connection.execute(SQL["lock_maintenance"])
    maintenance, now = await newest_maintenance(connection)
    if maintenance is None or not maintenance.holds(now):
        return False
    await connection.execute(SQL["end_maintenance"])
    await record_action(
        connection,
        action=AuditAction.OPERATOR_MAINTENANCE_ENDED,
        operator=operator,
        at=now,
        detail={"reason": reason},
    )
    return True


def _maintenance(row: object) -> Maintenance:
    found: dict[str, object] = dict(row)  # type: ignore[call-overload]
    found.pop("now", None)
    return Maintenance(**found)  # type: ignore[arg-type]

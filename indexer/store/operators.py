"""What operators and policies did, as audit entries: written in the transaction of what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from indexer.inventory.changes import AuditAction, AuditSource
from indexer.inventory.events import RequestInfo
from indexer.store.lookups import operator_ids
from indexer.store.pool import Connection
from indexer.store.queries import load
from indexer.store.text import storable

SQL = load("operators")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who ran a command, on which machine, and which command."""

    name: str
    host: str
    command: str


async def record_action(
    connection: Connection,
    *,
    action: AuditAction,
    operator: Operator | None,
    at: datetime,
    detail: Mapping[str, object],
) -> None:
    """Stage an entry in the caller's transaction. ``detail``: on what, and how much. No operator: a policy."""
    actor_id, client_id, source = None, None, AuditSource.POLICY
    if operator is not None:
        source = AuditSource.OPERATOR
        name, _ = storable(operator.name)
        request = RequestInfo(host=storable(operator.host)[0], user_agent=storable(operator.command)[0])
        actor_id, client_id = await operator_ids(connection, name=name, request=request)
    await connection.execute(SQL["record_action"], at, action, source, actor_id, client_id, dict(detail))

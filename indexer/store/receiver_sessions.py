"""Receiver sessions: since when each process can take deliveries, and when it last reported."""

from __future__ import annotations

import uuid
from datetime import datetime

from indexer.inventory.loss import ReceiverSession
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("receiver_sessions")


async def record_receiver_session(
    connection: Connection, *, process: uuid.UUID, session: ReceiverSession, spooled: int
) -> None:
    """Record that a process can still take deliveries, and how many wait in its spool."""
    await connection.execute(
        SQL["record_receiver_session"], process, session.opened_at, session.heartbeat_at, spooled
    )


async def list_receiver_sessions(connection: Connection) -> list[ReceiverSession]:
    """Return all sessions."""
    return [ReceiverSession(**dict(row)) for row in await connection.fetch(SQL["list_receiver_sessions"])]


async def trim_receiver_sessions(connection: Connection, *, before: datetime) -> None:
    """Forget sessions that last reported before an instant and are no longer needed to find a downtime."""
    await connection.execute(SQL["trim_receiver_sessions"], before)

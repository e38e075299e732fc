"""How every background loop of every process fares."""

from __future__ import annotations

from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("loops")


async def report(
    connection: Connection, *, loop: str, process: str, at: datetime, outcome: str, error: str | None
) -> None:
    """Write how a loop fared; the last error stays visible after it has passed."""
    await connection.execute(SQL["report"], loop, process, at, outcome, error)


async def trim_loops(connection: Connection, *, before: datetime) -> None:
    """Forget loops of processes that are long gone."""
    await connection.execute(SQL["trim_loops"], before)

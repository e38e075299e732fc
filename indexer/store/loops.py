"""The last run of every background loop of every process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from indexer.store.pool import Connection
from indexer.store.queries import load

if TYPE_CHECKING:
    from indexer.store.listing.page_query import Row

SQL = load("loops")


async def list_loops(connection: Connection) -> Sequence[Row]:
    """Return the loops of all running processes, and of the last process of each program.

    A row has: ``loop``, ``process``, ``started_at``, ``last_run_at``, ``last_good_at``, ``last_error``, ``outcome``.
    """
    rows: Sequence[Row] = await connection.fetch(SQL["list_loops"])
    return rows


async def report(
    connection: Connection, *, loop: str, process: str, at: datetime, outcome: str, error: str | None
) -> None:
    """Record a run of a loop. The last error stays visible after later runs that succeed."""
    await connection.execute(SQL["report"], loop, process, at, outcome, error)


async def end_process(connection: Connection, *, process: str) -> None:
    """Record that a process ended, and forget the ended processes of its program before it."""
    await connection.execute(SQL["end_process"], process)
    await connection.execute(SQL["forget_ended"], process)


async def trim_loops(connection: Connection, *, before: datetime) -> None:
    """Forget loops that last ran before an instant."""
    await connection.execute(SQL["trim_loops"], before)

"""How every background loop of every process fares."""

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
    """Return how every loop fares of the processes that live, and of the last one of each program.

    In a row: ``loop``, ``process``, ``started_at``, ``last_run_at``, ``last_good_at``, ``last_error``, ``outcome``.
    """
    rows: Sequence[Row] = await connection.fetch(SQL["list_loops"])
    return rows


async def report(
    connection: Connection, *, loop: str, process: str, at: datetime, outcome: str, error: str | None
) -> None:
    """Write how a loop fared; the last error stays visible after it has passed."""
    await connection.execute(SQL["report"], loop, process, at, outcome, error)


async def end_process(connection: Connection, *, process: str) -> None:
    """Say that a process was ended, and forget those of its program that were before."""
    await connection.execute(SQL["end_process"], process)
    await connection.execute(SQL["forget_ended"], process)


async def trim_loops(connection: Connection, *, before: datetime) -> None:
    """Forget loops of processes that are long gone."""
    await connection.execute(SQL["trim_loops"], before)

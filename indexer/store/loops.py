"""How every background loop of every process fares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("loops")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """One loop of one process."""

    loop: str
    process: str
    last_good_at: datetime | None


async def list_loops(connection: Connection) -> list[LoopState]:
    """Return how every loop fares of the processes that live, and of the last one of each program."""
    return [LoopState(**dict(row)) for row in await connection.fetch(SQL["list_loops"])]


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

"""When somebody received: since when each process takes deliveries, and until when it is known to have."""

from __future__ import annotations

import uuid
from datetime import datetime

from indexer.inventory.loss import Door
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("doors")


async def keep_door(connection: Connection, *, process: uuid.UUID, door: Door, spooled: int) -> None:
    """Say that a process still takes deliveries, and how many wait in its spool."""
    await connection.execute(SQL["keep_door"], process, door.opened_at, door.open_at, spooled)


async def list_doors(connection: Connection) -> list[Door]:
    """Return when each process received."""
    return [Door(**dict(row)) for row in await connection.fetch(SQL["list_doors"])]


async def trim_doors(connection: Connection, *, before: datetime) -> None:
    """Forget doors last open before an instant that tell nothing more."""
    await connection.execute(SQL["trim_doors"], before)

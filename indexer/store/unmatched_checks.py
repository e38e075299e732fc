"""Checks that wait for the GET by digest which may follow them: kept between batches, for minutes.

Who asks for what is kept as a hash, so that no address is kept twice.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime

from indexer.inventory.pulls import Asking, WaitingCheck
from indexer.oci.reference import TagName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("unmatched_checks")

TAGS_OF_EACH = 16
"""Tags of one digest that one client may have checked before it fetches: no more are read."""

MOST_CHECKS = 2**31 - 1


async def find_checks(
    connection: Connection, *, asked: Iterable[Asking]
) -> dict[tuple[Asking, TagName], WaitingCheck]:
    """Return what waits of each that is asked."""
    by_key = {_key(asking): asking for asking in asked}
    if not by_key:
        return {}
    rows = await connection.fetch(SQL["find_checks"], list(by_key), TAGS_OF_EACH)
    return {
        (by_key[row["match_key"]], TagName(row["name"])): WaitingCheck(
            checks=row["checks"], oldest_at=row["oldest_at"], newest_at=row["newest_at"]
        )
        for row in rows
    }


async def put_checks(
    connection: Connection, *, waiting: Mapping[tuple[Asking, TagName], WaitingCheck | None], at: datetime
) -> None:
    """Store what waits now, None: nothing. The repositories must be locked.

    A row of nothing is left to its age: to delete it would take a second statement.
    """
    if not waiting:
        return
    rows = [(_key(asking), tag, left) for (asking, tag), left in waiting.items()]
    await connection.execute(
        SQL["put_checks"],
        [key for key, _, _ in rows],
        [tag for _, tag, _ in rows],
        [at if left is None else left.oldest_at for _, _, left in rows],
        [at if left is None else left.newest_at for _, _, left in rows],
        [0 if left is None else min(left.checks, MOST_CHECKS) for _, _, left in rows],
        at,
    )


async def trim_checks(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget what was stored before an instant; return how many."""
    return int((await connection.execute(SQL["trim_checks"], before, limit)).rsplit(" ", 1)[1])


def _key(asking: Asking) -> uuid.UUID:
    # No part can hold a NUL: it is not storable.
    return uuid.UUID(bytes=hashlib.sha256("\0".join(asking).encode()).digest()[:16])

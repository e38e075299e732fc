"""Checks that wait for the GET by digest that may follow: kept between batches, for minutes.

What a check and its GET have in common is stored as a hash, so that no address is stored here.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime

from indexer.inventory.pulls import PullKey, WaitingCheck
from indexer.oci.reference import TagName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("unmatched_checks")

TAGS_OF_EACH = 16
"""At most so many tags of one digest that one client checked are read."""

MOST_CHECKS = 2**31 - 1


async def find_checks(
    connection: Connection, *, keys: Iterable[PullKey]
) -> dict[tuple[PullKey, TagName], WaitingCheck]:
    """Return the waiting checks of each key."""
    by_hash = {_hash(key): key for key in keys}
    if not by_hash:
        return {}
    rows = await connection.fetch(SQL["find_checks"], list(by_hash), TAGS_OF_EACH)
    return {
        (by_hash[row["match_key"]], TagName(row["name"])): WaitingCheck(
            checks=row["checks"], oldest_at=row["oldest_at"], newest_at=row["newest_at"]
        )
        for row in rows
    }


async def put_checks(
    connection: Connection, *, waiting: Mapping[tuple[PullKey, TagName], WaitingCheck | None], at: datetime
) -> None:
    """Store what waits now, None: nothing. The repositories must be locked.

    A row without checks is removed by its age: to delete it here would take a second statement.
    """
    if not waiting:
        return
    rows = [(_hash(key), tag, left) for (key, tag), left in waiting.items()]
    await connection.execute(
        SQL["put_checks"],
        [hashed for hashed, _, _ in rows],
        [tag for _, tag, _ in rows],
        [at if left is None else left.oldest_at for _, _, left in rows],
        [at if left is None else left.newest_at for _, _, left in rows],
        [0 if left is None else min(left.checks, MOST_CHECKS) for _, _, left in rows],
        at,
    )


async def trim_checks(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget what was stored before an instant; return how many."""
    return int((await connection.execute(SQL["trim_checks"], before, limit)).rsplit(" ", 1)[1])


def _hash(key: PullKey) -> uuid.UUID:
    # No part can contain a NUL: PostgreSQL does not store one.
    return uuid.UUID(bytes=hashlib.sha256("\0".join(key).encode()).digest()[:16])

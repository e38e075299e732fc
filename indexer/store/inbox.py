"""The inbox: raw deliveries, durable before they are answered; and the quarantine for those that cannot be applied."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("inbox")

PARTITIONS = 8
PARTITION_LOCKS = 0x6C616E65
"""Class of the advisory locks of partitions; the partition's number is the other half of the key."""

_REPOSITORY = re.compile(rb'"repository"\s*:\s*"([^"\\]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One notification as it arrived. ``id`` is 0 before it is stored.

    - ``can_wait``: it has pulls only, or is imported.
    - ``spool_key``: it went through the spool; of an imported one, derived from its content.
    - ``imported``: of an older history, not from a registry (docs/adr/0036).
    - ``attempts``: how often it failed when applied alone.
    """

    received_at: datetime
    body: bytes
    content_type: str = ""
    content_encoding: str = ""
    id: int = 0
    can_wait: bool = False
    spool_key: uuid.UUID | None = None
    imported: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """What could not be applied, with the reason. ``id`` is its own, not the delivery's."""

    id: int
    received_at: datetime
    quarantined_at: datetime
    content_type: str
    content_encoding: str
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """A delivery, or one event of it, to be quarantined."""

    delivery: Delivery
    reason: str
    body: bytes | None = None
    """The refused event as an envelope of its own; None for the whole delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxBacklog:
    """How many deliveries wait, since when the oldest, how many of them failed before; and how many are quarantined."""

    waiting: int
    since: datetime | None
    failing: int
    quarantined: int


async def put_deliveries(connection: Connection, *, deliveries: Sequence[Delivery]) -> None:
    """Store deliveries in their order."""
    await connection.execute(
        SQL["put_deliveries"],
        [delivery.received_at for delivery in deliveries],
        [delivery.content_type for delivery in deliveries],
        [delivery.content_encoding for delivery in deliveries],
        [delivery.body for delivery in deliveries],
        [delivery.can_wait for delivery in deliveries],
        [delivery.spool_key for delivery in deliveries],
        [delivery.imported for delivery in deliveries],
        [partition_of(delivery) for delivery in deliveries],
    )


def partition_of(delivery: Delivery) -> int:
    """Return the partition of a delivery: deliveries of one repository are in one, on which one worker at a time works.

    So two workers do not wait for each other's locks, and apply a repository's events in order. It is found without
    parsing, by the first repository that the body names; a wrong one costs only that. Imported ones are in one.
    """
    found = None if delivery.imported else _REPOSITORY.search(delivery.body)
    return crc32(found[1]) % PARTITIONS if found else 0


async def take_deliveries(
    connection: Connection, *, can_wait: bool, limit: int, limit_bytes: int
) -> list[Delivery]:
    """Lock the oldest waiting deliveries until the transaction ends, in partitions that no other worker has.

    If fewer than ``limit`` wait they are of all free partitions, else of one. At least one, if any waits there.
    """
    partitions = [
        row[0]
        for row in await connection.fetch(
            SQL["lock_partitions"], can_wait, limit, PARTITION_LOCKS, PARTITIONS
        )
    ]
    if not partitions:
        return []
    rows = await connection.fetch(SQL["take_deliveries"], can_wait, limit, limit_bytes, partitions)
    return [Delivery(**dict(row)) for row in rows]


async def take_delivery(connection: Connection, *, number: int) -> Delivery | None:
    """Lock one delivery until the transaction ends; None if it is done, or another worker has it."""
    row = await connection.fetchrow(SQL["take_delivery"], number)
    return None if row is None else Delivery(**dict(row))


async def finish_deliveries(connection: Connection, *, ids: Sequence[int], now: datetime) -> None:
    """Mark deliveries as done. They are kept raw until they are trimmed by age."""
    await connection.execute(SQL["finish_deliveries"], list(ids), now)


async def delay_deliveries(
    connection: Connection, *, ids: Sequence[int], seconds: float, reason: str, failed: bool
) -> None:
    """Let deliveries wait for ``seconds``. ``failed``: each failed when applied alone, which is counted."""
    await connection.execute(SQL["delay_deliveries"], list(ids), timedelta(seconds=seconds), reason, failed)


async def quarantine(connection: Connection, *, refused: Sequence[Quarantine], now: datetime) -> None:
    """Keep what could not be applied, with the reason."""
    await connection.execute(
        SQL["quarantine"],
        [item.delivery.id for item in refused],
        [item.delivery.received_at for item in refused],
        now,
        [item.delivery.content_type for item in refused],
        ["" if item.body is not None else item.delivery.content_encoding for item in refused],
        [item.reason for item in refused],
        [item.delivery.body if item.body is None else item.body for item in refused],
        [item.delivery.imported for item in refused],
    )


async def list_quarantine(connection: Connection, *, after: int, limit: int) -> list[Quarantined]:
    """Return quarantined deliveries after an id, oldest first."""
    return [Quarantined(**dict(row)) for row in await connection.fetch(SQL["list_quarantine"], after, limit)]


async def retry_quarantine(connection: Connection, *, ids: Sequence[int] | None) -> list[int]:
    """Put quarantined deliveries (None: all) back into the inbox; return the ids of those that were there."""
    rows = await connection.fetch(SQL["retry_quarantine"], None if ids is None else list(ids))
    return [row["id"] for row in rows]


async def discard_quarantine(connection: Connection, *, ids: Sequence[int] | None) -> list[int]:
    """Forget quarantined deliveries (None: all); return the ids of those that were there."""
    rows = await connection.fetch(SQL["discard_quarantine"], None if ids is None else list(ids))
    return [row["id"] for row in rows]


async def inbox_backlog(connection: Connection) -> InboxBacklog:
    """Return how many deliveries wait and how many are quarantined."""
    row = await connection.fetchrow(SQL["inbox_backlog"])
    return InboxBacklog(**dict(row))  # type: ignore[arg-type]  # an aggregate always has a row


async def has_waiting(connection: Connection, *, received_before: datetime) -> bool:
    """Tell whether a delivery waits that was received before an instant, has more than pulls and never failed."""
    return bool(await connection.fetchval(SQL["has_waiting"], received_before))


async def trim_inbox(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget deliveries done before an instant; return how many."""
    return int((await connection.execute(SQL["trim_inbox"], before, limit)).rsplit(" ", 1)[1])

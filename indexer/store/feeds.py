"""How far each feed has delivered the sealed log, and its dead letters. The log itself is the queue.

``listing.feeds`` reads the entries that a feed delivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("feeds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A feed as the process that leases it finds it. ``log``: which log this is; ``head``: its newest position."""

    position: int
    attempts: int
    refused_in_a_row: int
    replays: int
    prepared_replay: int
    retry_at: datetime | None
    stopped: str | None
    last_error: str | None
    head: int
    log: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedState:
    """The state of a feed. ``behind``: positions not delivered yet, the oldest recorded at ``behind_since``."""

    name: str
    kind: str
    position: int
    delivered: int
    attempts: int
    replays: int
    created_at: datetime
    delivered_at: datetime | None
    failed_at: datetime | None
    retry_at: datetime | None
    stopped: str | None
    last_error: str | None
    held: bool
    behind: int
    behind_since: datetime | None
    dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An entry that a sink refused for good. ``first_tried_at`` None: before this was recorded."""

    position: int
    refused_at: datetime
    retry_requested: bool
    reason: str
    tries: int
    first_tried_at: datetime | None
    tried_at: datetime


@dataclass(slots=True, kw_only=True)
class FeedLease:
    """What must still be true of a feed for its position to move: its holder, position and replay."""

    name: str
    holder: str
    position: int
    replays: int


async def make_feed(connection: Connection, *, name: str, kind: str, after: int | None) -> None:
    """Add a feed unless it is on record. ``after``: it begins after this position; None: after the newest entry."""
    await connection.execute(SQL["make_feed"], name, kind, after)


async def lease_feed(connection: Connection, *, name: str, holder: str, seconds: float) -> Leased | None:
    """Become, or stay, the process that delivers a feed; None if another is, or if the feed is not on record."""
    row = await connection.fetchrow(SQL["lease_feed"], name, holder, timedelta(seconds=seconds))
    return None if row is None else Leased(**dict(row))


async def release_feed(connection: Connection, *, name: str, holder: str) -> None:
    """Let another process take over at once."""
    await connection.execute(SQL["release_feed"], name, holder)


async def begin_replay(connection: Connection, *, name: str, replay: int) -> None:
    """Record that the sink was prepared for a replay."""
    await connection.execute(SQL["begin_replay"], name, replay)


async def move_feed(
    connection: Connection, *, lease: FeedLease, position: int, delivered: int, now: datetime
) -> bool:
    """Move the position; False where the lease is lost: another process has it, or the feed was replayed."""
    moved = await connection.fetchval(
        SQL["move_feed"], lease.name, lease.holder, lease.position, lease.replays, position, delivered, now
    )
    return moved is not None


async def add_dead_letter(
    connection: Connection, *, lease: FeedLease, position: int, entry: int, now: datetime, reason: str
) -> int | None:
    """Add a dead letter and move the position; return how many were refused in a row, None where the lease is lost."""
    refused: int | None = await connection.fetchval(
        SQL["add_dead_letter"],
        lease.name,
        lease.holder,
        lease.position,
        lease.replays,
        position,
        entry,
        now,
        reason,
    )
    return refused


async def fail_feed(
    connection: Connection, *, name: str, holder: str, now: datetime, retry_at: datetime, error: str
) -> None:
    """Record that a delivery failed, and when it is tried again."""
    await connection.execute(SQL["fail_feed"], name, holder, now, retry_at, error)


async def stop_feed(connection: Connection, *, name: str, holder: str, now: datetime, reason: str) -> None:
    """Deliver nothing until an operator replays."""
    await connection.execute(SQL["stop_feed"], name, holder, now, reason)


async def replay_feed(connection: Connection, *, name: str, after: int | None) -> int | None:
    """Continue after a position (None: where the feed is); return the position, None if there is no such feed."""
    position: int | None = await connection.fetchval(SQL["replay_feed"], name, after)
    return position


async def remove_feed(connection: Connection, *, name: str) -> bool:
    """Remove a feed; False if there is none."""
    return await connection.fetchval(SQL["remove_feed"], name) is not None


async def list_feeds(connection: Connection, *, names: Sequence[str] | None = None) -> list[FeedState]:
    """Return the state of every feed, or of those with these names, by name."""
    wanted = None if names is None else list(names)
    return [FeedState(**dict(row)) for row in await connection.fetch(SQL["list_feeds"], wanted)]


async def list_dead_letters(connection: Connection, *, name: str, after: int, limit: int) -> list[DeadLetter]:
    """Return the dead letters of a feed after a position, in the order of the log."""
    return [
        DeadLetter(**dict(row))
        for row in await connection.fetch(SQL["list_dead_letters"], name, after, limit)
    ]


async def retry_dead_letters(connection: Connection, *, name: str, positions: Sequence[int] | None) -> int:
    """Request a retry of dead letters (None: all); return how many. A stopped feed goes on."""
    wanted = None if positions is None else list(positions)
    return int(await connection.fetchval(SQL["retry_dead_letters"], name, wanted))


async def discard_dead_letters(
    connection: Connection, *, name: str, positions: Sequence[int] | None
) -> list[int]:
    """Remove dead letters (None: all) for good; return their positions, in order. The entries stay in the log."""
    wanted = None if positions is None else list(positions)
    return sorted(
        row["position"] for row in await connection.fetch(SQL["discard_dead_letters"], name, wanted)
    )


async def dead_letters_to_retry(connection: Connection, *, name: str, limit: int) -> list[tuple[int, int]]:
    """Return the positions of dead letters to be retried now, and how often each was retried without an answer."""
    rows = await connection.fetch(SQL["dead_letters_to_retry"], name, limit)
    return [(row["position"], row["attempts"]) for row in rows]


async def delay_dead_letter(
    connection: Connection, *, name: str, position: int, seconds: float, reason: str
) -> None:
    """Record that the sink did not answer the retry of a dead letter. It is retried after ``seconds``."""
    await connection.execute(SQL["delay_dead_letter"], name, position, timedelta(seconds=seconds), reason)


async def resolve_dead_letter(connection: Connection, *, name: str, position: int) -> None:
    """Remove a dead letter that the sink accepted."""
    await connection.execute(SQL["resolve_dead_letter"], name, position)


async def dead_letter_again(
    connection: Connection, *, name: str, position: int, now: datetime, reason: str
) -> None:
    """Record that a dead letter was refused again."""
    await connection.execute(SQL["dead_letter_again"], name, position, now, reason)


async def log_identity(connection: Connection) -> UUID:
    """Return which log this is."""
    identity: UUID = await connection.fetchval(SQL["log_identity"])
    return identity

"""Events on their way to GitLab: queued with the change they make, removed once GitLab accepted them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from indexer.inventory.events import Event, EventAction
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("forwarding")

FORWARDED = (EventAction.PUSH, EventAction.DELETE, EventAction.PULL)
"""GitLab refuses a whole envelope for one event of any other action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """An event that waits for GitLab. ``body``: its JSON as the registry sent it."""

    id: int
    queued_at: datetime
    attempts: int
    subject: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingBacklog:
    """How many events wait, since when, and how many GitLab refused; how many were forwarded and dropped in all."""

    waiting: int
    since: datetime | None
    dead: int
    forwarded: int
    dropped: int


async def enqueue_events(
    connection: Connection,
    *,
    events: Sequence[Event],
    originals: Mapping[str, Mapping[str, Any]],
    now: datetime,
    pulls: bool,
) -> int:
    """Queue the events that GitLab takes, in the transaction that applies them; return how many.

    ``originals``: the events as the registry sent them, by id. Our own pulls are not forwarded.
    """
    wanted = [
        event
        for event in events
        if event.action in FORWARDED
        and not (event.action is EventAction.PULL and (event.ours or not pulls))
        and event.id in originals
    ]
    if wanted:
        await connection.execute(
            SQL["enqueue_events"],
            now,
            [f"{event.repository}:{event.tag or event.digest}" for event in wanted],
            [event.action is EventAction.PULL for event in wanted],
            [json.dumps(originals[event.id]).encode() for event in wanted],
        )
    return len(wanted)


async def lease_forwarding(connection: Connection, *, holder: str, seconds: float) -> bool:
    """Become, or stay, the process that forwards; False if another is."""
    found = await connection.fetchval(SQL["lease_forwarding"], holder, timedelta(seconds=seconds))
    return found is not None


async def next_events(connection: Connection, *, now: datetime, limit: int, limit_bytes: int) -> list[Queued]:
    """Return the next events, in order; at least one if any is due."""
    rows = await connection.fetch(SQL["next_events"], now, limit, limit_bytes)
    return [Queued(**dict(row)) for row in rows]


async def finish_events(connection: Connection, *, ids: Sequence[int]) -> None:
    """Remove events that GitLab accepted."""
    await connection.execute(SQL["finish_events"], list(ids))


async def defer_event(connection: Connection, *, number: int, due_at: datetime) -> None:
    """Try an event again later. Later events of the same tag wait for it."""
    await connection.execute(SQL["defer_event"], number, due_at)


async def add_dead_event(connection: Connection, *, number: int, now: datetime, reason: str) -> None:
    """Record that GitLab refused an event for good: it is kept, with the reason, until it is trimmed by age."""
    await connection.execute(SQL["add_dead_event"], number, now, reason)


async def drop_beyond(connection: Connection, *, before: datetime, keep: int, limit: int) -> int:
    """Drop and count events that wait since before an instant, and those beyond ``keep``; return how many."""
    old = int(await connection.fetchval(SQL["drop_old_events"], before, limit))
    excess = int(await connection.fetchval(SQL["drop_excess_events"], keep, limit))
    await connection.execute(SQL["trim_dead_events"], before, limit)
    return old + excess


async def forwarding_backlog(connection: Connection) -> ForwardingBacklog:
    """Return the state of forwarding."""
    row = await connection.fetchrow(SQL["forwarding_backlog"])
    return ForwardingBacklog(**dict(row))  # type: ignore[arg-type]  # the table has one row

"""Requests that were denied or failed, before they enter the audit log; and how far each log file was read."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from indexer.inventory.changes import AuditSource
from indexer.inventory.events import RequestInfo
from indexer.store.identifiers import event_key
from indexer.store.lookups import client_of
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("access")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The same request, ``times`` times.

    ``handshake``: the key of the client and place, by which a later request of theirs removes it; None: none does.
    ``line``: what was requested and how it ended, of the last one.
    """

    key: uuid.UUID
    handshake: uuid.UUID | None
    action: str
    first_at: datetime
    last_at: datetime
    times: int
    line: Mapping[str, Any]

    def joined(self, other: Pending) -> Pending:
        """Return both as one."""
        return replace(
            other,
            first_at=min(self.first_at, other.first_at),
            last_at=max(self.last_at, other.last_at),
            times=self.times + other.times,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePosition:
    """How far a file was read, in bytes. Device, inode and ``head``, its first bytes, identify it."""

    device: int
    inode: int
    read_to: int
    head: bytes


async def forget_resolved(connection: Connection, *, handshakes: Collection[uuid.UUID]) -> None:
    """Remove challenges that the client has answered since."""
    await connection.execute(SQL["forget_resolved"], sorted(handshakes))


async def put_pending(connection: Connection, *, pending: Sequence[Pending], at: datetime, most: int) -> int:
    """Add requests that were received at ``at``; return how many were left out, beyond ``most`` different ones."""
    ordered = sorted(pending, key=lambda one: one.key)
    kept = await connection.fetch(
        SQL["put_pending"],
        [one.key for one in ordered],
        [one.handshake for one in ordered],
        [one.action for one in ordered],
        [one.first_at for one in ordered],
        [one.last_at for one in ordered],
        [one.times for one in ordered],
        [dict(one.line) for one in ordered],
        at,
        most,
    )
    known = {row["key"] for row in kept}
    return sum(one.times for one in ordered if one.key not in known)


async def take_pending(connection: Connection, *, before: datetime, limit: int) -> list[Pending]:
    """Remove and return what was first received before an instant, oldest first."""
    return [Pending(**dict(row)) for row in await connection.fetch(SQL["take_pending"], before, limit)]


async def stage_requests(
    connection: Connection,
    *,
    pending: Sequence[Pending],
    at: datetime,
    actor_ids: Mapping[str, int],
    actors: Sequence[str],
    client_ids: Mapping[RequestInfo, int],
    requests: Sequence[RequestInfo],
    repositories: Sequence[str],
    tags: Sequence[str | None],
    details: Sequence[Mapping[str, object]],
) -> None:
    """Stage an entry for each. A repository that is not on record stands in the detail by its name."""
    await connection.execute(
        SQL["stage_requests"],
        [one.last_at for one in pending],
        [one.first_at if one.times > 1 else None for one in pending],
        [event_key(request.id) if request.id else None for request in requests],
        list(repositories),
        [actor_ids.get(actor) for actor in actors],
        [client_ids[client_of(request)] for request in requests],
        [request.port for request in requests],
        [one.action for one in pending],
        list(tags),
        [dict(detail) for detail in details],
        at,
        AuditSource.ACCESS_LOG,
    )


async def file_positions(connection: Connection, *, path: str) -> list[FilePosition]:
    """Return how far the files under a path were read, the one read longest ago first."""
    rows = await connection.fetch(SQL["file_positions"], path)
    return [FilePosition(**dict(row)) for row in rows]


async def put_file_position(
    connection: Connection, *, path: str, position: FilePosition, at: datetime
) -> None:
    """Record how far a file was read."""
    await connection.execute(
        SQL["put_file_position"], path, position.device, position.inode, position.read_to, at, position.head
    )


async def forget_file(connection: Connection, *, path: str, position: FilePosition) -> None:
    """Forget a file that was read to its end, or is gone."""
    await connection.execute(SQL["forget_file"], path, position.device, position.inode)

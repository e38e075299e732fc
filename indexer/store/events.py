"""Which events were applied, since a redelivery has the same id and changes nothing; and which deleted a digest."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime

from indexer.oci.reference import RepositoryName
from indexer.store import own_requests
from indexer.store.identifiers import event_key
from indexer.store.instants import or_for_ever
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("events")

RequestOf = tuple[RepositoryName, str]
"""A repository and the id of a request."""


async def remember_events(
    connection: Connection, *, keys: Mapping[uuid.UUID, datetime | None]
) -> set[uuid.UUID]:
    """Record event keys, each received at an instant (None: keep it for ever); return the new ones."""
    ordered = sorted(keys)
    rows = await connection.fetch(
        SQL["remember_events"], ordered, [or_for_ever(keys[key]) for key in ordered]
    )
    return {row["event_key"] for row in rows}


async def add_causes(
    connection: Connection,
    *,
    causes: Mapping[RequestOf, str],
    repository_ids: Mapping[RepositoryName, int],
    at: datetime,
) -> None:
    """Record which event reported that a request deleted a digest: the events of its tags may be in a later batch."""
    await connection.execute(
        SQL["add_causes"],
        [repository_ids[repository] for repository, _ in causes],
        [event_key(request) for _, request in causes],
        list(causes.values()),
        at,
    )


async def find_causes(
    connection: Connection, *, requests: Collection[RequestOf], repository_ids: Mapping[RepositoryName, int]
) -> dict[RequestOf, str]:
    """Return the ids of the events that reported digests deleted by these requests."""
    keys = {(repository_ids[one], event_key(request)): (one, request) for one, request in requests}
    rows = await connection.fetch(SQL["find_causes"], [key[0] for key in keys], [key[1] for key in keys])
    return {keys[row["repository_id"], row["request_key"]]: row["event_id"] for row in rows}


async def trim_events(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget event keys, causes and used signatures older than ``before``; return how many keys."""
    await connection.execute(SQL["trim_causes"], before, limit)
    await own_requests.trim_values(connection, before=before, limit=limit)
    return int((await connection.execute(SQL["trim_events"], before, limit)).rsplit(" ", 1)[1])

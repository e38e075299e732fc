"""The audit log: entries are staged with the change, and sealed into one order without gaps.

Pulls are kept beside it as single entries, and move into it, coalesced, once they are old enough (docs/adr/0020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.inventory.changes import AuditAction, Entry
from indexer.inventory.events import InstanceInfo, RequestInfo
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store.identifiers import event_key, is_canonical
from indexer.store.lookups import client_of
from indexer.store.pool import Connection
from indexer.store.queries import load, sparse

SQL = load("audit")

SEALED_CHANNEL = "sealed"
"""Notified whenever entries got their positions. A listener that missed it polls."""

BLOB_ACTIONS = frozenset(
    {AuditAction.BLOB_PUSHED, AuditAction.BLOB_DELETED, AuditAction.BLOB_MOUNTED, AuditAction.CONTENT_DELETED}
)
"""Entries whose content is a blob; of all others it is a manifest."""

PULL_ACTIONS = frozenset({AuditAction.MANIFEST_PULLED, AuditAction.MANIFEST_CHECKED})
"""Entries that may be kept beside the log at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryIds:
    """The ids of everything that entries refer to."""

    repositories: Mapping[RepositoryName, int]
    manifests: Mapping[Digest, int]
    blobs: Mapping[Digest, int]
    actors: Mapping[str, int]
    clients: Mapping[RequestInfo, int]
    instances: Mapping[InstanceInfo, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The entries that wait for their position: how many, and since when the oldest."""

    entries: int
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of the log: its newest position, and how often people were erased."""

    position: int
    erasures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What sealing adds to a staged entry."""

    id: int
    facet_id: int | None
    actor_salt_id: int | None
    client_salt_id: int | None


async def stage_entries(connection: Connection, *, entries: Sequence[Entry], ids: EntryIds) -> None:
    """Write entries, in the transaction of the change they are about."""
    events = [entry.event for entry in entries]
    await connection.execute(
        SQL["stage_entries"],
        [entry.occurred_at for entry in entries],
        [entry.recorded_at for entry in entries],
        sparse([entry.not_before for entry in entries]),
        [_content(entry, ids) for entry in entries],
        sparse([ids.manifests[e.previous_digest] if e.previous_digest else None for e in entries]),
        sparse([event_key(event.id) if event else None for event in events]),
        sparse([event_key(event.request.id) if event and event.request.id else None for event in events]),
        [ids.repositories[entry.repository] for entry in entries],
        sparse([ids.actors[event.actor] if event and event.actor else None for event in events]),
        sparse([ids.clients[client_of(event.request)] if event else None for event in events]),
        sparse([ids.instances[event.instance] if event else None for event in events]),
        sparse([event.request.port if event else None for event in events]),
        [entry.action for entry in entries],
        [entry.source for entry in entries],
        [entry.tag for entry in entries],
        sparse([_detail(entry) for entry in entries]),
    )


async def stage_pulls(connection: Connection, *, entries: Sequence[Entry], ids: EntryIds) -> None:
    """Keep pulls as single entries, in the transaction that counts them. Each must have an event and a digest."""
    pulls = [(e, e.event, e.digest) for e in entries if e.event is not None and e.digest is not None]
    await connection.execute(
        SQL["stage_pulls"],
        [entry.occurred_at for entry, _, _ in pulls],
        [entry.recorded_at for entry, _, _ in pulls],
        [ids.manifests[digest] for _, _, digest in pulls],
        [event_key(event.id) for _, event, _ in pulls],
        [event_key(event.request.id) if event.request.id else None for _, event, _ in pulls],
        [ids.repositories[entry.repository] for entry, _, _ in pulls],
        [ids.actors[event.actor] if event.actor else None for _, event, _ in pulls],
        [ids.clients[client_of(event.request)] for _, event, _ in pulls],
        [ids.instances[event.instance] for _, event, _ in pulls],
        [event.request.port for _, event, _ in pulls],
        [entry.tag for entry, _, _ in pulls],
        [_detail(entry) for entry, _, _ in pulls],
        [entry.action is AuditAction.MANIFEST_CHECKED for entry, _, _ in pulls],
    )


async def coalesce_pulls(connection: Connection, *, before: datetime, now: datetime, limit: int) -> int:
    """Move pulls of one hour, which ended before an instant, into the log, coalesced; return how many pulls."""
    return int(await connection.fetchval(SQL["coalesce_pulls"], before, limit, now))


def _content(entry: Entry, ids: EntryIds) -> int | None:
    if entry.digest is None:
        return None
    return (ids.blobs if entry.action in BLOB_ACTIONS else ids.manifests)[entry.digest]


def _detail(entry: Entry) -> dict[str, object] | None:
    detail = dict(entry.detail)
    event = entry.event
    if event is not None and not is_canonical(event.id):
        detail["event_id"] = event.id
    if event is not None and event.request.id and not is_canonical(event.request.id):
        detail["request_id"] = event.request.id
    return detail or None


async def lock_head(connection: Connection) -> Head | None:
    """Become the sealer until the transaction ends; None if another process is."""
    row = await connection.fetchrow(SQL["lock_head"])
    return None if row is None else Head(position=row["position"], erasures=row["erasures"])


async def seal_entries(connection: Connection, *, after: int, sealed: Sequence[Sealed]) -> int:
    """Move staged entries into the log after a position, in this order, and wake listeners; return how many."""
    status = await connection.execute(
        SQL["seal"],
        [one.id for one in sealed],
        [one.facet_id for one in sealed],
        [one.actor_salt_id for one in sealed],
        [one.client_salt_id for one in sealed],
        after,
    )
    await connection.execute(SQL["move_head"], after + len(sealed))
    await connection.execute(f"NOTIFY {SEALED_CHANNEL}")
    return int(status.rpartition(" ")[2])


async def staged(connection: Connection) -> Staged:
    """Return what waits for its position."""
    row = await connection.fetchrow(SQL["staged"])
    return Staged(entries=row["entries"], since=row["since"])  # type: ignore[index]  # an aggregate always has a row

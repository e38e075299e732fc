"""Holds: repositories, tags and digests that nobody may clean up, with an owner, a reason, and perhaps an end."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from indexer.inventory.changes import AuditAction
from indexer.policies.facts import Hold
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("holds")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHold:
    """A hold on record: of a repository, one of its tags, one of its digests, or (no repository) a digest anywhere."""

    id: str
    created_at: datetime
    until: datetime | None
    owner: str
    reason: str
    repository: str | None
    tag: str | None
    digest: str | None
    created_by: str

    def as_policies_have_it(self) -> Hold:
        """Return what a policy is evaluated with."""
        return Hold(
            owner=self.owner,
            reason=self.reason,
            repository=self.repository,
            tag=self.tag,
            digest=self.digest,
            until=self.until,
        )

    def detail(self) -> dict[str, object]:
        """Return what its audit entries say."""
        shown = {
            "hold": self.id,
            "owner": self.owner,
            "reason": self.reason,
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "until": None if self.until is None else self.until.isoformat(),
        }
        return {key: value for key, value in shown.items() if value is not None}


def hold_of(row: Any) -> StoredHold:
    """Return the hold of a row that has its columns, and perhaps others."""
    return StoredHold(**{each.name: row[each.name] for each in fields(StoredHold)})


async def add_hold(
    connection: Connection,
    *,
    owner: str,
    reason: str,
    repository: str | None,
    tag: str | None,
    digest: str | None,
    until: datetime | None,
    at: datetime,
    operator: Operator,
) -> StoredHold:
    """Add a hold and its audit entry, in the caller's transaction."""
    hold = StoredHold(
        id=uuid.uuid4().hex[:16],
        created_at=at,
        until=until,
        owner=owner,
        reason=reason,
        repository=repository,
        tag=tag,
        digest=digest,
        created_by=operator.name,
    )
    await connection.execute(
        SQL["add_hold"], hold.id, at, until, owner, reason, repository, tag, digest, operator.name
    )
    await record_action(
        connection, action=AuditAction.HOLD_ADDED, operator=operator, at=at, detail=hold.detail()
    )
    return hold


async def remove_hold(
    connection: Connection, *, hold_id: str, at: datetime, operator: Operator
) -> StoredHold | None:
    """Remove a hold, with its audit entry; None if there is none of that id."""
    row = await connection.fetchrow(SQL["remove_hold"], hold_id)
    if row is None:
        return None
    hold = StoredHold(**dict(row))
    await record_action(
        connection, action=AuditAction.HOLD_REMOVED, operator=operator, at=at, detail=hold.detail()
    )
    return hold


async def find_hold(connection: Connection, *, hold_id: str) -> StoredHold | None:
    """Return a hold."""
    row = await connection.fetchrow(SQL["find_hold"], hold_id)
    return None if row is None else StoredHold(**dict(row))


async def list_holds(connection: Connection, *, now: datetime) -> list[StoredHold]:
    """Return the holds that are not over, oldest first."""
    return [StoredHold(**dict(row)) for row in await connection.fetch(SQL["list_holds"], now)]


async def holds_any(
    connection: Connection, *, repository: str, tag: str | None, digest: str | None, since: datetime
) -> bool:
    """Tell whether a hold was put on a repository, its tag or its digest since an instant, and is not over."""
    found: bool = await connection.fetchval(SQL["holds_any"], repository, tag, digest, since)
    return found


async def trim(connection: Connection, *, before: datetime) -> None:
    """Forget holds that were over before an instant."""
    await connection.execute(SQL["trim_holds"], before)

"""What a person confirms: that an action of ours, which is uncertain, undid no push."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from indexer.inventory.changes import AuditAction
from indexer.inventory.own_actions import TagAction
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store import tag_actions
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("confirmations")


async def find_uncertain(
    connection: Connection,
    *,
    repository: str | None = None,
    tag: str | None = None,
    digest: Digest | None = None,
    number: uuid.UUID | None = None,
) -> Sequence[TagAction]:
    """Return the actions that are uncertain, the oldest first; None: any."""
    rows = await connection.fetch(
        SQL["find_uncertain"], repository, tag, None if digest is None else digest_to_bytes(digest), number
    )
    found = await tag_actions.find_actions(connection, ids=[row["id"] for row in rows])
    return sorted(found, key=lambda each: (each.asked_at, each.id))


async def confirm(
    connection: Connection, *, action: TagAction, at: datetime, operator: Operator, reason: str | None
) -> bool:
    """Record that an action undid no push, with its audit entry, in the caller's transaction.

    False: it is not uncertain any more, or its request may still be on its way.
    """
    row = await connection.fetchrow(SQL["confirm"], action.id, at)
    if row is None:
        return False
    detail = {
        "cleanup": str(action.id),
        "kind": str(action.kind),
        "repository": action.repository,
        "tag": action.tag or None,
        "digest": action.digest,
        "because": row["note"],
        "job": None if action.job is None else str(action.job),
        "reason": reason,
    }
    await record_action(
        connection,
        action=AuditAction.CLEANUP_CONFIRMED,
        operator=operator,
        at=at,
        detail={key: value for key, value in detail.items() if value is not None},
    )
    return True

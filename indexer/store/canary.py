"""Following one known push through the tables, for the doctor: arrived, applied, verified, read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexer.oci.digest import Digest, digest_from_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("canary")

MARGIN = 1000
"""Ids are drawn before they are committed: deliveries under way may come in a little below the newest."""

FEW = 20
"""A canary's own notifications: a push, a delete of its digest and of its tag, each perhaps redelivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A delivery that speaks of the canary; ``reason`` says why it is in quarantine, if it is."""

    received_at: datetime
    done_at: datetime | None
    body: bytes
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryState:
    """What is on record of the canary's tag; ``content`` is ``heard``, ``read`` or ``unreadable``.

    ``last_look`` is what the last look at it saw, ``failed_looks`` how many in a row had no answer.
    """

    live: bool
    digest: Digest | None = None
    evidence: str | None = None
    verified_at: datetime | None = None
    broken: bool = False
    content: str = ""
    last_look: str | None = None
    failed_looks: int = 0


async def inbox_position(connection: Connection) -> int:
    """Return a position after which a delivery that is yet to come will be found."""
    return max(0, int(await connection.fetchval(SQL["inbox_position"])) - MARGIN)


async def find_deliveries(connection: Connection, *, after: int, text: str) -> list[Arrived]:
    """Return deliveries after a position whose body holds ``text`` (ASCII), oldest first."""
    rows = await connection.fetch(SQL["find_deliveries"], after, text.encode("ascii"), FEW)
    return [
        Arrived(
            received_at=row["received_at"], done_at=row["done_at"], body=row["body"], reason=row["reason"]
        )
        for row in rows
    ]


async def find_state(connection: Connection, *, repository: RepositoryName, tag: TagName) -> CanaryState:
    """Return what is on record of a tag."""
    row = await connection.fetchrow(SQL["find_state"], repository, tag)
    if row is None:
        return CanaryState(live=False)
    return CanaryState(
        live=row["live"],
        digest=digest_from_bytes(row["digest"]) if row["digest"] is not None else None,
        evidence=row["evidence"],
        verified_at=row["verified_at"],
        broken=row["broken"],
        content=row["content"],
        last_look=row["last_seen"],
        failed_looks=row["attempts"],
    )

"""Follows one known push through the tables, for the doctor: arrived, applied, verified, read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from indexer.common.errors import StoreFault, StoreRefused, StoreUnavailable
from indexer.oci.digest import Digest, digest_from_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.pool import Connection, OwnConnection, connect, describe, translated
from indexer.store.queries import load

SQL = load("canary")

MARGIN = 1000
"""Ids are assigned before the commit: deliveries under way may get one a little below the newest."""

FEW = 20
"""The canary's own notifications: a push, a delete of its digest and of its tag, each perhaps redelivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A delivery that names the canary. ``reason``: why it is in quarantine, if it is."""

    received_at: datetime
    done_at: datetime | None
    body: bytes
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryState:
    """What is on record of the canary's tag; ``content`` is ``announced``, ``read``, ``partly-read`` or ``unreadable``.

    ``last_observation``: what the last one found. ``failed_observations``: how many in a row had no answer.
    """

    live: bool
    digest: Digest | None = None
    evidence: str | None = None
    verified_at: datetime | None = None
    broken: bool = False
    content: str = ""
    last_observation: str | None = None
    failed_observations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The database server; ``version_number`` is PostgreSQL's ``server_version_num``."""

    version_number: int
    version: str
    now: datetime


@asynccontextmanager
async def examining() -> AsyncIterator[None]:
    """Turn a refusal (password, missing database, missing rights) into ``StoreUnavailable``.

    Elsewhere these are a fault and rise. An examination reports them.
    """
    try:
        async with translated():
            yield
    except (StoreFault, StoreRefused) as error:
        raise StoreUnavailable(f"the database refuses us: {describe(error.__cause__ or error)}") from error


async def connect_to_examine(database_url: str) -> OwnConnection:
    """Open the connection of an examination."""
    async with examining():
        return await connect(database_url, application="reconciler doctor")


async def find_server(connection: Connection) -> Server:
    """Return the server's version and its clock."""
    row = await connection.fetchrow(SQL["find_server"])
    return Server(**dict(row))  # type: ignore[arg-type]  # a SELECT without FROM has a row


async def inbox_position(connection: Connection) -> int:
    """Return a position after which every later delivery will be found."""
    return max(0, int(await connection.fetchval(SQL["inbox_position"])) - MARGIN)


async def find_deliveries(connection: Connection, *, after: int, text: str) -> list[Arrived]:
    """Return deliveries after a position whose body contains ``text`` (ASCII), oldest first."""
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
        last_observation=row["last_observation"],
        failed_observations=row["attempts"],
    )

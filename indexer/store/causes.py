"""Causes of drift that only later evidence tells: findings without a cause, and that evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from indexer.inventory.causes import Counted
from indexer.inventory.changes import DriftCause
from indexer.inventory.loss import LossState, LossStatement
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.listing.page_query import Row
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("causes")
BEGINNING = datetime.min.replace(tzinfo=UTC)
LOOKBACK = timedelta(hours=1)
"""Where it is not known since when something differed: an older event is not the late one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """A finding whose cause is not known yet. ``tag`` is None for a manifest."""

    id: int
    detected_at: datetime
    not_before: datetime | None
    cause: DriftCause
    repository_id: int
    repository: RepositoryName
    tag: TagName | None
    expected: Digest | None
    found: Digest | None

    @property
    def since(self) -> datetime:
        """The beginning of the interval in which it arose."""
        return self.not_before or BEGINNING


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseEvidence:
    """What is known of an interval: loss statements, accounts of processes, and whether some instance has none."""

    claims: list[LossStatement]
    accounts: list[Counted]
    uncounted: bool


async def list_unexplained(
    connection: Connection, *, after: tuple[datetime, int], limit: int
) -> list[Unexplained]:
    """Return findings whose cause may still become known, oldest first; ``after``: ``detected_at`` and id."""
    rows = await connection.fetch(SQL["list_unexplained"], limit, *after)
    return [_unexplained(row) for row in rows]


async def was_announced(connection: Connection, *, finding: Unexplained) -> bool:
    """Tell whether an event of the interval announced what was found of the tag, however late it came."""
    if finding.tag is None:
        return False
    since = finding.not_before or finding.detected_at - LOOKBACK
    announced: bool = await connection.fetchval(
        SQL["was_announced"],
        finding.repository_id,
        finding.tag,
        since,
        finding.detected_at,
        None if finding.found is None else digest_to_bytes(finding.found),
    )
    return announced


async def evidence_between(connection: Connection, *, since: datetime, until: datetime) -> CauseEvidence:
    """Return what is known of an interval."""
    claims = await connection.fetch(SQL["claims_between"], since, until)
    accounts = await connection.fetch(SQL["accounts_between"], since, until)
    return CauseEvidence(
        claims=[LossStatement(**{**dict(row), "state": LossState(row["state"])}) for row in claims],
        accounts=[Counted(**dict(row)) for row in accounts],
        uncounted=await connection.fetchval(SQL["uncounted_between"], since, until),
    )


async def find_own_layer(connection: Connection, *, digest: Digest) -> Digest | None:
    """Return a layer that no other manifest has of those that are on record in any repository."""
    found: bytes | None = await connection.fetchval(SQL["own_layer"], digest_to_bytes(digest))
    return None if found is None else digest_from_bytes(found)


async def explain(connection: Connection, *, finding_id: int, cause: DriftCause, at: datetime) -> None:
    """Record the cause of a finding. The first one that is recorded stays."""
    await connection.execute(SQL["explain"], finding_id, cause, at)


def _unexplained(row: Row) -> Unexplained:
    return Unexplained(
        id=row["id"],
        detected_at=row["detected_at"],
        not_before=row["not_before"],
        cause=DriftCause(row["cause"]),
        repository_id=row["repository_id"],
        repository=RepositoryName(row["repository"]),
        tag=None if row["tag"] is None else TagName(row["tag"]),
        expected=None if row["expected"] is None else digest_from_bytes(row["expected"]),
        found=None if row["found"] is None else digest_from_bytes(row["found"]),
    )

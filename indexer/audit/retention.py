"""Keeping the log: a part a month, packed when it is closed; what is older than the policy leaves it, archived or not.

One at a time and in order: the log loses its beginning only. A part is dropped in the transaction that says so, after
its archive is whole and on disk; whatever dies in between, the next round archives it again and drops it then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import structlog

from indexer.audit.archive import Archived, write_archive
from indexer.audit.retention_rules import Leaving, LogPart, closes, cut_of, leaving, month_of
from indexer.background.loop import IterationResult
from indexer.common.errors import StoreBusy, StoreError
from indexer.inventory.changes import AuditAction
from indexer.store import feeds, parts
from indexer.store.advisory_locks import LockKey, alone
from indexer.store.checkpoints import newest_checkpoint
from indexer.store.listing.audit import head_position
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Connection, Pool, connection, transaction

log = structlog.get_logger()

REST_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long parts are kept after they are closed, None: for ever; and where they are archived, None: nowhere."""

    keep: timedelta | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What left the log, each with its archive where there is one; and the first part that was held, and by what."""

    parts: list[tuple[LogPart, Archived | None]] = field(default_factory=list)
    held: Leaving | None = None


class RetentionBusy(StoreError):  # noqa: N818 - a state, read as "keeper busy"
    """Another process is taking parts out of the log."""


class RetentionLoop:
    """The loop that keeps the log."""

    name = "keep"

    def __init__(self, pool: Pool, policy: Policy) -> None:
        self._pool = pool
        self._policy = policy
        self._held_by: str | None = None

    async def run_once(self) -> IterationResult:
        """Begin the month's part if it is time, expire parts that are old enough, and reindex one that is closed."""
        now = datetime.now(UTC)
        turned = await turn(self._pool, now=now)
        left = await self._expire_part(cut_of(self._policy.keep, now), now)
        packed = await pack(self._pool, now=now)
        return IterationResult(items=turned + left + packed, rest_seconds=REST_SECONDS)

    async def _expire_part(self, cut: datetime | None, now: datetime) -> int:
        if cut is None:
            return 0
        try:
            left = await expire_parts(self._pool, cut=cut, directory=self._policy.directory, now=now)
        except RetentionBusy:
            return 0
        held_by = None if left.held is None else left.held.held_by
        if held_by is not None and held_by != self._held_by:
            log.warning("audit_part_held", reason=held_by)
        self._held_by = held_by
        return len(left.parts)


async def turn(pool: Pool, *, now: datetime) -> int:
    """Close the open part and begin the next where it is time; return how many were closed.

    While a reader holds the log nothing is done: the open part takes what comes meanwhile.
    """
    async with connection(pool) as held:
        if not _due(await _open_part(held), head=await head_position(held), now=now):
            return 0
    try:
        async with transaction(pool) as held:
            head = await parts.hold_head(held)
            part = await _open_part(held)  # another may have turned meanwhile
            if not _due(part, head=head, now=now):
                return 0
            if not closes(part, head=head, now=now):
                await parts.set_part_opened(held, first=part.first, at=now)
                return 0
            await parts.next_part(held, first=part.first, last=head, at=now)
    except StoreBusy:
        log.info("audit_part_not_closed", reason="the log is being read")
        return 0
    log.info("audit_part_closed", first=part.first, last=head)
    return 1


async def pack(pool: Pool, *, now: datetime) -> int:
    """Build the indexes of one closed part anew; return how many parts that was.

    What grew entry by entry is half empty in places (docs/adr/0039). Listings and the sealer go on meanwhile.
    """
    async with connection(pool) as held, alone(held, LockKey.REINDEXING) as packer:
        first = await parts.part_to_reindex(held) if packer else None
        if first is None:
            return 0
        await parts.reindex_part(held, first=first, at=now)
    log.info("audit_part_packed", first=first)
    return 1


def _due(part: LogPart, *, head: int, now: datetime) -> bool:
    return part.month < month_of(now) or closes(part, head=head, now=now)


async def _open_part(held: Connection) -> LogPart:
    return next(part for part in await load_parts(held) if part.last is None)


async def load_parts(held: Connection) -> list[LogPart]:
    """Return all parts of the log, those that left it included."""
    return [
        LogPart(
            first=row.first_position,
            last=row.last_position,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            dropped_at=row.dropped_at,
            file=row.file,
        )
        for row in await parts.list_parts(held)
    ]


async def find_leaving(
    pool: Pool, *, before: date | None = None, cut: datetime | None = None, archived: bool = False
) -> list[Leaving]:
    """Return which parts may leave the log, ``archived`` or not, and what holds the first that may not."""
    async with connection(pool) as held:
        waiting = [(f"feed {feed.name}", feed.position) for feed in await feeds.list_feeds(held)]
        newest = await newest_checkpoint(held) if archived else None
        signed = None if not archived else 0 if newest is None else newest.size
        return leaving(await load_parts(held), before=before, cut=cut, waiting=waiting, signed=signed)


async def expire_parts(
    pool: Pool,
    *,
    now: datetime,
    before: date | None = None,
    cut: datetime | None = None,
    directory: Path | None = None,
    operator: Operator | None = None,
    on_progress: Callable[[LogPart, int], None] = lambda _part, _done: None,
) -> Left:
    """Archive, where there is a directory, and drop the parts that are old enough, oldest first.

    Raises ``RetentionBusy`` where another is doing so: two would write into one file.
    """
    async with connection(pool) as held, alone(held, LockKey.RETENTION) as keeper:
        if not keeper:
            raise RetentionBusy("another process is taking months out of the log: try again when it is done")
        found = await find_leaving(pool, before=before, cut=cut, archived=directory is not None)
        return await _expire_part(
            pool, found, now=now, directory=directory, operator=operator, on_progress=on_progress
        )


async def _expire_part(
    pool: Pool,
    found: list[Leaving],
    *,
    now: datetime,
    directory: Path | None,
    operator: Operator | None,
    on_progress: Callable[[LogPart, int], None],
) -> Left:
    gone: list[tuple[LogPart, Archived | None]] = []
    for one in found:
        if one.held_by is not None:
            return Left(parts=gone, held=one)
        part = one.part
        archived = None
        if directory is not None and part.last is not None:
            archived = await write_archive(
                pool,
                directory,
                first=part.first,
                last=part.last,
                on_progress=lambda done, part=part: on_progress(part, done),  # type: ignore[misc]
            )
        try:
            if not await _drop(pool, part, archived, now=now, operator=operator):
                continue  # another did it
        except StoreBusy:
            log.info("audit_part_not_dropped", first=part.first, reason="the log is being read")
            break
        gone.append((part, archived))
    return Left(parts=gone)


async def _drop(
    pool: Pool, part: LogPart, archived: Archived | None, *, now: datetime, operator: Operator | None
) -> bool:
    async with transaction(pool) as held:
        file, sha256 = (None, None) if archived is None else (archived.file, archived.sha256)
        if not await parts.drop_part(held, first=part.first, at=now, file=file, sha256=sha256):
            return False
        await record_action(
            held,
            action=AuditAction.LOG_DROPPED if archived is None else AuditAction.LOG_ARCHIVED,
            operator=operator,
            at=now,
            detail={
                "first_position": part.first,
                "last_position": part.last,
                "month": f"{part.month:%Y-%m}",
                **({} if sha256 is None else {"file": file, "sha256": sha256.hex()}),
            },
        )
    log.info("audit_part_left", first=part.first, last=part.last, file=file)
    return True

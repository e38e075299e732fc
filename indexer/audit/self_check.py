"""The log in the database against its own tree and what was signed of it: finds rows that were changed behind our back.

Every entry is hashed again and compared with its leaf; every tile with the hash that the level above holds of it; the
whole with the newest checkpoint. So to stay unseen a change would have to reach up to a signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from indexer.audit.checkpoint import check_newest
from indexer.audit.leaf import broken_commitment, leaf_of
from indexer.audit.merkle import complete_root
from indexer.audit.prove import leaves_of
from indexer.audit.seal import AT_A_STRETCH
from indexer.audit.serialize import show_proven
from indexer.audit.tiles import WIDTH, TreeDamaged, split
from indexer.audit.verify import VerifyFault
from indexer.background.loop import IterationResult
from indexer.store.checkpoints import newest_checkpoint
from indexer.store.listing.audit import AuditFilter, sealed_entries
from indexer.store.pool import Connection, Pool, transaction
from indexer.store.self_check import Damage, Extent, extent, lock_check, move_check, put_damages
from indexer.store.tiles import find_tiles

log = structlog.get_logger()

WINDOW = 4 * WIDTH
"""Entries that are compared at a time: whole tiles."""

PASS = timedelta(minutes=10)
"""A pass over a short log ends sooner; the next one waits until then."""

REST_SECONDS = 5.0
WHOLE = 0
"""The position of what is wrong with the tree as a whole."""

Open = Callable[[], AbstractAsyncContextManager[Connection]]


class SelfCheck:
    """The loop that compares, so many entries a second, over and over. One process at a time does."""

    name = "check"

    def __init__(self, pool: Pool, *, rate: int, verifier: str | None, pass_length: timedelta = PASS) -> None:
        """``verifier``: the public key that must have signed; None: any."""
        self._pool = pool
        self._rate = rate
        self._verifier = verifier
        self._pass = pass_length

    async def run_once(self) -> IterationResult:
        """Compare one window of the current pass."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            current = await lock_check(held)
            if current is None:
                return IterationResult(items=0, rest_seconds=REST_SECONDS)
            log_extent = await extent(held)
            if current.pass_began_at is None:
                if _rests(current.pass_ended_at, now=now, rest=self._pass):
                    return IterationResult(items=0, rest_seconds=REST_SECONDS)
                current = replace(current, position=0, pass_began_at=now)
                await put_damages(held, first=1, last=log_extent.dropped, damages=[], at=now)
                await self._found(held, WHOLE, WHOLE, await self._whole(held, log_extent), now)
            first = max(current.position, log_extent.dropped) + 1
            last = min(_end_of_window(first), log_extent.head)
            if first > last:
                await move_check(held, current=replace(current, pass_began_at=None, pass_ended_at=now))
                return IterationResult(items=0, rest_seconds=REST_SECONDS)
            await self._found(held, first, last, await check_window(held, first=first, last=last), now)
            await move_check(held, current=replace(current, position=last))
        return IterationResult(items=last - first + 1, rest_seconds=(last - first + 1) / self._rate)

    async def _whole(self, held: Connection, log_extent: Extent) -> list[Damage]:
        return await check_whole(held, log_extent, verifier=self._verifier)

    async def _found(
        self, held: Connection, first: int, last: int, damages: list[Damage], now: datetime
    ) -> None:
        await put_damages(held, first=first, last=last, damages=damages, at=now)
        for damage in damages[:1]:
            log.error("audit_log_damaged", position=damage.position, what=damage.what, more=len(damages) - 1)


def _rests(ended_at: datetime | None, *, now: datetime, rest: timedelta) -> bool:
    """Return whether the next pass waits. An end in the future counts as none: it would stop the check until then."""
    return ended_at is not None and timedelta(0) <= now - ended_at < rest


async def check_everything(
    open_connection: Open, *, verifier: str | None
) -> AsyncIterator[tuple[int, int, list[Damage]]]:
    """Compare the whole log, window by window: yields how far, of how many, and what did not fit."""
    async with open_connection() as held:
        log_extent = await extent(held)
        yield log_extent.dropped, log_extent.head, await check_whole(held, log_extent, verifier=verifier)
    first = log_extent.dropped + 1
    while first <= log_extent.head:
        last = min(_end_of_window(first), log_extent.head)
        async with open_connection() as held:
            damages = await check_window(held, first=first, last=last)
            if damages:  # a month may have left the log meanwhile
                dropped = (await extent(held)).dropped
                damages = [damage for damage in damages if damage.position > dropped]
        yield last, log_extent.head, damages
        first = last + 1


async def check_whole(held: Connection, log_extent: Extent, *, verifier: str | None) -> list[Damage]:
    """Compare the tree with the newest checkpoint, and the positions there are with those there must be.

    ``verifier``: the public key that must have signed; None: any.
    """
    newest = await newest_checkpoint(held)
    if newest is not None and verifier not in (None, newest.verifier):
        what = f"the newest checkpoint is signed by {newest.verifier} and not by {verifier}"
        return [Damage(position=WHOLE, fault=VerifyFault.PROOF, what=what)]
    try:
        if newest is not None:
            await check_newest(held, newest)
    except TreeDamaged as error:
        return [Damage(position=WHOLE, fault=VerifyFault.PROOF, what=str(error))]
    beyond = log_extent.last is not None and log_extent.last > log_extent.head
    before = log_extent.first is not None and log_extent.first <= log_extent.dropped
    if beyond or before:
        stray = log_extent.last if beyond else log_extent.first
        what = f"entry {stray} stands outside of the log, which has {log_extent.dropped + 1} to {log_extent.head}"
        return [Damage(position=WHOLE, fault=VerifyFault.INSERTED, what=what)]
    return []


async def check_window(held: Connection, *, first: int, last: int) -> list[Damage]:
    """Compare entries with their leaves, and the leaves with the tree above them."""
    rows = await sealed_entries(
        held,
        scope=None,
        wanted=AuditFilter(),
        after=first - 1,
        until=last,
        limit=last - first + 1,
        proof=True,
    )
    entries = {row["position"]: row for row in rows}
    leaves = await leaves_of(held, first=first, last=last)
    damages = []
    for position, leaf in enumerate(leaves, start=first):
        if position % AT_A_STRETCH == 0:
            await asyncio.sleep(0)
        row = entries.get(position)
        if row is None:
            damages.append(_damage(position, VerifyFault.MISSING, "is missing"))
        elif leaf is None:
            damages.append(_damage(position, VerifyFault.PROOF, "has no leaf in the tree"))
        elif leaf != leaf_of(entry := show_proven(row)):
            damages.append(_damage(position, VerifyFault.ALTERED, "is not the entry that was sealed"))
        elif (subject := broken_commitment(entry)) is not None:
            damages.append(
                _damage(position, VerifyFault.ALTERED, f"has another {subject} than it was sealed with")
            )
    if damages:  # it is no damage that a part left the log while it was read
        dropped = (await extent(held)).dropped
        return [damage for damage in damages if damage.position > dropped]
    return await _check_above(held, first=first, last=last)


async def _check_above(held: Connection, *, first: int, last: int) -> list[Damage]:
    """Compare the full tiles of a window, and those above that they complete, with what the next level holds."""
    level, begin, end = 0, (first - 1) // WIDTH, last // WIDTH
    while begin < end:
        tiles = await find_tiles(held, keys=[(level, index) for index in range(begin, end)])
        above = await find_tiles(held, keys={(level + 1, index // WIDTH) for index in range(begin, end)})
        for index in range(begin, end):
            hashes = split(tiles.get((level, index), b""))
            kept = split(above.get((level + 1, index // WIDTH), b""))[index % WIDTH : index % WIDTH + 1]
            if len(hashes) != WIDTH or kept != [complete_root(hashes)]:
                position = max(first, index * WIDTH ** (level + 1) + 1)
                what = f"begins what does not fit in the tree: tile {index} of level {level}"
                return [_damage(position, VerifyFault.PROOF, what)]
        level, begin, end = level + 1, begin // WIDTH, end // WIDTH
    return []


def _end_of_window(first: int) -> int:
    """Return the end of the tiles that a window takes from a position on."""
    return (first - 1) // WIDTH * WIDTH + WINDOW


def _damage(position: int, fault: VerifyFault, what: str) -> Damage:
    return Damage(position=position, fault=fault, what=f"entry {position} {what}")

"""The sealer: gives committed entries their gap-free position, and hashes them into the Merkle tree as it does.

One at a time; every server offers to be it. Position, leaf and tree are written in one transaction, so whatever has
a position is in the tree, and what the tree holds has one: an entry is its leaf number ``position - 1``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from indexer.audit import tiles as trees
from indexer.audit.commitments import Salts, actor_of, client_of
from indexer.audit.leaf import leaf_of
from indexer.audit.serialize import show_commitments, show_entry
from indexer.background.loop import IterationResult
from indexer.common.errors import StoreError
from indexer.store.audit import Sealed, lock_head, seal_entries
from indexer.store.listing.audit import staged_entries
from indexer.store.pool import Connection, Pool, transaction
from indexer.store.tiles import find_tiles, put_tiles

BATCH = 2000
AT_A_STRETCH = 100
"""Entries that are hashed before other tasks run: notifications are received in the same process."""

REST_SECONDS = 0.25
BUSY_REST_SECONDS = 1.0
"""While entries come all the time: each batch writes the unfinished tile of the tree again, up to 8 kB."""

REST_WHILE_ANOTHER_SEALS_SECONDS = 2.0


class Sealer:
    """The loop that seals."""

    name = "seal"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._salts = Salts()
        self._busy = False

    async def run_once(self) -> IterationResult:
        """Seal one batch."""
        sealed = await seal(self._pool, limit=BATCH, salts=self._salts)
        if sealed is None:
            return IterationResult(items=0, rest_seconds=REST_WHILE_ANOTHER_SEALS_SECONDS)
        rest = BUSY_REST_SECONDS if sealed and self._busy else REST_SECONDS
        self._busy = sealed > 0
        return IterationResult(items=sealed, rest_seconds=0 if sealed == BATCH else rest)


async def seal(pool: Pool, *, limit: int, salts: Salts | None = None) -> int | None:
    """Give at most ``limit`` staged entries their positions; return how many, None where another is sealing.

    Entries of one transaction stay together and in order. A transaction that is still open when a later one
    commits is sealed after it: the order of the log is the order in which changes became visible. Raises
    ``TreeDamaged`` where the stored tree does not end where the log does: nothing is sealed upon it.
    """
    salts = salts if salts is not None else Salts()
    async with transaction(pool) as held:
        head = await lock_head(held)
        if head is None:
            return None
        salts.begin(head.erasures)
        rows = await staged_entries(held, limit=limit)
        if rows:
            await _seal(held, salts, rows, after=head.position)
    salts.keep()
    return len(rows)


async def _seal(held: Connection, salts: Salts, rows: Sequence[Any], *, after: int) -> None:
    salted = await salts.of(held, rows)
    sealed, leaves = [], []
    for position, row in enumerate(rows, start=after + 1):
        if position % AT_A_STRETCH == 0:
            await asyncio.sleep(0)
        whose, where = actor_of(row), client_of(row)
        actor = None if whose is None else salted[whose]
        client = None if where is None else salted[where]
        entry = show_entry(row)
        entry["position"] = position
        entry["commitments"] = show_commitments(
            actor=None if actor is None else actor.commitment,
            client=None if client is None else client.commitment,
        )
        leaves.append(leaf_of(entry))
        sealed.append(
            Sealed(
                id=row["id"],
                facet_id=row["facet_id"],
                actor_salt_id=None if actor is None else actor.id,
                client_salt_id=None if client is None else client.id,
            )
        )
    if await seal_entries(held, after=after, sealed=sealed) != len(sealed):
        raise StoreError("staged entries were changed by another than the sealer: nothing was sealed")
    edge = await find_tiles(held, keys=trees.edge_of(after))
    await put_tiles(held, tiles=trees.grow(after, edge, leaves))

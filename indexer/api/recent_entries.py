"""The newest entries of the log, read once for all streams of the process.

When each of a hundred streams read the database at every seal, few connections were left for others: with 40 entries a
second, on two busy cores, a listing took 319 ms, and 5 ms without streams; with this cache it takes 21 ms (measured).
So the first stream that is woken reads the new entries, and the others take them from here. Entries are dropped after
some seconds; a stream that is further behind reads the database itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.api.settings import EventAttributes
from indexer.audit.cloudevents import DeliveredEvent, cloud_event
from indexer.audit.notifier import SealNotifier
from indexer.audit.prove import leaf_at, leaves_of
from indexer.audit.serialize import show_entry
from indexer.store.feeds import log_identity
from indexer.store.listing.audit import EVERY_ENTRY, head_position, sealed_entries
from indexer.store.reading import Readers

KEPT_EVENTS = 2000
KEPT_SECONDS = 10.0
POLL_AGAIN_SECONDS = 1.0
"""How often the log is read without a wake-up: a NOTIFY is lost while the connection of LISTEN is made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """Every event after the given position, up to ``head``, whose leaf hash is ``leaf``."""

    events: Sequence[DeliveredEvent]
    head: int
    leaf: bytes | None


class RecentEntries:
    """A cache of the end of the log."""

    def __init__(self, readers: Readers, attributes: EventAttributes, notifier: SealNotifier) -> None:
        self._readers = readers
        self._attributes = attributes
        self._one_at_a_time = asyncio.Lock()
        self._kept: deque[tuple[float, DeliveredEvent]] = deque()
        self._head: int | None = None
        self._leaf: bytes | None = None
        self._stale = True
        self._read_at = float("-inf")
        notifier.listen(self._wake)

    async def after(self, position: int) -> Recent | None:
        """Return what is sealed after a position; None where that begins before the oldest entry kept."""
        async with self._one_at_a_time:
            if self._is_old(position):
                await self._read()
            head = self._head
            assert head is not None  # noqa: S101 - set by the first read
            if position < head - len(self._kept):
                return None
            missing = max(head - position, 0)
            kept = len(self._kept)
            events = [self._kept[at][1] for at in range(kept - missing, kept)]
            return Recent(events=events, head=head, leaf=self._leaf)

    def _is_old(self, position: int) -> bool:
        if self._stale or self._head is None or position > self._head:
            return True
        return time.monotonic() - self._read_at > POLL_AGAIN_SECONDS

    def _wake(self) -> None:
        self._stale = True

    async def _read(self) -> None:
        self._stale = False  # before reading: what is sealed meanwhile wakes again
        try:
            async with self._readers.reading() as held:
                head = await head_position(held)
                known = self._head
                if (
                    known is None or head < known or head - known > KEPT_EVENTS
                ):  # less: the database was restored
                    self._kept.clear()
                elif head > known:
                    rows = await sealed_entries(
                        held, scope=None, wanted=EVERY_ENTRY, after=known, until=head, limit=KEPT_EVENTS
                    )
                    origin = self._attributes.origin(await log_identity(held))
                    leaves = await leaves_of(held, first=known + 1, last=head)
                    now = time.monotonic()
                    self._kept.extend(
                        (now, cloud_event(show_entry(row), origin, leaf=leaves[row["position"] - known - 1]))
                        for row in rows
                    )
                leaf = await leaf_at(held, head)
        except BaseException:
            self._stale = True
            raise
        self._head, self._leaf = head, leaf
        self._read_at = time.monotonic()
        while self._kept and (
            len(self._kept) > KEPT_EVENTS or self._kept[0][0] < self._read_at - KEPT_SECONDS
        ):
            self._kept.popleft()

"""The loop of one feed: reads the sealed log behind the feed's cursor, delivers, moves the cursor.

    cursor ──read──▶ batch ──deliver──▶ taken ──────────▶ cursor moves
                       │  ▲               │ refused: halves, down to one ──▶ dead letter, cursor moves
                       │  └── later ◀─────┤ not now, or about us
                       └── stopped ◀──────┘ never again, or everything refused: until an operator replays

Dead letters that an operator asks for are tried after the batch, each with attempts and a time of its own: what a sink
does not answer to one of them holds up nothing else.

Each feed is a loop of its own, so one slow sink delays no other. One process at a time delivers a feed, under a
lease that outlasts a delivery; the cursor moves by compare-and-set, after delivery. So every entry is delivered at
least once and in order, and again only where a process ended between the two: with the same id.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter

from indexer.audit.cloudevents import DeliveredEvent, Origin, cloud_event
from indexer.audit.serialize import show_entry
from indexer.background.loop import IterationResult, WakeEvent
from indexer.common.backoff import growing_wait, spread
from indexer.common.errors import IndexerError, Postponed, SinkGone, SinkRefused, SinkUnavailable, StoreError
from indexer.feeds.config import FeedBase, FeedsFile
from indexer.feeds.sinks import Sink
from indexer.store import feeds
from indexer.store.feeds import FeedLease, Leased
from indexer.store.listing.feeds import FeedFilter, feed_entries
from indexer.store.pool import Pool, connection, describe

log = structlog.get_logger()

LEASE_SECONDS = 30.0
"""Longer than a delivery may take, and renewed before each."""
WINDOW = 20_000
"""Positions that one statement reads; a filter may leave none of them."""
REST_SECONDS = 5.0
"""Where no seal wakes the loop: a notification may be missed while its connection is made again."""
REST_WHILE_ANOTHER_DELIVERS_SECONDS = 5.0
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0
LONGEST_ASKED_SECONDS = 3600.0
LONGEST_REST_SECONDS = 30.0
"""How often a waiting loop checks whether an operator asked for a replay."""
REFUSED_IN_A_ROW = 100
"""A sink that refuses so many entries one after the other refuses us: it is stopped, or the whole log would die."""
DEAD_ATTEMPTS = 10
"""So often a dead letter is tried again without an answer; then it is as before, and an operator may ask anew."""
REASON_CHARACTERS = 500

ENTRIES = Counter(
    "indexer_feed_entries_total", "Entries, by feed and what became of them.", ["feed", "outcome"]
)
FAILURES = Counter("indexer_feed_failures_total", "Deliveries that failed and are tried again.", ["feed"])


class LeaseLostError(Exception):
    """Another process holds the feed by now, or it was replayed: what the cursor says must be read again."""


class Dispatcher:
    """The loop that delivers one feed."""

    def __init__(self, pool: Pool, feed: FeedBase, sink: Sink, file: FeedsFile) -> None:
        self.name = f"feed:{feed.name}"
        self.alarm = WakeEvent()
        self._pool = pool
        self._feed = feed
        self._sink = sink
        self._file = file
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{id(self)}"
        self._quiet_until = 0.0

    def wake(self) -> None:
        """There may be something new: go and see, unless the sink is given time."""
        if time.monotonic() >= self._quiet_until:
            self.alarm.wake()

    async def run_once(self) -> IterationResult:
        """Deliver one batch. Raises ``Postponed``; then everything still waits, in its order."""
        leased = await self._lease()
        if leased is None:
            await self._sink.close()
            await self._make()
            leased = await self._lease()
        if leased is None:
            return IterationResult(items=0, rest_seconds=REST_WHILE_ANOTHER_DELIVERS_SECONDS)
        self._wait_where_asked(leased)
        try:
            return await self._work(leased)
        except LeaseLostError:
            return IterationResult(items=0, rest_seconds=0)
        except SinkUnavailable as error:
            raise await self._failed(leased, error) from error
        except SinkGone as error:
            raise await self._stop(f"{error}, that is: never again") from error
        except IndexerError:
            raise  # the database, or another round's: not the sink's
        except Exception as error:
            log.exception("feed_failed", feed=self._feed.name)
            raise await self._failed(leased, SinkUnavailable(f"a defect here: {describe(error)}")) from error

    async def close(self) -> None:
        """Let another process go on."""
        await self._sink.close()
        with suppress(StoreError):
            async with connection(self._pool) as held:
                await feeds.release_feed(held, name=self._feed.name, holder=self._holder)

    # --- one round ---

    async def _work(self, leased: Leased) -> IterationResult:
        lease = FeedLease(
            name=self._feed.name, holder=self._holder, position=leased.position, replays=leased.replays
        )
        if leased.prepared_replay != leased.replays:
            await self._sink.begin_replay(leased.replays)
            async with connection(self._pool) as held:
                await feeds.begin_replay(held, name=lease.name, replay=leased.replays)
        origin = Origin(log=leased.log, source=self._file.source, type_prefix=self._file.type_prefix)
        events, until = await self._read(leased, origin)
        size = self._sink.largest_batch
        for first in range(0, len(events), size):
            following = events[first + size : first + size + 1]
            reached = following[0].position - 1 if following else until
            await self._deliver(lease, events[first : first + size], reached)
        if not events and until > leased.position:
            await self._move(lease, until, delivered=0)
        tried, more_dead_letters = await self._retry_dead_letters(origin)
        more = until < leased.head or more_dead_letters
        return IterationResult(items=len(events) + tried, rest_seconds=0 if more else REST_SECONDS)

    async def _read(self, leased: Leased, origin: Origin) -> tuple[list[DeliveredEvent], int]:
        """Return the next events, and the position they reach."""
        limit = self._feed.batch
        until = min(leased.position + WINDOW, leased.head)
        if until <= leased.position:
            return [], leased.position
        async with connection(self._pool) as held:
            rows = await feed_entries(
                held, wanted=self._feed.filter, after=leased.position, until=until, limit=limit
            )
        reached = rows[-1]["position"] if len(rows) == limit else until
        events: list[DeliveredEvent] = []
        size = 0
        for row in rows:
            event = cloud_event(show_entry(row), origin)
            size += len(event.body)
            if events and size > self._feed.batch_bytes:
                return events, events[-1].position
            events.append(event)
        return events, reached

    async def _deliver(self, lease: FeedLease, events: Sequence[DeliveredEvent], until: int) -> None:
        """Deliver events and move the cursor to ``until``; what is refused is halved until it is one."""
        try:
            await self._send(events)
        except SinkRefused as error:
            if len(events) == 1:
                await self._dead_letter(lease, events[0], until, str(error))
                return
            half = len(events) // 2
            await self._deliver(lease, events[:half], events[half].position - 1)
            await self._deliver(lease, events[half:], until)
            return
        await self._move(lease, until, delivered=len(events))
        ENTRIES.labels(lease.name, "delivered").inc(len(events))

    async def _send(self, events: Sequence[DeliveredEvent]) -> None:
        leased = await self._lease()
        if leased is None:
            raise LeaseLostError
        await self._sink.deliver(events, replay=leased.replays)

    async def _move(self, lease: FeedLease, until: int, *, delivered: int) -> None:
        async with connection(self._pool) as held:
            moved = await feeds.move_feed(
                held, lease=lease, position=until, delivered=delivered, now=datetime.now(UTC)
            )
        if not moved:
            raise LeaseLostError
        lease.position = until

    async def _dead_letter(self, lease: FeedLease, event: DeliveredEvent, until: int, reason: str) -> None:
        async with connection(self._pool) as held:
            refused = await feeds.add_dead_letter(
                held,
                lease=lease,
                position=until,
                entry=event.position,
                now=datetime.now(UTC),
                reason=reason[:REASON_CHARACTERS],
            )
        if refused is None:
            raise LeaseLostError
        lease.position = until
        ENTRIES.labels(lease.name, "dead").inc()
        log.warning("feed_entry_refused", feed=lease.name, position=event.position, reason=reason)
        if refused >= REFUSED_IN_A_ROW:
            raise await self._stop(f"{refused} entries in a row were refused, the last because: {reason}")

    async def _retry_dead_letters(self, origin: Origin) -> tuple[int, bool]:
        """Try the dead letters again that an operator asks for; return how many were tried, and whether to go on.

        The first that the sink gives no answer to ends it for this round: it may be the sink that is away.
        """
        name = self._feed.name
        async with connection(self._pool) as held:
            waiting = await feeds.dead_letters_to_retry(held, name=name, limit=self._feed.batch)
        for tried, (position, attempts) in enumerate(waiting, 1):
            try:
                await self._send([await self._entry_at(position, origin)])
            except SinkRefused as error:
                await self._dead_letter_again(position, str(error))
            except SinkUnavailable as error:
                await self._delay_dead_letter(position, attempts + 1, error)
                return tried, False
            else:
                async with connection(self._pool) as held:
                    await feeds.resolve_dead_letter(held, name=name, position=position)
                ENTRIES.labels(name, "delivered").inc()
        return len(waiting), len(waiting) == self._feed.batch

    async def _delay_dead_letter(self, position: int, attempts: int, error: SinkUnavailable) -> None:
        name = self._feed.name
        FAILURES.labels(name).inc()
        if attempts >= DEAD_ATTEMPTS:
            await self._dead_letter_again(position, f"tried {attempts} times in vain: {error}")
            return
        async with connection(self._pool) as held:
            await feeds.delay_dead_letter(
                held,
                name=name,
                position=position,
                seconds=wait_after(attempts, asked=error.retry_after_seconds),
                reason=str(error)[:REASON_CHARACTERS],
            )

    async def _dead_letter_again(self, position: int, reason: str) -> None:
        async with connection(self._pool) as held:
            await feeds.dead_letter_again(
                held,
                name=self._feed.name,
                position=position,
                now=datetime.now(UTC),
                reason=reason[:REASON_CHARACTERS],
            )

    async def _entry_at(self, position: int, origin: Origin) -> DeliveredEvent:
        async with connection(self._pool) as held:
            rows = await feed_entries(held, wanted=FeedFilter(), after=position - 1, until=position, limit=1)
        if not rows:
            raise SinkRefused("the entry is no longer in the log")
        return cloud_event(show_entry(rows[0]), origin)

    # --- the feed's row ---

    async def _make(self) -> None:
        async with connection(self._pool) as held:
            await feeds.make_feed(
                held,
                name=self._feed.name,
                kind=self._feed.kind,
                after=self._feed.begins_after,
            )

    async def _lease(self) -> Leased | None:
        async with connection(self._pool) as held:
            return await feeds.lease_feed(
                held, name=self._feed.name, holder=self._holder, seconds=LEASE_SECONDS
            )

    def _wait_where_asked(self, leased: Leased) -> None:
        if leased.stopped is not None:
            self._quiet_until = time.monotonic() + LONGEST_REST_SECONDS
            raise Postponed(
                f"stopped until `indexer feeds replay {self._feed.name}`: {leased.stopped}",
                rest_seconds=LONGEST_REST_SECONDS,
            )
        if leased.retry_at is not None and (left := _seconds_to(leased.retry_at)) > 0:
            raise self._postponed(f"failed {leased.attempts} times: {leased.last_error}", left)

    async def _failed(self, leased: Leased, error: SinkUnavailable) -> Postponed:
        FAILURES.labels(self._feed.name).inc()
        wait = wait_after(leased.attempts + 1, asked=error.retry_after_seconds)
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            await feeds.fail_feed(
                held,
                name=self._feed.name,
                holder=self._holder,
                now=now,
                retry_at=now + timedelta(seconds=wait),
                error=str(error)[:REASON_CHARACTERS],
            )
        return self._postponed(str(error), wait)

    async def _stop(self, reason: str) -> Postponed:
        async with connection(self._pool) as held:
            await feeds.stop_feed(
                held,
                name=self._feed.name,
                holder=self._holder,
                now=datetime.now(UTC),
                reason=reason[:REASON_CHARACTERS],
            )
        return self._postponed(f"stopped: {reason}", LONGEST_REST_SECONDS)

    def _postponed(self, reason: str, seconds: float) -> Postponed:
        rest = min(seconds, LONGEST_REST_SECONDS)
        self._quiet_until = time.monotonic() + rest
        return Postponed(reason, rest_seconds=rest)


def wait_after(failures: int, *, asked: float | None) -> float:
    """Return how long to wait after so many failures in a row; ``asked``: what the sink asks for, within bounds."""
    own = spread(growing_wait(failures, first=FIRST_WAIT_SECONDS, longest=LONGEST_WAIT_SECONDS))
    return max(own, min(asked or 0.0, LONGEST_ASKED_SECONDS))


def _seconds_to(at: datetime) -> float:
    return (at - datetime.now(UTC)).total_seconds()

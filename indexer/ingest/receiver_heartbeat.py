"""Keeps the receiver session of this process in the database: since when it takes deliveries, and until when.

Between sessions deliveries may be lost, so the loss accounting of ``reconciler`` reads them. A process that spools
while the database is away takes deliveries too: its next heartbeat covers that interval.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from indexer.background.loop import IterationResult
from indexer.ingest.writer import InboxWriter
from indexer.inventory.loss import ReceiverSession
from indexer.store import receiver_sessions
from indexer.store.pool import Pool, connection

REST_SECONDS = 2.0
"""Also how much of the session of a killed process may be missing from its record, and then counts as downtime."""


class ReceiverHeartbeat:
    """The loop that extends the session, until ``end_session``."""

    name = "receiver-heartbeat"

    def __init__(self, pool: Pool, writer: InboxWriter) -> None:
        self._pool = pool
        self._writer = writer
        self._process = uuid.uuid4()
        self._opened_at = datetime.now(UTC)
        self._ended = False

    def end_session(self) -> None:
        """Record nothing more: the listener is about to close, so the last heartbeat is the end of the session."""
        self._ended = True

    async def run_once(self) -> IterationResult:
        """Extend the session to now."""
        if self._ended:
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        session = ReceiverSession(opened_at=self._opened_at, heartbeat_at=datetime.now(UTC))
        async with connection(self._pool) as held:
            await receiver_sessions.record_receiver_session(
                held, process=self._process, session=session, spooled=self._writer.spooled
            )
        return IterationResult(items=1, rest_seconds=REST_SECONDS)

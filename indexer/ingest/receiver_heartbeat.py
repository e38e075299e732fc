"""Says in the database since when this process takes deliveries: whoever looks for downtime needs to know.

A process that spools, since the database is away, takes deliveries too; its next word covers the interval.
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
"""What a killed process did in its last seconds counts as downtime."""


class ReceiverHeartbeat:
    """The loop that says so, from ``opened_at`` until the doors shut."""

    name = "receiver-heartbeat"

    def __init__(self, pool: Pool, writer: InboxWriter) -> None:
        self._pool = pool
        self._writer = writer
        self._process = uuid.uuid4()
        self._opened_at = datetime.now(UTC)
        self._shut = False

    def shut(self) -> None:
        """The doors are about to shut: what was said last is the end."""
        self._shut = True

    async def run_once(self) -> IterationResult:
        """Say it once."""
        if self._shut:
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        session = ReceiverSession(opened_at=self._opened_at, open_at=datetime.now(UTC))
        async with connection(self._pool) as held:
            await receiver_sessions.record_receiver_session(
                held, process=self._process, session=session, spooled=self._writer.spooled
            )
        return IterationResult(items=1, rest_seconds=REST_SECONDS)

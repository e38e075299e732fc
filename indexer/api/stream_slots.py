"""Answers that wait for what is new: their number is bounded, they are woken by the sealer, and end with the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from indexer.api.recent_entries import Tail
from indexer.audit.notifier import SealNotifier
from indexer.background.loop import WakeEvent
from indexer.common.errors import CallerError

STREAMS = Gauge("indexer_api_streams", "Streams and long polls that are open.")


class Live:
    """The places for answers that wait."""

    def __init__(self, notifier: SealNotifier, *, places: int, tail: Tail) -> None:
        self.tail = tail
        self._notifier = notifier
        self._places = places
        self._alarms: set[WakeEvent] = set()
        self.closing = False

    @contextmanager
    def place(self) -> Iterator[WakeEvent]:
        """Lend a place, with an alarm that rings when entries are sealed and when the server ends.

        Raises ``CallerError`` where none is free.
        """
        if len(self._alarms) >= self._places:
            raise CallerError(
                f"{self._places} streams are open, more are not; try again later",
                status=503,
                code="too_many_streams",
            )
        alarm = WakeEvent()
        self._alarms.add(alarm)
        STREAMS.inc()
        try:
            with self._notifier.rings(alarm.wake):
                yield alarm
        finally:
            self._alarms.remove(alarm)
            STREAMS.dec()

    def close(self) -> None:
        """Let every answer that waits come to its end."""
        self.closing = True
        for alarm in self._alarms:
            alarm.wake()

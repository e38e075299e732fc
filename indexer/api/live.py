"""Answers that wait for what is new: their number is bounded, they are woken by the sealer, and end with the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from indexer.api.tail import Tail
from indexer.audit.bell import Bell
from indexer.errors import CallerError
from indexer.loop import Alarm

STREAMS = Gauge("indexer_api_streams", "Streams and long polls that are open.")


class Live:
    """The places for answers that wait."""

    def __init__(self, bell: Bell, *, places: int, tail: Tail) -> None:
        self.tail = tail
        self._bell = bell
        self._places = places
        self._alarms: set[Alarm] = set()
        self.closing = False

    @contextmanager
    def place(self) -> Iterator[Alarm]:
        """Lend a place, with an alarm that rings when entries are sealed and when the server ends.

        Raises ``CallerError`` where none is free.
        """
        if len(self._alarms) >= self._places:
            raise CallerError(
                f"{self._places} streams are open, more are not; try again later",
                status=503,
                code="too_many_streams",
            )
        alarm = Alarm()
        self._alarms.add(alarm)
        STREAMS.inc()
        try:
            with self._bell.rings(alarm.ring):
                yield alarm
        finally:
            self._alarms.remove(alarm)
            STREAMS.dec()

    def close(self) -> None:
        """Let every answer that waits come to its end."""
        self.closing = True
        for alarm in self._alarms:
            alarm.ring()

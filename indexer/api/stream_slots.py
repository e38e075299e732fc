"""Slots for streams and long polls: their number is bounded, sealing wakes them, and they end with the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from prometheus_client import Gauge

from indexer.api.recent_entries import RecentEntries
from indexer.audit.notifier import SealNotifier
from indexer.background.loop import WakeEvent
from indexer.common.errors import CallerError

STREAMS = Gauge("indexer_api_streams", "Streams and long polls that are open.")


class StreamSlots:
    """The slots of a process, and the newest entries that all streams share."""

    def __init__(self, notifier: SealNotifier, *, slots: int, recent: RecentEntries) -> None:
        self.recent = recent
        self._notifier = notifier
        self._slots = slots
        self._wake_events: set[WakeEvent] = set()
        self.closing = False

    @contextmanager
    def slot(self, *, sealed: bool = True) -> Iterator[WakeEvent]:
        """Take a slot; its event is set when the server ends, and, if ``sealed``, when entries are sealed.

        Raises ``CallerError`` (503 ``too_many_streams``) where none is free.
        """
        if len(self._wake_events) >= self._slots:
            raise CallerError(
                f"{self._slots} streams are open already, and no more are allowed; try again later",
                status=503,
                code="too_many_streams",
            )
        woken = WakeEvent()
        self._wake_events.add(woken)
        STREAMS.inc()
        try:
            with self._notifier.rings(woken.wake) if sealed else nullcontext():
                yield woken
        finally:
            self._wake_events.remove(woken)
            STREAMS.dec()

    def close(self) -> None:
        """Wake every stream and long poll, so that it ends."""
        self.closing = True
        for woken in self._wake_events:
            woken.wake()

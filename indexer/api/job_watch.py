"""Jobs that clients watch: each change is read once, however many watch the same job."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from indexer.background.loop import WakeEvent
from indexer.jobs.job import Job
from indexer.store.jobs import find_job
from indexer.store.reading import Readers

POLL_SECONDS: Final = 2.0
"""A change that was not notified, since the connection that listens was lost just then, shows no later than this."""


class JobNotifier:
    """Passes on which job has changed."""

    def __init__(self) -> None:
        self._watched: dict[str, set[WakeEvent]] = {}

    def changed(self, job_id: str) -> None:
        """Wake who watches a job. An empty id: any may have changed."""
        of_all = [woken for of_one in self._watched.values() for woken in of_one]
        for woken in self._watched.get(job_id, ()) if job_id else of_all:
            woken.wake()

    @contextmanager
    def wakes(self, job_id: uuid.UUID, woken: WakeEvent) -> Iterator[None]:
        """Wake at each change of a job."""
        watching = self._watched.setdefault(str(job_id), set())
        watching.add(woken)
        try:
            yield
        finally:
            watching.discard(woken)
            if not watching:
                self._watched.pop(str(job_id), None)


@dataclass(slots=True)
class _Reading:
    """What was read of a job, and since when the statement ran."""

    began: float = float("-inf")
    job: Job | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    readers: int = 0


class JobWatch:
    """The jobs that are watched in this process."""

    def __init__(self, readers: Readers, notifier: JobNotifier) -> None:
        self._readers = readers
        self._readings: dict[uuid.UUID, _Reading] = {}
        self.notifier = notifier

    async def read(self, job_id: uuid.UUID) -> Job | None:
        """Return a job as it is now, or was read by somebody who asked after this call began."""
        asked_at = time.monotonic()
        reading = self._readings.setdefault(job_id, _Reading())
        reading.readers += 1
        try:
            async with reading.lock:
                if reading.began < asked_at:
                    began = time.monotonic()
                    async with self._readers.reading() as held:
                        reading.job = await find_job(held, job_id=job_id)
                    reading.began = began
                return reading.job
        finally:
            reading.readers -= 1
            if not reading.readers:
                self._readings.pop(job_id, None)

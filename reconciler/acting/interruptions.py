"""What ends the work at a job before it is done. A handler lets them through; it raises ``JobFailed`` itself.

Interruption
├── LeaseLost     another process has the job, or may have: do nothing more, write nothing more
├── Cancelled     somebody wants it cancelled
├── Stopping      this process ends: another one goes on
└── ActingPaused  nothing may act just now: it goes on once something may
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from indexer.common.errors import IndexerError
from indexer.jobs.pauses import Pause


class Interruption(IndexerError):  # noqa: N818 - not an error of the job
    """The work at a job ends here for now."""


class LeaseLost(Interruption):
    """The lease has run out."""


class Cancelled(Interruption):
    """Somebody wants the job cancelled."""


class Stopping(Interruption):
    """The process ends, and another one goes on."""


class ActingPaused(Interruption):
    """Nothing may act just now, see ``pause``."""

    def __init__(self, pause: Pause) -> None:
        super().__init__(pause.text)
        self.pause = pause


class JobFailed(IndexerError):  # noqa: N818 - a state, read as "job failed"
    """The job cannot be done; the message says why in a sentence, ``result`` what was done."""

    def __init__(self, message: str, *, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result

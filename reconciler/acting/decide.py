"""What becomes of a job whose work ended, by how it ended.

The rules, in the order in which they apply:

1. The lease is lost: nothing. The job is another's, or will be.
2. Cancelled: it ends as cancelled.
3. This process stops: it waits, and any process may take it at once.
4. Nothing may act: it is paused, with the reason, until something may.
5. The database is away or in the way: it waits. Most likely that cannot be written; then the lease runs out.
6. The registry or its storage does not answer, or says "not now": it waits, ever longer, 5 s to 5 min. It does not fail
   for that.
7. Any other error that we expect (the registry refuses us, a setting is wrong): it failed, with that sentence.
8. An error that we do not expect: it failed; the log has the details.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from indexer.common.backoff import growing_wait
from indexer.common.errors import (
    IndexerError,
    RegistryUnavailable,
    StorageUnavailable,
    StoreBusy,
    StoreUnavailable,
)
from indexer.jobs.job import JobState
from reconciler.acting.interruptions import ActingPaused, Cancelled, JobFailed, LeaseLost, Stopping

FIRST_WAIT_SECONDS: Final = 5.0
LONGEST_WAIT_SECONDS: Final = 300.0
MOST_DEATHS: Final = 10
"""Processes that may disappear with a job that does not get on; then it is taken for the reason, and failed."""

DIED: Final = (
    f"{MOST_DEATHS} processes ended without a word while they executed it, and it did not get on; look for the reason "
    "in the logs of the reconciler (killed for its memory?) before you ask for it again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What to write. ``state`` None: nothing. ``again_in``: of a job that waits, how long; None: no time."""

    state: JobState | None
    error: str | None = None
    note: str | None = None
    again_in: timedelta | None = None
    tries: int = 0
    result: Mapping[str, Any] | None = None
    is_unexpected: bool = False


def ending_of(error: BaseException, *, tries: int) -> Ending:  # noqa: PLR0911 - a rule each
    """Return what becomes of a job whose handler raised ``error``; ``tries``: how often in a row it waited for that."""
    match error:
        case LeaseLost():
            return Ending(state=None)
        case Cancelled():
            return Ending(state=JobState.CANCELLED)
        case Stopping():
            return Ending(state=JobState.WAITING, tries=tries)
        case ActingPaused():
            return Ending(state=JobState.PAUSED, note=error.pause.text, tries=tries)
        case StoreUnavailable() | StoreBusy() | RegistryUnavailable() | StorageUnavailable():
            seconds = growing_wait(tries + 1, first=FIRST_WAIT_SECONDS, longest=LONGEST_WAIT_SECONDS)
            return Ending(
                state=JobState.WAITING,
                note=f"{error}; it is tried again in {seconds:.0f} s",
                again_in=timedelta(seconds=seconds),
                tries=tries + 1,
            )
        case JobFailed():
            return Ending(state=JobState.FAILED, error=str(error), result=error.result)
        case IndexerError():
            return Ending(state=JobState.FAILED, error=str(error))
        case _:
            return Ending(
                state=JobState.FAILED,
                error=f"something unexpected went wrong ({type(error).__name__}); the reconciler's log has the details",
                is_unexpected=True,
            )

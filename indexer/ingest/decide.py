"""What happens to a delivery that could not be applied, by the cause of the failure. Pure (docs/adr/0052).

    cause                                                 the delivery, applied by itself
    its content cannot be stored (range, constraint)      quarantined
    the database took too long                            retried later; quarantined at the third time-out, if
                                                          another delivery was applied just before it
    our own code, a missing table, column or right        retried later, without end
    the database is away, or another transaction          the batch is repeated as it is
    conflicts

Several deliveries in a row that fail with the same kind of error are not the cause, whatever the error says: then all
of them wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from indexer.common.backoff import growing_wait
from indexer.common.errors import ConfigurationError, StoreError, StoreFault, StoreRefused, StoreTimedOut

ALIKE_IN_A_ROW = 5
"""After so many failures of one kind, with no delivery applied in between, the deliveries are not the cause."""

SLOW_ATTEMPTS = 3
"""Time-outs of one delivery, after which it is quarantined."""

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 900.0

POSTPONED_SECONDS = 10.0
"""How long the rest of a batch waits that failed alike; other deliveries are applied meanwhile."""


class Blame(StrEnum):
    """The cause of a failure; also the label of ``indexer_ingest_failures_total``."""

    NOBODY = "nobody"
    CONTENT = "content"
    SLOW = "slow"
    OURS = "ours"


class FailureAction(StrEnum):
    """What happens to a delivery that failed when it was applied by itself."""

    QUARANTINE = "quarantine"
    LATER = "later"
    """Retry it later."""
    STOP = "stop"
    """Retry it later, and the rest of its batch as well."""


def blame(error: BaseException) -> Blame:
    """Return the cause of a failure to apply deliveries."""
    if isinstance(error, StoreTimedOut):
        return Blame.SLOW
    if isinstance(error, StoreRefused | ValueError | RecursionError | OverflowError):
        return Blame.CONTENT
    if isinstance(error, StoreError | ConfigurationError) and not isinstance(error, StoreFault):
        return Blame.NOBODY
    return Blame.OURS


@dataclass(slots=True)
class Streak:
    """How many deliveries in a row failed with the same kind of error (see ``kind_of``)."""

    kind: str = ""
    count: int = 0

    def applied(self) -> None:
        """Begin anew: a delivery was applied, so database and code work."""
        self.kind, self.count = "", 0

    def failed(self, error: BaseException) -> None:
        """Count one more delivery that failed by itself."""
        kind = kind_of(error)
        self.count = self.count + 1 if kind == self.kind else 1
        self.kind = kind


def judge(error: BaseException, *, attempts: int, streak: Streak) -> FailureAction:
    """Decide what happens to a delivery; ``attempts``: how often it failed, this time included."""
    if streak.count >= ALIKE_IN_A_ROW:
        return FailureAction.STOP
    whose = blame(error)
    if whose is Blame.CONTENT:
        return FailureAction.QUARANTINE
    if whose is Blame.SLOW and attempts >= SLOW_ATTEMPTS and streak.count == 1:
        return FailureAction.QUARANTINE
    return FailureAction.LATER


def wait_after(attempts: int) -> float:
    """Return after how many seconds a delivery is retried that failed ``attempts`` times."""
    return growing_wait(attempts, first=FIRST_WAIT_SECONDS, longest=LONGEST_WAIT_SECONDS)


def kind_of(error: BaseException) -> str:
    """Return the kind of an error: its class, and the class of the driver's error where it wraps one."""
    cause = error.__cause__
    own = type(error).__name__
    return f"{own}/{type(cause).__name__}" if isinstance(error, StoreError) and cause is not None else own

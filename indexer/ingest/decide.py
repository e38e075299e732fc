"""Whose fault it is when deliveries cannot be applied, and what becomes of them (docs/adr/0052).

    what failed                                           the delivery, taken alone
    its content cannot be stored (range, constraint)      quarantined
    the database took too long                            waits, tried again later; quarantined after three times,
                                                          if another was applied just before it
    our own code, a missing table, column or right        waits, tried again later, for ever
    the database is away, or another transaction in       the round is repeated as it is
    the way

Several deliveries in a row that fail alike are no delivery's fault, whatever the error says: then all of them wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from indexer.common.backoff import growing_wait
from indexer.common.errors import ConfigurationError, StoreError, StoreFault, StoreRefused, StoreTimedOut

ALIKE_IN_A_ROW = 5
"""So many deliveries that fail alike, with none applied in between, are no delivery's fault."""

SLOW_ATTEMPTS = 3
"""So often the database may take too long over one delivery."""

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 900.0

HELD_BACK_SECONDS = 10.0
"""How long the rest of a batch waits that failed alike: others get their turn meanwhile."""


class Blame(StrEnum):
    """Whose fault an error is."""

    NOBODY = "nobody"
    CONTENT = "content"
    SLOW = "slow"
    OURS = "ours"


class FailureAction(StrEnum):
    """What becomes of a delivery that failed when it was taken alone."""

    QUARANTINE = "quarantine"
    LATER = "later"
    """It waits, and is tried again."""
    STOP = "stop"
    """As ``LATER``, and what failed with it waits, too."""


def blame(error: BaseException) -> Blame:
    """Say whose fault it is that deliveries could not be applied."""
    if isinstance(error, StoreTimedOut):
        return Blame.SLOW
    if isinstance(error, StoreRefused | ValueError | RecursionError | OverflowError):
        return Blame.CONTENT
    if isinstance(error, StoreError | ConfigurationError) and not isinstance(error, StoreFault):
        return Blame.NOBODY
    return Blame.OURS


@dataclass(slots=True)
class Streak:
    """Deliveries that failed alike, one after the other, with none applied in between."""

    kind: str = ""
    count: int = 0

    def applied(self) -> None:
        """Something was applied: database and code work."""
        self.kind, self.count = "", 0

    def failed(self, error: BaseException) -> None:
        """Count one more that failed, taken alone."""
        kind = kind_of(error)
        self.count = self.count + 1 if kind == self.kind else 1
        self.kind = kind


def judge(error: BaseException, *, attempts: int, streak: Streak) -> FailureAction:
    """Decide what becomes of a delivery; ``attempts``: how often it failed, this one included."""
    if streak.count >= ALIKE_IN_A_ROW:
        return FailureAction.STOP
    whose = blame(error)
    if whose is Blame.CONTENT:
        return FailureAction.QUARANTINE
    if whose is Blame.SLOW and attempts >= SLOW_ATTEMPTS and streak.count == 1:
        return FailureAction.QUARANTINE
    return FailureAction.LATER


def wait_after(attempts: int) -> float:
    """Return after how many seconds a delivery is tried again that failed so often."""
    return growing_wait(attempts, first=FIRST_WAIT_SECONDS, longest=LONGEST_WAIT_SECONDS)


def kind_of(error: BaseException) -> str:
    """Return what makes errors alike: their class, and the driver's where it is one of ours."""
    cause = error.__cause__
    own = type(error).__name__
    return f"{own}/{type(cause).__name__}" if isinstance(error, StoreError) and cause is not None else own

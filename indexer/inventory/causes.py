"""Why the registry and the inventory differed, once later evidence is there. Pure.

The rules, in the order they apply to a finding without a certain cause:

1. A manifest is gone, and so is a layer that no other manifest has: garbage collection. A delete by the API removes
   only the repository's link to the manifest.
2. An event of it came after the observation: late notification.
3. Events made in the interval are known to have been lost: a process ended with events queued, or deliveries ended
   elsewhere. Likely one of these was the event: lost notification.
4. The counters of every registry process prove that no event of the interval was lost: it was done out of band, not
   through the API.
5. Counters do not cover the interval yet, or an event may still be on its way: wait, for a while.
6. Otherwise the cause is not known.

The interval is from the last evidence of the record to the observation. Rules 3 and 4 need its beginning; for rule 4 it
must be later than the first reading of the counters by more than the clock margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from indexer.inventory.changes import DriftCause
from indexer.inventory.loss import LossState, LossStatement
from indexer.inventory.precedence import CLOCK_MARGIN

TENTATIVE: Final = (DriftCause.UNANNOUNCED, DriftCause.CONTENT_REMOVED)
"""Causes that only say "not known", and may be replaced by a better one."""

PATIENCE: Final = timedelta(minutes=1)
"""How long events may be on their way. Longer where counters say that some are still queued."""

LONGEST_PATIENCE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The account of a registry process that ran in the interval, or is not known to have ended before it."""

    began_at: datetime
    accounted_until: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnexplainedFinding:
    """A finding, and what is known by now of the interval in which it came about.

    - ``collected``: a layer that only this manifest had is gone; None: not known, or not asked.
    - ``announced``: an event of the interval reported it.
    - ``claims``: loss statements of any process or instance that overlap the interval.
    - ``uncounted``: in the interval events came from an instance whose counters are not read.
    """

    detected_at: datetime
    not_before: datetime | None
    collected: bool | None
    announced: bool
    claims: Sequence[LossStatement]
    accounts: Sequence[Counted]
    uncounted: bool


def explain(question: UnexplainedFinding, *, now: datetime) -> DriftCause | None:
    """Return the cause; ``UNANNOUNCED`` if it is not known, None if it is too early to decide."""
    if question.collected:
        return DriftCause.GARBAGE_COLLECTION
    if question.announced:
        return DriftCause.LATE_NOTIFICATION
    if question.not_before is not None and any(_lost(claim) for claim in question.claims):
        return DriftCause.LOST_NOTIFICATION
    if _nothing_lost(question):
        return DriftCause.OUT_OF_BAND
    waited = now - question.detected_at
    behind = any(
        account.ended_at is None and account.accounted_until < question.detected_at
        for account in question.accounts
    )
    if waited < PATIENCE or (behind and waited < LONGEST_PATIENCE):
        return None
    return DriftCause.UNANNOUNCED


def _lost(claim: LossStatement) -> bool:
    return claim.waiting_at_end > 0 or (claim.state is LossState.AT_MOST and claim.needs_reconcile)


def _nothing_lost(question: UnexplainedFinding) -> bool:
    began = question.not_before
    return (
        began is not None
        and not question.uncounted
        and bool(question.accounts)
        and all(
            account.began_at <= began - CLOCK_MARGIN
            and account.ended_at is None
            and account.accounted_until >= question.detected_at
            for account in question.accounts
        )
        and all(claim.state is LossState.NOTHING_LOST for claim in question.claims)
    )

"""Why the registry and the inventory differed, once more is known than the look itself could tell. Pure.

The rules, in the order they apply to a finding without a certain cause:

1. A manifest is gone, and so is a layer that no other manifest has: the content was collected. The API's delete
   takes the link alone.
2. An event told of it after the look: it was late.
3. Events made in the interval are known to have been lost: a process ended with events waiting, or deliveries
   ended elsewhere. Likely one of these would have told.
4. The counters of every registry process prove that none made in the interval was lost: it was not done through
   the API.
5. Counters are still behind the interval, or an event may still be on its way: wait, for a while.
6. Otherwise it cannot be told.

The interval is from the last evidence of the record to the look. Its beginning must be known for rules 3 and 4, and
for rule 4 lie after the counters' first reading by more than clocks may differ.
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
"""Causes that say nothing, and may become better known."""

PATIENCE: Final = timedelta(minutes=1)
"""For events that are on their way. Longer where counters are read, and say that some still wait."""

LONGEST_PATIENCE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The account of a registry process that was alive in the interval, or that is not known to have ended before."""

    began_at: datetime
    accounted_until: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnexplainedFinding:
    """A finding, and what is known by now of the interval in which it came about.

    ``collected``: a layer that only this manifest had is gone; None: not known, or not asked. ``announced``: an
    event of the interval told of it. ``claims``: of any process or instance, that touch the interval.
    ``uncounted``: an instance was heard in it whose counters nobody reads.
    """

    detected_at: datetime
    not_before: datetime | None
    collected: bool | None
    announced: bool
    claims: Sequence[LossStatement]
    accounts: Sequence[Counted]
    uncounted: bool


def explain(question: UnexplainedFinding, *, now: datetime) -> DriftCause | None:
    """Return the cause; one of ``TENTATIVE`` is none, and None: it is too early to tell."""
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

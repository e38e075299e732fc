"""What differed gets the cause that is known, and none that is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from indexer.inventory.causes import LONGEST_PATIENCE, PATIENCE, Counted, UnexplainedFinding, explain
from indexer.inventory.changes import DriftCause
from indexer.inventory.loss import LossState, LossStatement

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def claim(
    state: LossState,
    from_at: float = 0,
    to_at: float = 300,
    *,
    waiting_at_end: int = 0,
    needs_reconcile: bool = False,
) -> LossStatement:
    lost = 1 if state is LossState.AT_MOST else None
    return LossStatement(
        state=state,
        from_at=at(from_at),
        to_at=at(to_at),
        lost=lost,
        waiting_at_end=waiting_at_end,
        needs_reconcile=needs_reconcile,
    )


NOTHING = claim(LossState.NOTHING_LOST)
ALIVE = Counted(began_at=at(0), accounted_until=at(300), ended_at=None)
PROVED = UnexplainedFinding(
    detected_at=at(200),
    not_before=at(100),
    collected=None,
    announced=False,
    claims=[NOTHING],
    accounts=[ALIVE],
    uncounted=False,
)
SOON = at(205)
LATE = PROVED.detected_at + PATIENCE
VERY_LATE = PROVED.detected_at + LONGEST_PATIENCE


@pytest.mark.parametrize(
    ("question", "now", "expected"),
    [
        pytest.param(PROVED, SOON, DriftCause.OUT_OF_BAND, id="no event was lost"),
        pytest.param(
            replace(PROVED, collected=False), SOON, DriftCause.OUT_OF_BAND, id="its layer is still there"
        ),
        pytest.param(
            replace(PROVED, collected=True, announced=True),
            SOON,
            DriftCause.GARBAGE_COLLECTION,
            id="its layer is gone",
        ),
        pytest.param(
            replace(PROVED, announced=True), SOON, DriftCause.LATE_NOTIFICATION, id="an event came after all"
        ),
        pytest.param(
            replace(PROVED, claims=[NOTHING, claim(LossState.AT_MOST, needs_reconcile=True)]),
            SOON,
            DriftCause.LOST_NOTIFICATION,
            id="deliveries ended elsewhere",
        ),
        pytest.param(
            replace(PROVED, claims=[claim(LossState.UNKNOWN, waiting_at_end=3, needs_reconcile=True)]),
            SOON,
            DriftCause.LOST_NOTIFICATION,
            id="a process ended with events waiting",
        ),
        pytest.param(
            replace(
                PROVED,
                claims=[claim(LossState.UNKNOWN, waiting_at_end=3, needs_reconcile=True)],
                not_before=None,
            ),
            LATE,
            DriftCause.UNANNOUNCED,
            id="who knows whether it was before that",
        ),
        pytest.param(
            replace(PROVED, claims=[claim(LossState.UNKNOWN, needs_reconcile=True)]),
            LATE,
            DriftCause.UNANNOUNCED,
            id="a process ended, and nobody knows with what",
        ),
        pytest.param(replace(PROVED, not_before=None), LATE, DriftCause.UNANNOUNCED, id="since when?"),
        pytest.param(replace(PROVED, accounts=[], claims=[]), LATE, DriftCause.UNANNOUNCED, id="no counters"),
        pytest.param(
            replace(PROVED, uncounted=True), LATE, DriftCause.UNANNOUNCED, id="not everybody's counters"
        ),
        pytest.param(
            replace(PROVED, accounts=[replace(ALIVE, began_at=at(98))]),
            LATE,
            DriftCause.UNANNOUNCED,
            id="counted since too short a while, as clocks go",
        ),
        pytest.param(
            replace(PROVED, accounts=[ALIVE, replace(ALIVE, ended_at=at(150))]),
            LATE,
            DriftCause.UNANNOUNCED,
            id="one of them ended",
        ),
        pytest.param(
            replace(PROVED, accounts=[replace(ALIVE, accounted_until=at(150))]),
            VERY_LATE,
            DriftCause.UNANNOUNCED,
            id="never settled",
        ),
    ],
)
def test_cause__of_an_interval(question: UnexplainedFinding, now: datetime, expected: DriftCause) -> None:
    """Only proof gives a cause; whatever leaves a doubt stays unannounced."""
    assert expected is explain(question, now=now)


@pytest.mark.parametrize(
    ("question", "now"),
    [
        pytest.param(replace(PROVED, accounts=[], claims=[]), SOON, id="an event may be on its way"),
        pytest.param(
            replace(PROVED, accounts=[replace(ALIVE, accounted_until=at(150))]),
            LATE,
            id="counters are behind",
        ),
    ],
)
def test_cause__waits(question: UnexplainedFinding, now: datetime) -> None:
    """What may still become known is waited for."""
    assert explain(question, now=now) is None

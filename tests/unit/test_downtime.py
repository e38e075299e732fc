"""What our own downtime may have cost: said where it cannot be excluded, and no wolf is cried where it can."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.inventory.loss import Downtime, InstanceRecord, LossState, ReceiverSession
from reconciler.loss.downtime import PATIENCE, SPEAKS_AGAIN, after_downtime, downtimes

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def session(opened: float, last: float) -> ReceiverSession:
    return ReceiverSession(opened_at=at(opened), heartbeat_at=at(last))


GAP = Downtime(from_at=at(100), to_at=at(110))
SOON = at(111)
LATE = GAP.to_at + PATIENCE


def witness(
    *,
    announced: float = 90,
    first: float = 0,
    counted: tuple[float, float] | None = None,
    address: str = "registry:5000",
    number: int = 7,
) -> InstanceRecord:
    return InstanceRecord(
        id=number,
        address=address,
        first_seen_at=at(first),
        last_seen_at=at(announced),
        counted_from=None if counted is None else at(counted[0]),
        counted_to=None if counted is None else at(counted[1]),
    )


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param([], [], id="no process ever"),
        pytest.param([session(0, 100)], [], id="one process"),
        pytest.param([session(0, 100), session(110, 200)], [(100, 110)], id="a restart"),
        pytest.param([session(110, 200), session(0, 100)], [(100, 110)], id="in any order"),
        pytest.param([session(0, 100), session(90, 200)], [], id="a rolling restart"),
        pytest.param(
            [session(0, 300), session(10, 20), session(30, 40)], [], id="another was there all the time"
        ),
        pytest.param(
            [session(0, 100), session(0, 105), session(110, 120), session(130, 140)],
            [(105, 110), (120, 130)],
            id="two gaps",
        ),
    ],
)
def test_downtimes__are_the_gaps_between_doors(
    sessions: list[ReceiverSession], expected: list[tuple[float, float]]
) -> None:
    """Nobody received where no process of any replica did."""
    assert [Downtime(from_at=at(one), to_at=at(other)) for one, other in expected] == downtimes(sessions)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=8))
def test_downtimes__every_second_is_in_a_door_or_a_gap(spans: list[tuple[int, int]]) -> None:
    """From the first door to the end of the last: a second lies in a gap exactly if it lies in no door."""
    sessions = [session(opened, opened + lasted) for opened, lasted in spans]
    gaps = downtimes(sessions)
    for second in range(60):
        moment = at(second + 0.5)
        inside = any(each.opened_at < moment < each.heartbeat_at for each in sessions)
        begun, over = (
            any(each.opened_at < moment for each in sessions),
            all(each.heartbeat_at < moment and each.opened_at < moment for each in sessions),
        )
        gap = any(each.from_at < moment < each.to_at for each in gaps)
        assert gap == (begun and not over and not inside)


@pytest.mark.parametrize(
    ("seen", "now", "reconcile"),
    [
        pytest.param(witness(announced=112), SOON, False, id="heard since: it outlived us"),
        pytest.param(witness(), LATE, True, id="silent since"),
        pytest.param(
            witness(counted=(50, 95)), LATE, True, id="silent, and its counters were not read since"
        ),
        pytest.param(witness(counted=(105, 200)), LATE, True, id="counted only since we are back"),
        pytest.param(
            witness(announced=-100_000, first=-100_000), LATE, True, id="silent for long, but the last"
        ),
    ],
)
def test_claim__unknown(seen: InstanceRecord, now: datetime, reconcile: bool) -> None:
    """What is not proved is unknown, from our last word to our first, and only silence calls for a walk."""
    claims = after_downtime(GAP, [seen], now=now)
    assert claims is not None
    (claim,) = claims.values()
    assert (LossState.UNKNOWN, GAP.from_at, GAP.to_at, reconcile) == (
        claim.state,
        claim.from_at,
        claim.to_at,
        claim.needs_reconcile,
    )
    assert (claim.because or "").startswith("no indexer was receiving")


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param([], id="nobody was heard"),
        pytest.param([witness(counted=(50, 115))], id="its counters were read before and after"),
        pytest.param([witness(first=120, announced=130)], id="it is new"),
    ],
)
def test_claim__none(seen: list[InstanceRecord]) -> None:
    """Counters speak for themselves, and who was not there is not spoken of."""
    assert {} == after_downtime(GAP, seen, now=LATE)


def test_claim__of_the_dead() -> None:
    """Of two processes at one address the earlier had ended before; one elsewhere, silent for a day, is not awaited."""
    before = witness(number=1, announced=20)
    living = witness(number=2, first=30, announced=112)
    gone = witness(number=3, first=-200_000, announced=-190_000, address="elsewhere:5000")
    claims = after_downtime(GAP, [before, living, gone], now=SOON)
    assert claims is not None
    assert {2} == claims.keys()


def test_claim__of_a_restart_in_the_gap() -> None:
    """A process that was replaced while nobody received is not the one that outlived: it is silent."""
    before, after = witness(number=1), witness(number=2, first=112, announced=112)
    assert after_downtime(GAP, [before, after], now=SOON) is None
    claims = after_downtime(GAP, [before, after], now=LATE)
    assert claims is not None
    assert [(1, True)] == [(number, claim.needs_reconcile) for number, claim in claims.items()]


def test_claim__waits() -> None:
    """Silence is no answer before a registry had time to try again."""
    assert after_downtime(GAP, [witness()], now=SOON) is None
    assert after_downtime(GAP, [witness(announced=112, counted=(50, 95))], now=SOON) is None
    assert after_downtime(GAP, [witness(), replace(witness(announced=112), id=8)], now=SOON) is None


def test_claim__waits_for_counters_to_be_known_as_its_own() -> None:
    """An instance that is heard again is not spoken of while counters are read that may be its own."""
    announced = witness(announced=112)
    assert after_downtime(GAP, [announced], now=SOON, some_unlinked=True) is None
    assert after_downtime(GAP, [announced], now=LATE, some_unlinked=True)
    assert after_downtime(GAP, [announced], now=SOON)


def test_claim__waits_for_a_process_that_may_speak_again() -> None:
    """A gap behind somebody's last word is none until he had time for the next one."""
    gap = Downtime(from_at=at(100), to_at=at(101))
    assert after_downtime(gap, [witness(announced=102)], now=at(102)) is None
    assert after_downtime(gap, [witness(announced=102)], now=at(100) + SPEAKS_AGAIN)

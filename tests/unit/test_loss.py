"""What is claimed of a registry process's events is never false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.inventory.loss import Account, LossState, LossStatement, current_statement, without_counters
from reconciler.loss.decide import PATIENCE, Received, Sample, decide, find_instances, open_account
from reconciler.loss.observe import shown_address
from reconciler.registry.endpoint_counters import (
    EndpointCounters,
    ProcessMark,
    parse_expvar_process,
    parse_prometheus_process,
)
from tests.fixtures.selection import examples

START = datetime(2026, 1, 1, tzinfo=UTC)
ADDRESS = "http://registry:5001"
PROCESS = ProcessMark(collections=1, collected_at=frozenset({111}))
ANOTHER = ProcessMark(collections=1, collected_at=frozenset({222}))


def sample(
    seconds: float,
    events: int,
    delivered: int,
    *,
    accepted: int | None = None,
    process: ProcessMark = PROCESS,
) -> Sample:
    ours = delivered if accepted is None else accepted
    counters = EndpointCounters(
        events=events,
        successes=delivered,
        pending=events - delivered,
        statuses={202: ours, 200: delivered - ours},
    )
    return Sample(at=START + timedelta(seconds=seconds), counters=counters, process=process)


def received(before: int, after: int | None = None, *, complete: bool = True) -> Received:
    return Received(before=before, after=before if after is None else after, complete=complete)


def account_of(first: Sample) -> Account:
    return replace(open_account(first, address=ADDRESS), id=7, instance_id=1)


@pytest.mark.parametrize(
    ("first", "then", "ours", "expected"),
    [
        pytest.param(
            sample(0, 3, 3), sample(5, 3, 3), received(3), ("nothing_lost", None, False), id="quiet"
        ),
        pytest.param(sample(0, 3, 3), sample(5, 9, 9), received(9), ("nothing_lost", None, False), id="busy"),
        pytest.param(
            sample(0, 3, 3), sample(5, 9, 9, accepted=7), received(7), ("at_most", 2, True), id="redirected"
        ),
        pytest.param(sample(0, 3, 3), sample(5, 9, 9), None, ("unknown", None, False), id="nobody's"),
        pytest.param(
            sample(0, 3, 3),
            sample(5, 9, 9, accepted=5),
            None,
            ("unknown", None, True),
            id="nobody's, some astray",
        ),
        pytest.param(
            sample(0, 3, 3),
            sample(5, 9, 9, accepted=3),
            None,
            ("at_most", 6, True),
            id="nobody's, all astray",
        ),
        pytest.param(
            sample(0, 3, 3), sample(5, 3, 3), None, ("nothing_lost", None, False), id="nobody's, quiet"
        ),
        pytest.param(sample(0, 3, 3), sample(5, 2, 2), received(3), ("unknown", None, True), id="began anew"),
        pytest.param(
            sample(0, 3, 3),
            sample(5, 9, 9, process=ANOTHER),
            received(9),
            ("unknown", None, True),
            id="another process, that has more already",
        ),
        pytest.param(
            sample(0, 0, 0),
            sample(5, 0, 0, process=ProcessMark()),
            None,
            ("unknown", None, True),
            id="nothing tells which process",
        ),
    ],
)
def test_claim__of_two_readings(
    first: Sample, then: Sample, ours: Received | None, expected: tuple[str, int | None, bool]
) -> None:
    """Two readings of an address, and what was received, allow this claim and no stronger one: state, lost, walk."""
    account = account_of(first)
    if ours is None:
        account = replace(account, suspected_at=START - PATIENCE)  # long enough to be told whose they are
    (claimed,) = decide(account, then, address=ADDRESS, received=ours).statements
    assert expected == (claimed.state, claimed.lost, claimed.needs_reconcile)
    assert (first.at, then.at) == (claimed.from_at, claimed.to_at)


@pytest.mark.parametrize(
    ("then", "ours"),
    [
        pytest.param(sample(5, 9, 2), received(2), id="the queue stands"),
        pytest.param(sample(5, 9, 9), received(9, complete=False), id="the inbox lags"),
        pytest.param(sample(5, 9, 9), received(7), id="two are on their way, or missing"),
    ],
)
def test_claim__waits(then: Sample, ours: Received) -> None:
    """While something is under way nothing is claimed but that it is unknown yet."""
    first = account_of(sample(0, 3, 2))
    decision = decide(first, then, address=ADDRESS, received=ours)
    assert () == decision.statements
    shown = current_statement(decision.account, [])
    assert (LossState.UNKNOWN, START, then.at) == (shown.state, shown.from_at, shown.to_at)
    assert shown.because


@pytest.mark.parametrize("lagging", [0, 200], ids=["at once", "once the inbox has caught up"])
def test_claim__whose_they_are_is_found_out_later(lagging: int) -> None:
    """Counters that cannot be linked yet claim nothing of what they count: once they are, nothing was lost."""
    account = replace(account_of(sample(0, 0, 0)), instance_id=None)
    for seconds in range(5, lagging + 60, 5):
        decision = decide(
            account, sample(seconds, 5, 5), address=ADDRESS, received=None, caught_up=seconds > lagging
        )
        assert () == decision.statements
        shown = current_statement(decision.account, [])
        assert (LossState.UNKNOWN, START) == (shown.state, shown.from_at)
        account = decision.account
    linked = replace(account, instance_id=1)
    (claimed,) = decide(linked, sample(lagging + 61, 5, 5), address=ADDRESS, received=received(5)).statements
    assert (LossState.NOTHING_LOST, START) == (claimed.state, claimed.from_at)


def test_claim__missing_for_long() -> None:
    """What was answered 202 and is not here after a minute is lost, at most; once, not in every interval."""
    account = account_of(sample(0, 3, 3))
    found: list[tuple[LossState, int | None]] = []
    for seconds in range(5, 200, 5):
        decision = decide(account, sample(seconds, 9, 9), address=ADDRESS, received=received(7))
        account = decision.account
        found += [(each.state, each.lost) for each in decision.statements]
    assert (LossState.AT_MOST, 2) == found[0]
    assert {(LossState.NOTHING_LOST, None)} >= set(found[1:2])
    assert 2 == account.missing


def test_claim__under_steady_load() -> None:
    """A queue that is never empty is settled all the same: what was made up to the mark is delivered."""
    account = account_of(sample(0, 3, 2))
    found: list[LossStatement] = []
    for number in range(1, 5):
        decision = decide(
            account,
            sample(5 * number, 3 + 10 * number, 2 + 10 * number),
            address=ADDRESS,
            received=received(200),
        )
        account = decision.account
        found += decision.statements
    assert {LossState.NOTHING_LOST} == {each.state for each in found}
    assert [(0, 5), (5, 10), (10, 15)] == [
        ((each.from_at - START).seconds, (each.to_at - START).seconds) for each in found
    ]


def test_restart__says_what_waited() -> None:
    """A process that ends with events in its queue: unknown, since when all was well, and a walk is called for."""
    waiting = decide(account_of(sample(0, 3, 3)), sample(5, 7, 4), address=ADDRESS, received=received(4))
    decision = decide(
        waiting.account, sample(10, 0, 0, process=ANOTHER), address=ADDRESS, received=received(4)
    )
    (claimed,) = decision.statements
    assert decision.ended
    assert (LossState.UNKNOWN, START, True) == (claimed.state, claimed.from_at, claimed.needs_reconcile)
    assert claimed.because is not None
    assert "3 events waited" in claimed.because
    assert (0, None) == (decision.account.id, decision.account.instance_id)


@pytest.mark.parametrize(
    ("accepted", "counts", "expected"),
    [
        pytest.param({"a": 3}, {1: 3, 2: 5}, {"a": 1}, id="one fits"),
        pytest.param({"a": 3}, {1: 3, 2: 3}, {}, id="two instances fit"),
        pytest.param({"a": 3, "b": 3}, {1: 3}, {}, id="two processes fit"),
        pytest.param({"a": 3, "b": 5}, {1: 3, 2: 5}, {"a": 1, "b": 2}, id="each fits one"),
        pytest.param({"a": 0}, {1: 0}, {}, id="nothing was sent"),
        pytest.param({"a": 9}, {1: 3}, {}, id="we came later"),
    ],
)
def test_instances__by_equal_counts(
    accepted: dict[str, int], counts: dict[int, int], expected: dict[str, int]
) -> None:
    """The counters are an instance's where they alone, and it alone, have that many events."""
    samples = {address: sample(0, count, count) for address, count in accepted.items()}
    held = {number: received(count) for number, count in counts.items()}
    assert expected == find_instances(samples, held, [])


def test_instances__without_counters() -> None:
    """An instance whose counters nobody reads is told apart from one whose counters are not known as its own."""
    silent = without_counters(first_seen_at=START, now=START, some_are_read=False)
    strange = without_counters(first_seen_at=START, now=START, some_are_read=True)
    assert {LossState.UNKNOWN} == {silent.state, strange.state}
    assert "RECONCILER_REGISTRY_DEBUG_URLS" in (silent.because or "")
    assert silent.because != strange.because


def test_process__marks() -> None:
    """Go's collections and Prometheus' start time are read; anything else marks no process, and is no error."""
    expvar = b'{"memstats": {"NumGC": 2, "PauseEnd": [17, 18, 0]}}'
    assert ProcessMark(collections=2, collected_at=frozenset({17, 18})) == parse_expvar_process(expvar)
    assert ProcessMark(started_at=12.5) == parse_prometheus_process(b"process_start_time_seconds 12.5\n")
    for odd in (b"", b"[]", b"{}", b'{"memstats": {"NumGC": null}}'):
        assert ProcessMark() == parse_expvar_process(odd)
        assert ProcessMark() == parse_prometheus_process(odd)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://registry:5001/", "http://registry:5001"),
        ("http://me:p@ss@registry:5001/debug/vars", "http://registry:5001/debug/vars"),
        ("registry:5001", "registry:5001"),
    ],
)
def test_address__without_password(url: str, expected: str) -> None:
    """What is stored, shown and logged of a debug address holds no password."""
    assert expected == shown_address(url)


def test_claim__nothing_was_made_before_the_mark() -> None:
    """While an event is on its way nothing is claimed of it, and what lies before it stays certain."""
    account = decide(None, sample(0, 0, 0), address=ADDRESS, received=None).account
    decision = decide(replace(account, id=7), sample(5, 0, 0), address=ADDRESS, received=None)
    decision = decide(decision.account, sample(10, 1, 0), address=ADDRESS, received=None)
    assert () == decision.statements
    decision = decide(decision.account, sample(15, 1, 1), address=ADDRESS, received=received(1))
    assert ["nothing_lost"] == [each.state for each in decision.statements]


def test_spool__has_all_the_time_it_takes() -> None:
    """What waits here longer than patience is no loss; once nothing waits, patience begins anew."""
    account = account_of(sample(0, 0, 0))
    for seconds in (5, 50, 100, 200):
        decision = decide(
            account, sample(seconds, 4, 4), address=ADDRESS, received=received(0, complete=False)
        )
        assert (4, None, ()) == (
            decision.account.missing,
            decision.account.suspected_at,
            decision.statements,
        )
        account = decision.account
    decision = decide(account, sample(205, 4, 4), address=ADDRESS, received=received(0, 4))
    assert () == decision.statements
    decision = decide(decision.account, sample(210, 4, 4), address=ADDRESS, received=received(4))
    assert ["nothing_lost"] == [each.state for each in decision.statements]


@dataclass
class World:
    """A registry whose losses are known: by instant of the event, when it was lost."""

    now: float = 0
    process: int = 1
    made: list[float] = field(default_factory=list)
    delivered: int = 0
    accepted: int = 0
    held: int = 0
    arrived: bool = False
    lost: list[float] = field(default_factory=list)

    def push(self) -> None:
        self.made.append(self.now)

    def deliver(self) -> None:
        if self.delivered < len(self.made):
            self.delivered += 1
            self.accepted += 1
            self.held += not self.arrived
            self.arrived = False

    def arrive(self) -> None:
        """The next event is here, and its answer still on the way."""
        if self.delivered < len(self.made) and not self.arrived:
            self.arrived = True
            self.held += 1

    def redirect(self) -> None:
        if self.delivered < len(self.made) and not self.arrived:
            self.lost.append(self.made[self.delivered])
            self.delivered += 1

    def stranger(self) -> None:
        if self.delivered < len(self.made) and not self.arrived:
            self.lost.append(self.made[self.delivered])
            self.delivered += 1
            self.accepted += 1

    def restart(self) -> None:
        self.lost += self.made[self.delivered + self.arrived :]
        self.arrived = False
        self.made, self.delivered, self.accepted, self.held = [], 0, 0, 0
        self.process += 1

    def sample(self) -> Sample:
        mark = ProcessMark(collections=1, collected_at=frozenset({self.process}))
        return sample(self.now, len(self.made), self.delivered, accepted=self.accepted, process=mark)


STEPS = (
    *("push",) * 6,
    *("deliver",) * 3,
    *("read",) * 4,
    *("read late", "read late", "wait", "wait"),
    *("redirect", "stranger", "read lagging", "restart", "arrive", "arrive"),
)
"""As often as it takes for an account to live long enough to be wrong."""


@settings(max_examples=examples(1500), deadline=None)
@given(st.lists(st.sampled_from(STEPS), min_size=10, max_size=60), st.booleans())
def test_claims__never_false(steps: Sequence[str], linked: bool) -> None:
    """Whatever happens: no event made in an interval that lost nothing is lost, and no more than *at most*."""
    world, account, claims = World(), None, list[LossStatement]()
    for step in [*steps, "read", "wait", "read", "read"]:
        world.now += 90 if step == "wait" else 1
        if not step.startswith("read"):
            if step != "wait":
                getattr(world, step)()
            continue
        before = world.held
        if step == "read late":
            world.deliver()
        found = world.sample()
        if step == "read late":
            for _ in range(3):
                world.deliver()
        ours = received(before, world.held, complete=step != "read lagging") if linked else None
        decision = decide(account, found, address=ADDRESS, received=ours)
        account = replace(decision.account, id=1)
        claims += decision.statements
    for claim in claims:
        gone = sum(claim.from_at < START + timedelta(seconds=at) < claim.to_at for at in world.lost)
        match claim.state:
            case LossState.NOTHING_LOST:
                assert 0 == gone
            case LossState.AT_MOST:
                assert gone <= (claim.lost or 0)
            case LossState.UNKNOWN:
                assert claim.because
    assert all(before.to_at <= after.from_at for before, after in pairwise(claims))

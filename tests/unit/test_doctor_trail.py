"""The doctor follows its canary from the push to the news of its deletion."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from indexer.common.errors import (
    RegistryDenied,
    RegistryUnavailable,
)
from indexer.store.canary import Arrived
from reconciler.doctor.canary import read_events
from reconciler.doctor.chain import _why_idle_one, judge_push, judge_trail
from reconciler.doctor.facts import (
    CanaryEvents,
    Failure,
    ListingFact,
    LoopState,
)
from reconciler.doctor.report import Link, LinkOutcome
from reconciler.registry.answers import Deletion
from tests.fixtures.examined import (
    ARRIVED,
    CANARY,
    NOTHING,
    NOW,
    RECORDED,
    TOKEN,
    VERIFIED,
    answer,
    broken,
    first_cause,
    loop,
    trail,
)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RegistryDenied("405 read-only"), "read-only"),
        (RegistryUnavailable("500"), "cannot store"),
    ],
)
def test_push__refused(error: RegistryDenied | RegistryUnavailable, cause: str) -> None:
    """A push that is refused ends the canary's way before it began."""
    first, *rest = judge_push(Failure.of(error))
    assert (Link.PUSHED, LinkOutcome.FAILED) == (first.link, first.outcome)
    assert cause in first_cause(first)
    assert {LinkOutcome.SKIPPED} == {check.outcome for check in rest}


def test_trail__came_through() -> None:
    """A canary that came all the way leaves every link whole."""
    checks = judge_trail(trail(), token=TOKEN)
    assert {LinkOutcome.OK} == {check.outcome for check in checks}
    assert [
        Link.PUSHED,
        Link.NOTIFIED,
        Link.APPLIED,
        Link.VERIFIED,
        Link.READ,
        Link.LISTED,
        Link.REMOVED,
        Link.DELETION,
    ] == [check.link for check in checks]


@pytest.mark.parametrize(
    ("changes", "link", "cause"),
    [
        pytest.param(
            {"events": replace(ARRIVED, applied=False, quarantined="odd"), "inventory": NOTHING},
            Link.APPLIED,
            "could not be decoded",
            id="quarantined",
        ),
        pytest.param({"inventory": NOTHING}, Link.APPLIED, "moved or deleted", id="applied-and-gone"),
        pytest.param(
            {"events": replace(ARRIVED, applied=False), "inventory": NOTHING},
            Link.APPLIED,
            "no `indexer serve` has ever run",
            id="no-worker-ever",
        ),
        pytest.param(
            {
                "events": replace(ARRIVED, applied=False),
                "inventory": NOTHING,
                "surroundings": loop("ingest", age=40),
            },
            Link.APPLIED,
            "not running, or hangs",
            id="worker-stopped",
        ),
        pytest.param(
            {
                "events": replace(ARRIVED, applied=False),
                "inventory": NOTHING,
                "surroundings": loop("ingest", outcome="failed", age=40, error="disk full"),
            },
            Link.APPLIED,
            "fails: disk full",
            id="worker-fails",
        ),
        pytest.param(
            {"events": replace(ARRIVED, applied=False), "inventory": NOTHING, "surroundings": loop("ingest")},
            Link.APPLIED,
            "has much to do",
            id="worker-busy",
        ),
        pytest.param(
            {"verified": RECORDED}, Link.VERIFIED, "no `reconciler run` has ever run", id="no-reconciler-ever"
        ),
        pytest.param(
            {"verified": RECORDED, "surroundings": loop("verify", age=3600)},
            Link.VERIFIED,
            "`reconciler run` is not running",
            id="reconciler-stopped",
        ),
        pytest.param(
            {
                "verified": RECORDED,
                "surroundings": loop("verify", outcome="failed", error="RegistryUnavailable: refused"),
            },
            Link.VERIFIED,
            "fails: RegistryUnavailable",
            id="reconciler-cannot-reach-the-registry",
        ),
        pytest.param(
            {"verified": replace(RECORDED, last_observation="absent"), "surroundings": loop("verify")},
            Link.VERIFIED,
            "another registry",
            id="reconciler-of-another-registry",
        ),
        pytest.param(
            {"verified": replace(RECORDED, failed_observations=2), "surroundings": loop("verify")},
            Link.VERIFIED,
            "as another user",
            id="looks-denied",
        ),
        pytest.param(
            {"read": VERIFIED, "surroundings": loop("resolve", age=100)},
            Link.READ,
            "not running",
            id="nobody-reads",
        ),
        pytest.param(
            {"read": replace(VERIFIED, content="unreadable")}, Link.READ, "changes content", id="unreadable"
        ),
        pytest.param(
            {"read": replace(VERIFIED, content="partly-read")}, Link.READ, "changes content", id="partly-read"
        ),
        pytest.param(
            {"listing": ListingFact(by_store=False)}, Link.LISTED, "a bug of the indexer", id="not-in-store"
        ),
        pytest.param(
            {"listing": ListingFact(by_store=True, api=answer(401))},
            Link.LISTED,
            "other INDEXER_API_TOKENS",
            id="api-refuses",
        ),
        pytest.param(
            {"listing": ListingFact(by_store=True, api=answer(200))},
            Link.LISTED,
            "another database",
            id="api-of-another-database",
        ),
        pytest.param(
            {"listing": ListingFact(by_store=True, api=answer(500))}, Link.LISTED, "failed", id="api-fails"
        ),
        pytest.param({"events_after_removal": ARRIVED}, Link.DELETION, "drops deletes", id="deletes-ignored"),
        pytest.param(
            {"gone": False, "surroundings": loop("ingest", age=50)},
            Link.DELETION,
            "not running, or hangs",
            id="deletion-not-applied",
        ),
    ],
)
def test_trail__broken(changes: dict[str, object], link: Link, cause: str) -> None:
    """Each link can break alone; what comes after it is skipped, and the likeliest cause is named."""
    checks = judge_trail(trail(**changes), token=TOKEN)
    check = broken(checks)
    assert check is not None
    assert (link, True) == (check.link, cause in first_cause(check))
    order = list(Link)
    between = [c for c in checks if order.index(link) < order.index(c.link) < order.index(Link.REMOVED)]
    assert {LinkOutcome.SKIPPED} >= {check.outcome for check in between}


@pytest.mark.parametrize(
    ("removal", "outcome"),
    [
        (Deletion.UNSUPPORTED, LinkOutcome.WARNING),
        (Deletion.ABSENT, LinkOutcome.WARNING),
        (Failure.of(RegistryDenied("403")), LinkOutcome.WARNING),
    ],
)
def test_trail__not_removed(removal: Deletion | Failure, outcome: LinkOutcome) -> None:
    """A canary that stays is a warning, and no news of its deletion is waited for."""
    checks = {check.link: check for check in judge_trail(trail(removal=removal), token=TOKEN)}
    assert (outcome, LinkOutcome.SKIPPED) == (checks[Link.REMOVED].outcome, checks[Link.DELETION].outcome)


def test_idle__of_a_process_that_was_ended() -> None:
    """A loop that was stopped by a signal is not called one that hangs."""
    ended = LoopState(
        loop="verify", process="reconciler run a:1", outcome="ended", age_seconds=3, last_error=None
    )
    cause = _why_idle_one(ended, "verify", program="reconciler run")
    assert "was stopped 3 s ago" in cause.likely


def delivery(*events: dict[str, object], done: bool = True, reason: str | None = None) -> Arrived:
    return Arrived(
        received_at=NOW + timedelta(seconds=1),
        done_at=NOW + timedelta(seconds=1) if done else None,
        body=json.dumps({"events": events}).encode(),
        reason=reason,
    )


def event(action: str, *, repository: str = "probe", tag: str = "canary-1") -> dict[str, object]:
    return {"action": action, "target": {"repository": repository, "tag": tag}}


@pytest.mark.parametrize(
    ("arrived", "news"),
    [
        ([], CanaryEvents()),
        ([delivery(event("push"))], CanaryEvents(push_seconds=1, applied=True)),
        ([delivery(event("push"), done=False)], CanaryEvents(push_seconds=1)),
        ([delivery(event("push"), event("delete"))], CanaryEvents(push_seconds=1, applied=True, delete=True)),
        ([delivery(event("delete"))], CanaryEvents(delete=True)),
        ([delivery(event("pull"))], CanaryEvents()),
        ([delivery(event("push", repository="another"))], CanaryEvents()),
        (
            [delivery(event("push"), reason="odd")],
            CanaryEvents(push_seconds=1, applied=True, quarantined="odd"),
        ),
        ([replace(delivery(), body=b"canary-1")], CanaryEvents()),
        ([replace(delivery(), body=b'["canary-1"]')], CanaryEvents()),
        ([replace(delivery(), body=b'{"events": [1, {"target": "canary-1"}]}')], CanaryEvents()),
    ],
)
def test_news__of_the_canary(arrived: list[Arrived], news: CanaryEvents) -> None:
    """Only events about the canary's own tag count, whatever else mentions it."""
    assert news == read_events(CANARY, arrived)

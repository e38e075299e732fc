"""What a plan may do, and when: modes, approvals, windows, the pending period, the brake."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from indexer.policies.cleanup import differing_share, plan_id
from indexer.policies.facts import Coverage
from indexer.policies.grammar import parse_window
from indexer.policies.intervals import before
from indexer.policies.limits import Limit, braked, holds_repository
from indexer.policies.plans import (
    Approval,
    InForce,
    Plan,
    Planned,
    Refusal,
    approval_ends_at,
    cancelled,
    due_at,
    refusal,
)
from indexer.policies.rules import Brake, Mode, Policy, Run, Undo
from tests.fixtures.cleanup import NOW, ago, d, days, evaluated, pull, repository, tag

BYTES, OTHER = "a" * 64, "b" * 64
PLAN = Plan(id="p1", policies_sha256=BYTES, made_at=ago(8))
IN_FORCE = InForce(policies_sha256=BYTES, since=ago(30))
WEEKEND = parse_window("Sat,Sun 00:00-24:00Z")  # NOW is a Sunday
WEEK = parse_window("Mon-Fri 00:00-24:00Z")


def approved(when: float, plan: str = "p1", made_with: str = BYTES) -> Approval:
    return Approval(plan_id=plan, policies_sha256=made_with, at=ago(when))


def asked(
    mode: Mode, *approvals: Approval, plan: Plan = PLAN, in_force: InForce = IN_FORCE, **more: Any
) -> object:
    return refusal(Policy(id="a", mode=mode, **more), plan, approvals, in_force, NOW)


LIMIT = (Limit("tags", 5, 1),)
CASES: list[tuple[object, object]] = [
    (Refusal.PREVIEW, asked(Mode.PREVIEW, approved(1))),
    (Refusal.NOT_APPROVED, asked(Mode.PROPOSE)),
    (Refusal.NOT_APPROVED, asked(Mode.PROPOSE, approved(1, "p0"))),
    (None, asked(Mode.PROPOSE, approved(1))),
    (None, asked(Mode.PROPOSE, approved(8))),
    (Refusal.APPROVAL_ENDED, asked(Mode.PROPOSE, approved(8), plan=replace(PLAN, made_at=ago(15)))),
    (Refusal.CHANGED, asked(Mode.PROPOSE, approved(1), in_force=replace(IN_FORCE, policies_sha256=OTHER))),
    (Refusal.CHANGED, asked(Mode.PROPOSE, approved(1), in_force=replace(IN_FORCE, since=ago(2)))),
    (Refusal.NOT_APPROVED, asked(Mode.ENFORCE)),
    (None, asked(Mode.ENFORCE, approved(20, "p0"))),
    (Refusal.NOT_APPROVED, asked(Mode.ENFORCE, approved(20, "p0", OTHER))),
    (
        Refusal.NOT_APPROVED,
        asked(Mode.ENFORCE, approved(40, "p0")),
    ),  # under these bytes, and before they came back
    (Refusal.BRAKE, asked(Mode.ENFORCE, approved(1), plan=replace(PLAN, brake=LIMIT))),
    (Refusal.BRAKE, asked(Mode.PROPOSE, approved(1), plan=replace(PLAN, brake=LIMIT))),
    (Refusal.WEAK_EVIDENCE, asked(Mode.ENFORCE, approved(1), plan=replace(PLAN, weak_share=0.02))),
    (None, asked(Mode.ENFORCE, approved(1), plan=replace(PLAN, weak_share=0.01))),
    (None, asked(Mode.PROPOSE, approved(1), plan=replace(PLAN, weak_share=0.02))),  # a person saw the figure
    (Refusal.BLOCKED, asked(Mode.ENFORCE, approved(1), in_force=replace(IN_FORCE, blocked=[WEEKEND]))),
    (None, asked(Mode.ENFORCE, approved(1), in_force=replace(IN_FORCE, blocked=[WEEK]))),
    (Refusal.OUTSIDE_WINDOW, asked(Mode.ENFORCE, approved(1), run=Run(window=WEEK))),
    (None, asked(Mode.ENFORCE, approved(1), run=Run(window=WEEKEND))),
]


@pytest.mark.parametrize(("expected", "found"), CASES)
def test_refusal__says_why_nothing_is_done(expected: object, found: object) -> None:
    """A plan acts only in its mode, under the bytes it was made with, approved, below the brake, and in its time."""
    assert expected == found


ENDS = [
    # pending, approved so many days after the plan was made, ends so many days after that
    (7, 0, 14),
    (7, 10, 17),
    (0, 0, 7),
    (0, 3, 10),
    (30, 1, 60),
]


@pytest.mark.parametrize(("pending", "approved_after", "ends_after"), ENDS)
def test_approval__ends(pending: int, approved_after: int, ends_after: int) -> None:
    """An approval holds 7 days, or the pending period, from when what it allows is due; what never was due, too."""
    policy = Policy(id="a", undo=Undo(pending=days(pending)))
    ends = approval_ends_at(policy, PLAN, PLAN.made_at + days(approved_after))
    assert PLAN.made_at + days(ends_after) == ends


BRAKES = [
    (Brake(), 500, 10_000, 0, set()),
    (Brake(), 501, 10_000, 0, {"tags"}),
    (Brake(), 10, 100, 0, set()),
    (Brake(), 11, 100, 0, {"share"}),
    (Brake(), 1, 1, 0, {"share"}),
    (Brake(), 0, 0, 0, set()),
    (Brake(bytes=100), 1, 100, 101, {"bytes"}),
    (Brake(bytes=100), 1, 100, 100, set()),
    (Brake(tags=0), 1, 100, 0, {"tags"}),
    (Brake(share=0.0), 1, 100, 0, {"share"}),
]


@pytest.mark.parametrize(("brake", "deleted", "tags", "freed", "expected"), BRAKES)
def test_brake__is_of_the_whole_plan(
    brake: Brake, deleted: int, tags: int, freed: int, expected: set[str]
) -> None:
    """Each limit alone stops the plan; at the limit it goes."""
    limits = braked(brake, deleted=deleted, tags=tags, freed_bytes=freed)
    assert expected == {each.name for each in limits}
    assert all("are allowed (brake." in each.text for each in limits)


@pytest.mark.parametrize(
    ("deleted", "tags", "expected"),
    [(9, 9, False), (10, 10, True), (10, 20, False), (11, 20, True), (10, 1000, False)],
)
def test_repository_share__from_ten_deletions_up(deleted: int, tags: int, expected: bool) -> None:
    """A repository is held for a share of its tags that is too large, and not for a handful."""
    assert expected == holds_repository(Brake(), deleted=deleted, tags=tags)


POLICY = (
    "mode: enforce\nkeep: [{id: used, pulled: {within: 30d}}]\n"
    "delete: [{id: pr, tags: {glob: ['pr-*']}, older: {pushed: 14d}}]"
)
STAYS = tag("main", "M", 1)


def planned(name: str, digest: str, when: float = 3) -> Planned:
    return Planned("team/app", name, d(digest), ago(when))


def what_became(*tags: Any, pulls: Any = ()) -> list[tuple[str, bool]]:
    found = evaluated(POLICY, repository([*tags, STAYS], pulls=pulls))
    asked_for = [planned("pr-1", "D")]
    return [
        (each.planned.tag or "", each.near_miss) for each in cancelled(asked_for, found.evaluation.verdicts)
    ]


def test_pending__is_cancelled_by_use() -> None:
    """What is pulled, pushed or moved while it waits stays, and counts as a near miss; what is gone is no miss."""
    assert [] == what_became(tag("pr-1", "D", 20))
    assert [("pr-1", True)] == what_became(tag("pr-1", "D", 20), pulls=[pull("D", 1)])
    assert [("pr-1", True)] == what_became(tag("pr-1", "D", 0.5))
    assert [("pr-1", True)] == what_became(tag("pr-1", "E", 20))
    assert [("pr-1", False)] == what_became()


def test_pending__what_is_held_stays_planned() -> None:
    """A hold of what is not known neither cancels nor deletes."""
    found = evaluated(POLICY, repository([tag("pr-1", "D", 20), STAYS], incomplete="not reconciled"))
    assert [("hold", "hold.incomplete")] == found.said("pr-1")
    assert [] == list(cancelled([planned("pr-1", "D")], found.evaluation.verdicts))


def test_pending__is_due_after_the_first_plan() -> None:
    """The pending period counts from the first plan that named it."""
    assert ago(3) + timedelta(days=7) == due_at(Policy(id="a"), planned("pr-1", "D"))


def test_weak_evidence__is_a_share_of_the_deletions() -> None:
    """How many deletions would be others if every interval were a point is known before anything is enforced."""
    weak = [tag(f"pr-{number}", f"W{number}", before(ago(20))) for number in range(5)]
    certain = [tag(f"pr-{number}", f"C{number}", 20 + number) for number in range(10, 15)]
    policy = "delete: [{id: pr, tags: {glob: ['pr-*']}, older: {pushed: 14d}, not_pulled: {for: 60d}}]"
    facts = repository([*weak, *certain, STAYS])
    lately = Coverage(pulls_since=ago(30))
    found = evaluated(policy, facts, coverage=lately).evaluation
    points = evaluated(policy, facts, coverage=lately, points=True).evaluation
    assert 0.0 == differing_share(found.verdicts, found.verdicts)
    assert 0.0 == differing_share(points.verdicts, points.verdicts)
    assert (0, 0) == (found.counts["delete"], points.counts["delete"])  # type: ignore[index]  # not pushed for 60 days
    old = [replace(each, pushed=before(ago(80))) for each in weak]
    facts = repository([*old, STAYS])
    found = evaluated(policy, facts, coverage=lately).evaluation
    points = evaluated(policy, facts, coverage=lately, points=True).evaluation
    assert 1.0 == differing_share(found.verdicts, points.verdicts)


def test_plan_id__names_what_it_was_made_of() -> None:
    """Equal parts give an equal name, any other part another."""
    parts: dict[str, Any] = {"position": 7, "now": NOW}
    first = plan_id(BYTES, "a", **parts)
    assert first == plan_id(BYTES, "a", **parts)
    others = [
        plan_id(OTHER, "a", **parts),
        plan_id(BYTES, "b", **parts),
        plan_id(BYTES, "a", position=8, now=NOW),
        plan_id(BYTES, "a", position=7, now=NOW + timedelta(microseconds=1)),
    ]
    assert 5 == len({first, *others})
    assert isinstance(NOW, datetime)

"""What a plan may do, and when: modes, approval, the pending period, windows; and what became of what was planned.

- ``preview`` never acts. ``propose`` acts on a plan that was approved itself. ``enforce`` acts on every plan once one
  was approved that was made under the bytes of the file that are in force, since they came into force. A change of the
  file ends that, a change back too.
- What a plan names first is due ``undo.pending`` later. It is cancelled if a later evaluation does not say the same.
- An approval of a plan ends when the plan has been due for 7 days, or for ``pending`` if that is longer.
- Nothing acts in a blocked window, or outside the policy's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import NamedTuple

from indexer.policies.grammar import Window
from indexer.policies.limits import Limit
from indexer.policies.rules import Mode, Policy
from indexer.policies.verdicts import Decision, Reason, Verdict

SHORTEST_APPROVAL = timedelta(days=7)
MOST_ON_WEAK_EVIDENCE = 0.01
"""``enforce`` waits while more than this share of the deletions would be others if every interval were a point."""


@unique
class Refusal(StrEnum):
    """Why nothing is done now."""

    PREVIEW = "preview"
    CHANGED = "policy_changed"
    NOT_APPROVED = "not_approved"
    APPROVAL_ENDED = "approval_ended"
    BRAKE = "blocked.brake"
    WEAK_EVIDENCE = "weak_evidence"
    BLOCKED = "blocked_window"
    OUTSIDE_WINDOW = "outside_window"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan as it is on record. ``policies_sha256``: of the bytes it was made with; ``brake``: what it is beyond.

    ``weak_share``: see ``cleanup.differing_share``.
    """

    id: str
    policies_sha256: str
    made_at: datetime
    brake: Sequence[Limit] = ()
    weak_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """That somebody approved a plan. ``policies_sha256``: of the bytes that plan was made with."""

    plan_id: str
    policies_sha256: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The bytes of the file that are in force, and since when."""

    policies_sha256: str
    since: datetime
    blocked: Sequence[Window] = ()


def refusal(
    policy: Policy, plan: Plan, approvals: Iterable[Approval], in_force: InForce, now: datetime
) -> Refusal | None:
    """Return why a plan may not be carried out now, None if it may; what it names may have to wait (``due_at``)."""
    window = policy.run.window
    weak = policy.mode is Mode.ENFORCE and plan.weak_share > MOST_ON_WEAK_EVIDENCE
    changed = plan.policies_sha256 != in_force.policies_sha256 or plan.made_at < in_force.since
    answers = (
        (policy.mode is Mode.PREVIEW, Refusal.PREVIEW),
        (changed, Refusal.CHANGED),
        (bool(plan.brake), Refusal.BRAKE),
        (True, _unapproved(policy, plan, approvals, in_force, now)),
        (weak, Refusal.WEAK_EVIDENCE),
        (any(blocked.contains(now) for blocked in in_force.blocked), Refusal.BLOCKED),
        (window is not None and not window.contains(now), Refusal.OUTSIDE_WINDOW),
    )
    return next((answer for applies, answer in answers if applies and answer is not None), None)


def _unapproved(
    policy: Policy, plan: Plan, approvals: Iterable[Approval], in_force: InForce, now: datetime
) -> Refusal | None:
    if policy.mode is Mode.ENFORCE:
        valid = any(
            each.policies_sha256 == in_force.policies_sha256 and each.at >= in_force.since
            for each in approvals
        )
        return None if valid else Refusal.NOT_APPROVED
    own = [each.at for each in approvals if each.plan_id == plan.id]
    if not own:
        return Refusal.NOT_APPROVED
    return Refusal.APPROVAL_ENDED if now > approval_ends_at(policy, plan, max(own)) else None


def approval_ends_at(policy: Policy, plan: Plan, approved_at: datetime) -> datetime:
    """Return until when an approval of a plan holds: 7 days or ``pending`` after the plan is due, or was approved."""
    pending = policy.undo.pending
    return max(approved_at, plan.made_at + pending) + max(pending, SHORTEST_APPROVAL)


class Planned(NamedTuple):
    """What was planned for a tag or manifest: when first, and what it pointed to then."""

    repository: str
    tag: str | None
    digest: str
    first_at: datetime


def due_at(policy: Policy, planned: Planned) -> datetime:
    """Return when something that was planned may be done."""
    return planned.first_at + policy.undo.pending


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Something planned that is not to go any more. ``near_miss``: it was used, pushed or moved while it waited."""

    planned: Planned
    verdict: Verdict | None
    near_miss: bool


_NEAR_MISSES = frozenset(
    {Reason.KEEP_PULLED, Reason.GRACE_PUSHED, Reason.GRACE_MOVED, Reason.KEEP_PUSHED, Reason.PROTECT_IN_USE}
)


def cancelled(planned: Iterable[Planned], verdicts: Iterable[Verdict]) -> Iterator[Cancelled]:
    """Yield what was planned and a later evaluation does not delete, or now finds at another digest.

    What an evaluation holds stays planned: it is not known any more, and not known to be wanted.
    """
    now_said: Mapping[tuple[str, str | None, str | None], Verdict] = {
        (each.repository, each.tag, each.digest if each.tag is None else None): each for each in verdicts
    }
    for each in planned:
        key = (each.repository, each.tag, each.digest if each.tag is None else None)
        verdict = now_said.get(key)
        moved = verdict is not None and verdict.digest != each.digest
        if verdict is None:
            yield Cancelled(each, None, near_miss=False)
        elif verdict.decision is Decision.KEEP or moved:
            yield Cancelled(
                each, verdict, near_miss=moved or verdict.reason in _NEAR_MISSES or _used(each, verdict)
            )


def _used(planned: Planned, verdict: Verdict) -> bool:
    """Tell whether something was pulled after it was planned."""
    return (
        verdict.use is not None and verdict.use.seen_at is not None and verdict.use.seen_at > planned.first_at
    )

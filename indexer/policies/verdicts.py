"""What a policy says of one tag or manifest, and why: the result of an evaluation."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum, unique
from typing import Any, NamedTuple

from indexer.policies.facts import ManifestFacts, TagFacts
from indexer.policies.uses import LastUse


@unique
class Decision(StrEnum):
    """What is to become of it. HOLD: it would go, and something that is not known holds it."""

    KEEP = "keep"
    DELETE = "delete"
    HOLD = "hold"


@unique
class Reason(StrEnum):
    """Stable codes of reasons. A deletion by a rule is ``delete.<id of the rule>``, which is not listed."""

    PROTECT_NAME = "protect.name"
    PROTECT_IMMUTABLE = "protect.immutable"
    PROTECT_IN_USE = "protect.in_use"
    PROTECT_HOLD = "protect.hold"
    GRACE_PUSHED = "grace.pushed"
    GRACE_MOVED = "grace.moved"
    GRACE_RESTORED = "grace.restored"
    GRACE_UNDO = "grace.undo"
    KEEP_NAME = "keep.name"
    KEEP_NEWEST = "keep.newest"
    KEEP_SEMVER = "keep.semver"
    KEEP_PULLED = "keep.pulled"
    KEEP_PUSHED = "keep.pushed"
    KEEP_PREVIOUS = "keep.previous"
    KEEP_WAS_TAGGED = "keep.was_tagged"
    KEEP_NEVER_EMPTY = "keep.never_empty"
    KEEP_BUDGET = "keep.budget"
    KEEP_NOT_DUE = "keep.not_due"
    KEEP_UNKNOWN_TIME = "keep.unknown_time"
    KEEP_UNKNOWN_COVERAGE = "keep.unknown_coverage"
    KEEP_NO_DELETE_RULE = "keep.no_delete_rule"
    LIVE_CHILD_OF = "live.child_of"
    LIVE_REFERRER_OF = "live.referrer_of"
    LIVE_SUBJECT_OF = "live.subject_of"
    LIVE_TAGGED = "live.tagged"
    LIVE_HISTORY = "live.history"
    DELETE_UNTAGGED = "delete.untagged"
    DELETE_ORPHAN_REFERRER = "delete.orphan_referrer"
    DELETE_TTL = "delete.ttl"
    HOLD_UNVERIFIED = "hold.unverified"
    HOLD_INCOMPLETE = "hold.incomplete"
    HOLD_UNREADABLE = "hold.unreadable"
    HOLD_REPOSITORY_SHARE = "hold.repository_share"


class Hit(NamedTuple):
    """One answer of the policy. ``until``: when it ends if nothing changes, None: never. ``detail``: for the text."""

    reason: str
    rule: str | None = None
    until: datetime | None = None
    detail: tuple[Any, ...] = ()


class Verdict(NamedTuple):
    """What becomes of a tag, or (``tag`` None) of a manifest.

    ``hit`` is the reason, ``also`` every other answer that says the same. ``expires_at``: the earliest instant at which
    it would go if nothing changes; None: never, or not known. ``all_tags``: of the digest, its own included.
    """

    policy: str
    repository: str
    tag: str | None
    digest: str | None
    decision: Decision
    hit: Hit
    also: tuple[Hit, ...] = ()
    expires_at: datetime | None = None
    all_tags: tuple[str, ...] = ()
    facts: TagFacts | ManifestFacts | None = None
    use: LastUse | None = None
    alarms: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The code."""
        return self.hit.reason

    @property
    def rule(self) -> str | None:
        """The id of the rule that decided, where one did."""
        return self.hit.rule

    @property
    def siblings(self) -> tuple[str, ...]:
        """The other tags of the digest."""
        return tuple(tag for tag in self.all_tags if tag != self.tag)

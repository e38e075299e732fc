"""Replay: what a policy would have deleted day by day, and which of it was wanted later. Pure.

Each day is evaluated with what was known then. A tag that a day's evaluation deletes is planned; it counts as deleted
when every evaluation has deleted it for ``undo.pending``. From then on it is gone for the days that follow. Pulls by
its name, a push of the same digest under it and a restore after that are what would have been missed; so are pulls of
its digest, once the manifest would have been unlinked and no other tag pointed to it.

Holds and what was in use are not on record for past days: a replay is without them, and finds more to regret, not less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum, unique
from typing import NamedTuple

from indexer.inventory.records import TimeSource
from indexer.policies.cleanup import Evaluator
from indexer.policies.facts import (
    Coverage,
    Gap,
    ManifestFacts,
    Past,
    Pull,
    RepositoryFacts,
    Snapshot,
    TagFacts,
)
from indexer.policies.intervals import LONG_AGO, Between, exactly
from indexer.policies.rules import Policy
from indexer.policies.verdicts import Decision


class PastTag(NamedTuple):
    """A tag pointed to a digest from ``since`` until ``until`` (None: it still does)."""

    name: str
    digest: str
    since: Between
    until: datetime | None = None


class PastUse(NamedTuple):
    """A client pulled or checked a manifest. ``tag``: as it named it."""

    digest: str
    at: datetime
    tag: str | None = None
    actor: str | None = None
    address: str | None = None
    times: int = 1


class PastPush(NamedTuple):
    """A tag was pushed, or restored."""

    name: str
    digest: str
    at: datetime
    restored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PastManifest:
    """A manifest as it is known now; ``gone_at``: when the repository lost it."""

    facts: ManifestFacts
    gone_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryPast:
    """A repository over time. ``uses`` and ``pushes`` are in the order of time."""

    name: str
    tags: Sequence[PastTag] = ()
    manifests: Sequence[PastManifest] = ()
    uses: Sequence[PastUse] = ()
    pushes: Sequence[PastPush] = ()


@unique
class Missed(StrEnum):
    """How something that would have been deleted was wanted later."""

    PULLED = "pulled"
    PUSHED_AGAIN = "pushed_again"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A tag that would have been deleted, and how and when it was wanted first after that (None: it was not)."""

    repository: str
    tag: str
    digest: str
    at: datetime
    rule: str | None
    missed: Missed | None = None
    missed_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Day:
    """What one day came to, over all repositories. ``known``: pulls before and after it are."""

    at: datetime
    known: bool
    tags: int = 0
    nominated: int = 0
    deleted: int = 0


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What a replay came to."""

    days: list[Day] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)


def is_known(coverage: Coverage, at: datetime) -> bool:
    """Tell whether pulls were received at an instant."""
    if coverage.pulls_since is None or at < coverage.pulls_since:
        return False
    return not any(gap.from_at <= at and (gap.to_at is None or at < gap.to_at) for gap in coverage.gaps)


def coverage_as_of(coverage: Coverage, at: datetime) -> Coverage:
    """Return what was known of pulls then: later gaps had not begun, one under way was open."""
    since = coverage.pulls_since
    gaps = [
        Gap(gap.from_at, None if gap.to_at is None or gap.to_at > at else gap.to_at, gap.because)
        for gap in coverage.gaps
        if gap.from_at <= at
    ]
    return Coverage(pulls_since=None if since is None or since > at else since, gaps=gaps)


def as_of(past: RepositoryPast, at: datetime, gone: frozenset[PastTag] = frozenset()) -> RepositoryFacts:
    """Return a repository as it was known at an instant, without the tags that were deleted in a replay."""
    ended: dict[str, list[PastTag]] = defaultdict(list)
    current: list[PastTag] = []
    for each in past.tags:
        if each.since.latest > at or each in gone:
            continue
        if each.until is None or each.until > at:
            current.append(each)
        else:
            ended[each.name].append(each)
    pushed = {(each.name, each.digest): each.at for each in past.pushes if each.at <= at}
    tags = [_tag(each, pushed, ended) for each in current]
    return RepositoryFacts(
        name=past.name,
        tags=tags,
        manifests=list(_manifests(past, at, {each.digest for each in current}, ended)),
        pulls=_pulls(past.uses, at),
        history={
            name: [Past(each.digest, exactly(each.until)) for each in intervals if each.until is not None]
            for name, intervals in ended.items()
        },
        gone={
            each.facts.digest: exactly(each.gone_at)
            for each in past.manifests
            if each.gone_at is not None and each.gone_at <= at
        },
    )


def _tag(
    tag: PastTag, pushed: Mapping[tuple[str, str], datetime], ended: Mapping[str, Sequence[PastTag]]
) -> TagFacts:
    last = pushed.get((tag.name, tag.digest))
    before = [each for each in ended.get(tag.name, ()) if each.digest != tag.digest]
    return TagFacts(
        name=tag.name,
        digest=tag.digest,
        pushed=exactly(last) if last is not None and last > tag.since.latest else tag.since,
        moved=tag.since if before else None,
    )


def _manifests(
    past: RepositoryPast, at: datetime, tagged: set[str], ended: Mapping[str, Sequence[PastTag]]
) -> Iterator[ManifestFacts]:
    bared: dict[str, datetime] = {}
    had: dict[str, set[str]] = defaultdict(set)
    for name, intervals in ended.items():
        for each in intervals:
            had[each.digest].add(name)
            if each.until is not None:
                bared[each.digest] = max(each.until, bared.get(each.digest, each.until))
    here = _with_children(past, tagged)
    for manifest in past.manifests:
        facts = manifest.facts
        if manifest.gone_at is not None and manifest.gone_at <= at:
            continue
        if facts.pushed.latest > at:
            if facts.digest not in here:
                continue
            facts = replace(facts, pushed=Between(LONG_AGO, at, TimeSource.FIRST_SEEN))
        since = bared.get(facts.digest)
        untagged = None if facts.digest in tagged or since is None else exactly(since)
        yield replace(facts, untagged=untagged, was_tagged=tuple(sorted(had.get(facts.digest, ()))))


def _with_children(past: RepositoryPast, tagged: set[str]) -> set[str]:
    """Return what tags pointed to, with children at any depth: it was there, though it was pushed again since."""
    children = {each.facts.digest: each.facts.children for each in past.manifests}
    found, left = set(tagged), list(tagged)
    while left:
        fresh = [child for child in children.get(left.pop(), ()) if child not in found]
        found.update(fresh)
        left += fresh
    return found


def _pulls(uses: Iterable[PastUse], at: datetime) -> list[Pull]:
    found: dict[tuple[str, str | None, str | None, str | None], Pull] = {}
    for each in uses:
        if each.at > at:
            break
        key = (each.digest, each.tag, each.actor, each.address)
        times = each.times + (found[key].times if key in found else 0)
        found[key] = Pull(each.digest, each.at, times, each.tag, each.actor, each.address)
    return list(found.values())


def replay(
    past: RepositoryPast, policy: Policy, coverage: Coverage, days: Sequence[Day]
) -> Iterator[Deletion]:
    """Yield what would have been deleted in one repository; adds to ``days``, which are in order.

    A policy with a budget weighs repositories against each other, and cannot be replayed for one.
    """
    gone: set[PastTag] = set()
    planned: dict[PastTag, datetime] = {}
    for day in days:
        facts = as_of(past, day.at, frozenset(gone))
        if not facts.tags:
            planned = {}
            continue
        snapshot = Snapshot(repositories=(), coverage=coverage_as_of(coverage, day.at))
        verdicts = Evaluator(snapshot, policy, now=day.at).add(facts)
        rules = {each.tag: each.rule for each in verdicts if each.tag and each.decision is Decision.DELETE}
        intervals = {each.name: each for each in past.tags if _holds(each, day.at) and each not in gone}
        day.tags += len(facts.tags)
        day.nominated += len(rules)
        planned = {
            intervals[name]: planned.get(intervals[name], day.at) for name in rules if name in intervals
        }
        for tag, first_at in list(planned.items()):
            if day.at - first_at < policy.undo.pending:
                continue
            del planned[tag]
            gone.add(tag)
            day.deleted += 1
            yield _deletion(past, tag, day.at, rules.get(tag.name), policy)


def _holds(tag: PastTag, at: datetime) -> bool:
    return tag.since.latest <= at and (tag.until is None or tag.until > at)


def _deletion(past: RepositoryPast, tag: PastTag, at: datetime, rule: str | None, policy: Policy) -> Deletion:
    unlinked_at = at + policy.undo.unlink_after
    found: list[tuple[datetime, Missed]] = [
        (use.at, Missed.PULLED)
        for use in past.uses
        if use.digest == tag.digest
        and use.at > at
        and (use.tag == tag.name or (use.tag is None and _alone(past, tag, use.at, unlinked_at)))
    ]
    found += [
        (push.at, Missed.RESTORED if push.restored else Missed.PUSHED_AGAIN)
        for push in past.pushes
        if push.name == tag.name and push.digest == tag.digest and push.at > at
    ]
    missed_at, missed = min(found, default=(None, None))
    return Deletion(
        repository=past.name,
        tag=tag.name,
        digest=tag.digest,
        at=at,
        rule=rule,
        missed=missed,
        missed_at=missed_at,
    )


def _alone(past: RepositoryPast, tag: PastTag, at: datetime, unlinked_at: datetime) -> bool:
    """Tell whether the manifest would have been unlinked: no other tag pointed to it."""
    if at < unlinked_at:
        return False
    return not any(each.digest == tag.digest and each != tag and _holds(each, at) for each in past.tags)

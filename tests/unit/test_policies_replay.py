"""Replay: what would have been deleted on which day, and what of it was wanted later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from indexer.policies.facts import Coverage, Gap, ManifestFacts, Past
from indexer.policies.intervals import exactly
from indexer.policies.replay import (
    Day,
    Deletion,
    Missed,
    PastManifest,
    PastPush,
    PastTag,
    PastUse,
    RepositoryPast,
    as_of,
    coverage_as_of,
    is_known,
    replay,
)
from indexer.policies.rules import Policy
from tests.fixtures.cleanup import NOW, ago, d, manifest, policies, without_brake

RULES = 'delete: [{id: old, tags: {glob: ["pr-*"]}, older: {pushed: 30d}, not_pulled: {for: 20d}}]'
UNDO = "\nundo: {pending: 2d, unlink_after: 5d}"
COVERED = Coverage(pulls_since=ago(400))


def policy(rules: str = RULES) -> Policy:
    return without_brake(policies(rules + UNDO).cleanup[0])


def past(
    *tags: PastTag,
    uses: Sequence[PastUse] = (),
    pushes: Sequence[PastPush] = (),
    manifests: Sequence[PastManifest] = (),
) -> RepositoryPast:
    named = {each.facts.digest for each in manifests}
    plain = [
        PastManifest(facts=ManifestFacts(digest=each.digest, pushed=each.since))
        for each in {each.digest: each for each in tags}.values()
        if each.digest not in named
    ]
    return RepositoryPast(
        name="team/app",
        tags=tags,
        manifests=[*manifests, *plain],
        uses=sorted(uses, key=lambda use: use.at),
        pushes=sorted(pushes, key=lambda push: push.at),
    )


def tag(name: str, digest: str, since: float, until: float | None = None) -> PastTag:
    return PastTag(name, d(digest), exactly(ago(since)), None if until is None else ago(until))


def days(first: int = 40, coverage: Coverage = COVERED) -> list[Day]:
    return [Day(at=ago(number), known=is_known(coverage, ago(number))) for number in range(first, -1, -1)]


def replayed(found: RepositoryPast, *, rules: str = RULES) -> list[Deletion]:
    return list(replay(found, policy(rules), COVERED, days()))


def said(deletions: list[Deletion]) -> list[tuple[str, datetime, Missed | None]]:
    return [(each.tag, each.at, each.missed) for each in deletions]


KEPT = tag("v1", "kept", 300)


def test_deleted__when_it_was_planned_for_pending() -> None:
    """A tag is planned on the first day that deletes it, and goes once that has lasted for the pending period."""
    found = past(KEPT, tag("pr-1", "one", 50), tag("pr-2", "two", 3))
    assert [("pr-1", ago(18), None)] == said(replayed(found)), "30 days old 20 days ago, and 2 days pending"


def test_pulled__cancels_what_is_planned_and_is_missed_later() -> None:
    """A pull before it would go keeps it; one after that is what would have been missed."""
    kept = past(KEPT, tag("pr-1", "one", 90), uses=[PastUse(d("one"), ago(39.5), "pr-1")])
    assert [("pr-1", ago(17), None)] == said(replayed(kept)), "20 days after the pull, and pending"
    missed = past(
        KEPT, tag("pr-1", "one", 90), uses=[PastUse(d("one"), ago(10), "pr-1", "ci", "10.0.0.1", 3)]
    )
    (deletion,) = replayed(missed)
    assert (ago(38), Missed.PULLED, ago(10)) == (deletion.at, deletion.missed, deletion.missed_at)


def test_pulled_by_digest__is_missed_once_the_manifest_is_gone() -> None:
    """By digest a manifest is there until unlink_after, and as long as another tag points to it."""
    soon = past(KEPT, tag("pr-1", "one", 90), uses=[PastUse(d("one"), ago(36))])
    assert [None] == [each.missed for each in replayed(soon)]
    late = past(KEPT, tag("pr-1", "one", 90), uses=[PastUse(d("one"), ago(20))])
    assert [Missed.PULLED] == [each.missed for each in replayed(late)]
    other = past(KEPT, tag("pr-1", "one", 90), tag("v2", "one", 60), uses=[PastUse(d("one"), ago(20))])
    assert [None] == [each.missed for each in replayed(other)]


def test_pushed_again__and_restored() -> None:
    """A push of the same digest after it went says that somebody wanted it; another digest does not."""
    for push, expected in (
        (PastPush("pr-1", d("one"), ago(12)), Missed.PUSHED_AGAIN),
        (PastPush("pr-1", d("one"), ago(12), restored=True), Missed.RESTORED),
        (PastPush("pr-1", d("other"), ago(12)), None),
        (PastPush("pr-2", d("one"), ago(12)), None),
    ):
        found = past(KEPT, tag("pr-1", "one", 90), pushes=[push])
        assert [expected] == [each.missed for each in replayed(found)]


def test_gone__is_gone_for_the_days_that_follow() -> None:
    """A tag goes once; one that came back with something else is judged anew."""
    found = past(KEPT, tag("pr-1", "one", 90, 36), tag("pr-1", "two", 36))
    assert [("pr-1", ago(38), None), ("pr-1", ago(4), None)] == said(replayed(found))


def test_days__count_what_is_there_and_what_would_go() -> None:
    """Of each day how many tags there were, how many would go, and how many went."""
    counted = days()
    list(replay(past(KEPT, tag("pr-1", "one", 90)), policy(), COVERED, counted))
    assert [(2, 1, 0), (2, 1, 0), (2, 1, 1), (1, 0, 0)] == [
        (day.tags, day.nominated, day.deleted) for day in counted[:4]
    ]


def test_coverage__of_days_without_pulls_is_unknown() -> None:
    """Before the first day, and in a gap, it is not known; a gap that was not over then was open."""
    coverage = Coverage(pulls_since=ago(30), gaps=[Gap(ago(20), ago(10), "down")])
    assert [False, True, False, True] == [is_known(coverage, ago(at)) for at in (31, 25, 15, 5)]
    assert (None, None) == (
        coverage_as_of(coverage, ago(31)).pulls_since,
        coverage_as_of(coverage, ago(15)).gaps[0].to_at,
    )
    assert [] == list(coverage_as_of(coverage, ago(25)).gaps)
    none = list(replay(past(KEPT, tag("pr-1", "one", 90)), policy(), coverage, days(40, coverage)))
    assert [] == none, "nothing goes as long as it may have been pulled"


def test_as_of__is_what_was_known_then() -> None:
    """Later tags, manifests, pulls and ends are not there yet."""
    found = past(
        tag("latest", "old", 60, 20),
        tag("latest", "new", 20),
        uses=[PastUse(d("old"), ago(30)), PastUse(d("old"), ago(25)), PastUse(d("new"), ago(1))],
        pushes=[PastPush("latest", d("old"), ago(40))],
        manifests=[PastManifest(facts=manifest("lost", 50), gone_at=ago(35))],
    )
    before = as_of(found, ago(28))
    (now,) = before.tags
    assert (d("old"), ago(40), None) == (now.digest, now.pushed.latest, now.moved)
    assert [(d("old"), ago(30), 1)] == [(each.digest, each.last_at, each.times) for each in before.pulls]
    assert {d("lost"): exactly(ago(35))} == before.gone
    after = as_of(found, NOW)
    (now,) = after.tags
    assert (d("new"), exactly(ago(20))) == (now.digest, now.moved)
    assert {"latest": [Past(d("old"), exactly(ago(20)))]} == after.history
    old = next(each for each in after.manifests if each.digest == d("old"))
    assert (exactly(ago(20)), ("latest",)) == (old.untagged, old.was_tagged)

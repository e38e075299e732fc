"""What holds of every policy and every repository: nothing needed goes, nothing more goes for knowing less."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from indexer.policies.cleanup import Evaluation
from indexer.policies.facts import Coverage, Gap, ManifestFacts, RepositoryFacts
from indexer.policies.families import carried
from indexer.policies.freed import blobs_of
from indexer.policies.intervals import LONG_AGO, Between, exactly
from indexer.policies.rules import Policy
from indexer.policies.serialize import as_json
from indexer.policies.verdicts import Decision, Verdict
from tests.fixtures.cleanup import NOW, d, evaluated, policies, without_brake
from tests.fixtures.inventories import (
    DELETABLE,
    IMAGES,
    KEEP,
    TAGS,
    as_text,
    coverages,
    intervals,
    policy_texts,
    pulls_of,
    repositories,
)
from tests.fixtures.selection import examples

MANY = settings(max_examples=examples(400))


def parsed(parts: dict[str, Any]) -> Policy:
    return without_brake(policies(as_text(parts)).cleanup[0])


def judged(policy: Policy, facts: RepositoryFacts, coverage: Coverage, **more: Any) -> Evaluation:
    return evaluated(policy, facts, coverage=coverage, **more).evaluation


def gone(found: Evaluation) -> tuple[set[str], set[str]]:
    """The tags and the manifests that go."""
    going = [each for each in found.verdicts if each.decision is Decision.DELETE]
    return {each.tag for each in going if each.tag}, {each.digest or "" for each in going if each.tag is None}


@MANY
@given(policy_texts(), repositories(), coverages())
def test_closure__nothing_that_stays_loses_what_it_refers_to(
    parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage
) -> None:
    """No tag that stays loses its manifest, no manifest that stays its children, its subject, or what is attached."""
    tags, manifests = gone(judged(parsed(parts), facts, coverage))
    content = {each.digest: each for each in facts.manifests}
    for tag in facts.tags:
        assert tag.name in tags or tag.digest not in manifests
    for digest, manifest in content.items():
        if digest not in manifests:
            assert manifests.isdisjoint(manifest.children)
            assert manifest.subject not in manifests
        elif manifest.subject in content:
            assert manifest.subject in manifests
    for tag in facts.tags:  # what carries something for a subject stays with it
        subject = (carried(tag.name) or "").replace("-", ":")
        if subject in content and subject not in manifests:
            assert tag.name not in tags


@MANY
@given(policy_texts(), repositories(), coverages(), st.randoms(use_true_random=False))
def test_order__makes_no_difference(
    parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage, shuffled: random.Random
) -> None:
    """Equal facts give equal verdicts to the byte, in whatever order they come, and twice the same."""
    mixed = replace(
        facts,
        tags=shuffled.sample(list(facts.tags), len(facts.tags)),
        manifests=shuffled.sample(list(facts.manifests), len(facts.manifests)),
        pulls=shuffled.sample(list(facts.pulls), len(facts.pulls)),
        history=dict(reversed(list(facts.history.items()))),
    )
    one, other = (judged(parsed(parts), each, coverage) for each in (facts, mixed))
    assert list(map(as_json, one.verdicts)) == list(map(as_json, other.verdicts))
    assert (one.freed_bytes, one.brake, one.notes) == (other.freed_bytes, other.brake, other.notes)


@MANY
@given(policy_texts(), repositories(), coverages())
def test_done__is_done(parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage) -> None:
    """Once everything that goes is gone, the same instant and policy let nothing else go."""
    policy = parsed(parts)
    tags, manifests = gone(judged(policy, facts, coverage))
    staying = [each for each in facts.tags if each.name not in tags]
    bared = {each.digest for each in facts.tags} - {each.digest for each in staying}
    left = replace(
        facts,
        tags=staying,
        manifests=[
            replace(each, untagged=exactly(NOW), deleted_by="a") if each.digest in bared else each
            for each in facts.manifests
            if each.digest not in manifests
        ],
    )
    assert (set(), set()) == gone(judged(policy, left, coverage))


def more_goes(before: Evaluation, after: Evaluation) -> tuple[set[str], set[str]]:
    """What stayed before and goes after."""
    (tags, manifests), (tags_after, manifests_after) = gone(before), gone(after)
    return tags_after - tags, manifests_after - manifests


@MANY
@given(policy_texts(), st.sampled_from([*KEEP, DELETABLE]), repositories(), coverages())
def test_monotone__a_keep_rule(
    parts: dict[str, Any], rule: str, facts: RepositoryFacts, coverage: Coverage
) -> None:
    """One more rule of keep never makes anything go."""
    assume(rule not in parts["keep"])
    more = {**parts, "keep": [*parts["keep"], rule]}
    before, after = (judged(parsed(each), facts, coverage) for each in (parts, more))
    assert (set(), set()) == more_goes(before, after)


@MANY
@given(policy_texts(), repositories(), coverages(), st.data())
def test_monotone__a_pull(
    parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage, data: st.DataObject
) -> None:
    """One more pull never makes anything go, as long as no rule counts the newest by pulls."""
    pulled = data.draw(pulls_of([each.digest for each in facts.manifests]))
    more = replace(facts, pulls=[*facts.pulls, pulled])
    before, after = (judged(parsed(parts), each, coverage) for each in (facts, more))
    assert (set(), set()) == more_goes(before, after)


@MANY
@given(policy_texts(), repositories(), coverages(), intervals(), st.data())
def test_monotone__a_referrer(
    parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage, pushed: Between, data: st.DataObject
) -> None:
    """Something more that is attached never makes anything else go."""
    subject = data.draw(st.sampled_from([each.digest for each in facts.manifests]))
    attached = ManifestFacts(digest=d("attached"), pushed=pushed, subject=subject)
    more = replace(facts, manifests=[*facts.manifests, attached])
    before, after = (judged(parsed(parts), each, coverage) for each in (facts, more))
    tags, manifests = more_goes(before, after)
    assert (set(), set()) == (tags, manifests - {attached.digest})


def wider(at: Between, by: timedelta | None) -> Between:
    """The same instant, known less well."""
    earliest = LONG_AGO if by is None or at.earliest == LONG_AGO else at.earliest - by
    return Between(earliest, at.latest + (by or timedelta(days=3)))


widths = st.sampled_from([timedelta(0), timedelta(days=2), timedelta(days=50), None])


@MANY
@given(policy_texts(), repositories(), coverages(), st.data())
def test_monotone__doubt(
    parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage, data: st.DataObject
) -> None:
    """Knowing any instant less well, or having missed pulls, never makes anything go."""
    doubted = replace(
        facts,
        tags=[
            replace(
                each,
                pushed=wider(each.pushed, data.draw(widths)),
                moved=each.moved and wider(each.moved, data.draw(widths)),
            )
            for each in facts.tags
        ],
        manifests=[
            replace(
                each,
                pushed=wider(each.pushed, data.draw(widths)),
                untagged=each.untagged and wider(each.untagged, data.draw(widths)),
            )
            for each in facts.manifests
        ],
        history={
            name: [past._replace(ended=wider(past.ended, data.draw(widths))) for past in pasts]
            for name, pasts in facts.history.items()
        },
        gone={digest: wider(at, data.draw(widths)) for digest, at in facts.gone.items()},
    )
    gap = Gap(
        NOW - timedelta(days=20),
        NOW - data.draw(st.sampled_from([timedelta(0), timedelta(days=19)])),
        "missed",
    )
    missed = replace(coverage, gaps=[*coverage.gaps, gap]) if data.draw(st.booleans()) else coverage
    before, after = judged(parsed(parts), facts, coverage), judged(parsed(parts), doubted, missed)
    assert (set(), set()) == more_goes(before, after)


@MANY
@given(policy_texts(), repositories(), coverages())
def test_points__only_let_more_go(parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage) -> None:
    """What goes for certain would go, too, if the latest instants were the right ones."""
    policy = parsed(parts)
    assert (set(), set()) == more_goes(
        judged(policy, facts, coverage, points=True), judged(policy, facts, coverage)
    )


@MANY
@given(policy_texts(), repositories(odd=False), coverages())
def test_never_empty__keeps_a_tag(parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage) -> None:
    """With never_empty no repository loses its last ordinary tag, and one that keeps any tag loses what it would."""
    policy = parsed(parts)
    never = replace(policy, brake=replace(policy.brake, never_empty=True))
    ordinary = {each.name for each in facts.tags if carried(each.name) is None}
    (without, _), (tags, _) = gone(judged(policy, facts, coverage)), gone(judged(never, facts, coverage))
    assert not ordinary or ordinary - tags
    assert without & ordinary == ordinary or without == tags


@MANY
@given(
    policy_texts(keep=[each for each in KEEP if "previous" not in each]), repositories(odd=False), coverages()
)
def test_expires_at__is_when_it_goes(
    parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage
) -> None:
    """A tag that stays goes at its date and not a moment before, if nothing changes; one without a date never does."""
    policy = parsed(parts)
    stays = [each for each in judged(policy, facts, coverage).verdicts if is_plain(each)]
    for verdict in stays:
        if verdict.expires_at is None:
            later = NOW + timedelta(days=3650)
            assert (
                coverage.latest_gap.to_at is None
                or verdict.tag not in gone(judged(policy, facts, coverage, now=later))[0]
            )
        elif verdict.expires_at > NOW:
            moment = timedelta(microseconds=1)
            assert verdict.tag in gone(judged(policy, facts, coverage, now=verdict.expires_at))[0]
            assert (
                verdict.tag not in gone(judged(policy, facts, coverage, now=verdict.expires_at - moment))[0]
            )


def is_plain(verdict: Verdict) -> bool:
    return verdict.tag is not None and carried(verdict.tag) is None and verdict.decision is Decision.KEEP


@MANY
@given(policy_texts(), repositories(), coverages())
def test_freed__is_the_difference_of_two_sets(
    parts: dict[str, Any], facts: RepositoryFacts, coverage: Coverage
) -> None:
    """What a plan frees is what is referred to before, less what is after: no blob twice, none that others hold."""
    other = ManifestFacts(digest=d("elsewhere"), pushed=Between(NOW, NOW), size_bytes=1, blobs=(("L2", 100),))
    found = judged(parsed(parts), facts, coverage, elsewhere=[other])
    _, manifests = gone(found)
    world = [*facts.manifests, other]
    before, after = (
        {blob: size for each in every for blob, size in blobs_of(each)}
        for every in (world, [each for each in world if each.digest not in manifests])
    )
    assert sum(before.values()) - sum(after.values()) == found.freed_bytes


def test_names__are_what_the_strategies_make() -> None:
    """The strategies' tags are ordinary, and their images have digests."""
    assert all(carried(name) is None for name in TAGS)
    assert len({d(name) for name in IMAGES}) == len(IMAGES)

"""The eighteen worked examples of the cleanup language, with the policy of the reference page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from indexer.policies.facts import Coverage, InUseReport, ManifestFacts, Past, TagFacts
from indexer.policies.intervals import Between, before, exactly
from indexer.policies.serialize import as_json
from indexer.policies.verdicts import Decision
from indexer.policies.words import text_of
from tests.fixtures.cleanup import (
    NOW,
    SINCE,
    Outcome,
    ago,
    d,
    days,
    evaluated,
    manifest,
    policies,
    pull,
    repository,
    tag,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "policies.md"
FILE = re.findall(
    r"^```yaml\n(version: 1\n.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)[0]
WITHOUT_SOURCES = re.sub(r"^in_use:\n(?: .*\n)*", "", FILE, flags=re.MULTILINE)
POLICY = re.sub(r" +budget: .*\n", "", WITHOUT_SOURCES)
"""The file of the reference, without the source that would have to report, and without a budget."""

KEPT_TAG = tag("v0.0.1", "anchor", 300)
"""Every repository has a tag that stays, so that none is kept for being the last."""


def judged(
    *tags: TagFacts, manifests: Sequence[ManifestFacts] = (), policy: str = POLICY, **more: Any
) -> Outcome:
    """What the policy says of one repository."""
    options = {key: more.pop(key) for key in ("coverage", "in_use", "holds") if key in more}
    return evaluated(policy, repository([*tags, KEPT_TAG], manifests, **more), **options)


def builds(count: int, *, newest: float = 50, name: str = "build") -> list[TagFacts]:
    """So many builds on digests of their own, a day apart."""
    return [tag(f"{name}-{100 + number}", f"{name}{number}", newest + number) for number in range(count)]


def test_e1__shared_digest() -> None:
    """A tag is judged for itself, and its manifest stays as long as another tag points to it."""
    two = [tag("build-7", "D1", 200), tag("v1.2.0", "D1", 200)]
    assert [("keep", "keep.newest"), ("keep", "protect.immutable")] == judged(*two, *builds(9)).said(
        "build-7", "v1.2.0"
    )
    crowded = judged(*two, *builds(12))
    assert [("delete", "delete.stale"), ("keep", "protect.immutable")] == crowded.said("build-7", "v1.2.0")
    verdict = crowded.tag("build-7")
    assert "its manifest stays: tag v1.2.0" in text_of(verdict)
    assert ("v1.2.0",) == verdict.siblings
    assert [("-", "-")] == crowded.of_manifests("D1")


def test_e1__frees_nothing() -> None:
    """A tag whose manifest stays frees nothing."""
    two = [tag("pr-7", "D1", 200), tag("v1.2.0", "D1", 200)]
    found = judged(*two)
    assert [("delete", "delete.pr")] == found.said("pr-7")
    assert 0 == found.evaluation.freed_bytes


def index(name: str = "I", pushed: float = 100) -> list[ManifestFacts]:
    children = ["A", "R", "T"]
    return [manifest(name, pushed, children=children), *(manifest(child, pushed) for child in children)]


def test_e2__index_children() -> None:
    """Children stay with their index, go with it after its tag, and stay where they have a tag of their own."""
    kept = judged(tag("app-9", "I", 100), manifests=index())
    assert [("keep", "keep.newest")] == kept.said("app-9")
    assert [("keep", "live.child_of")] * 3 == kept.of_manifests("A", "R", "T")
    child = kept.manifest("A")
    assert child is not None
    assert f"a child of {d('I')[:19]}" in text_of(child)
    going = judged(tag("pr-9", "I", 100), tag("v9-amd64", "A", 100), manifests=index())
    assert [("delete", "delete.pr"), ("keep", "protect.immutable")] == going.said("pr-9", "v9-amd64")
    assert [("delete", "delete.pr")] * 3 == going.of_manifests("I", "R", "T")
    assert [("-", "-")] == going.of_manifests("A")
    pending, unlinked = going.tag("pr-9").expires_at, going.manifest("R")
    assert unlinked is not None
    assert (NOW + days(7), NOW + days(14)) == (pending, unlinked.expires_at)
    assert 3 == going.evaluation.freed_bytes


def test_restored__a_manifest_is_left_alone() -> None:
    """What was put back by its digest stays for as long as a restored tag does, with its children; then it may go."""
    left = {"untagged": exactly(ago(60)), "restored_at": ago(3)}
    found = judged(manifests=[manifest("I", 100, children=["A", "R", "T"], **left), *index()[1:]])
    assert [("keep", "grace.restored"), ("keep", "live.child_of")] == found.of_manifests("I", "A")
    first = found.manifest("I")
    assert first is not None
    assert NOW + days(4) == first.expires_at
    assert "restored" in text_of(first)
    over = manifest("I", 100, children=["A", "R", "T"], **{**left, "restored_at": ago(8)})
    assert [("delete", "delete.untagged")] == judged(manifests=[over, *index()[1:]]).of_manifests("I")


def test_e2__after_the_tag_is_gone() -> None:
    """Between the deletion of the tag and that of the manifest it can be put back; a pull brings it back."""
    left = {"untagged": exactly(ago(3)), "deleted_by": "pr", "was_tagged": ("pr-9",)}
    gone = [manifest("I", 100, children=["A", "R", "T"], **left), *index()[1:]]
    waiting = judged(manifests=gone)
    assert [("keep", "grace.undo"), ("keep", "live.child_of")] == waiting.of_manifests("I", "A")
    first = waiting.manifest("I")
    assert first is not None
    assert NOW + days(4) == first.expires_at
    later = evaluated(POLICY, repository([KEPT_TAG], gone), now=NOW + days(5))
    assert [("delete", "delete.pr")] * 4 == later.of_manifests("I", "A", "R", "T")
    pulled = repository([KEPT_TAG], gone, pulls=[pull("A", -1)])
    assert [("keep", "keep.pulled")] == evaluated(POLICY, pulled, now=NOW + days(5)).of_manifests("I")


def carrier(subject: str, suffix: str = "") -> str:
    return d(subject).replace(":", "-") + suffix


ATTACHED = [
    manifest("D2", 100),
    manifest("S", 90, subject="D2"),
    manifest("B2", 80, subject="S"),
    manifest("SIG", 90),
]


def test_e3__referrers() -> None:
    """What is attached stays and goes with its subject, at any depth, and counts for no rule."""
    signature = tag(carrier("D2", ".sig"), "SIG", 90)
    kept = judged(tag("web-3", "D2", 100), signature, manifests=ATTACHED)
    assert [("keep", "keep.newest"), ("keep", "live.referrer_of")] == kept.said("web-3", signature.name)
    assert [("keep", "live.referrer_of")] * 2 == kept.of_manifests("S", "B2")
    going = judged(tag("pr-3", "D2", 100), signature, manifests=ATTACHED)
    assert [("delete", "delete.pr")] * 2 == going.said("pr-3", signature.name)
    assert [("delete", "delete.pr")] * 4 == going.of_manifests("D2", "S", "B2", "SIG")


def test_e3__subject_vanished() -> None:
    """What is attached to something that vanished without us is held for a time, then goes."""
    signature = tag(carrier("D2", ".sig"), "SIG", 90)
    for since, expected in ((3, ("keep", "keep.not_due")), (8, ("delete", "delete.orphan_referrer"))):
        rest = [manifest("S", 90, subject="D2"), manifest("SIG", 90)]
        found = judged(signature, manifests=rest, gone={d("D2"): exactly(ago(since))})
        assert [expected] == found.of_manifests("S")
    assert [("delete", "delete.orphan_referrer")] == found.said(signature.name)


def test_e3__appended_signatures() -> None:
    """An older signature that its tag pointed to before has no subject: it is an ordinary untagged manifest."""
    older = manifest("SIG0", 95, untagged=exactly(ago(90)), was_tagged=(carrier("D2", ".sig"),))
    found = judged(
        tag("web-3", "D2", 100), tag(carrier("D2", ".sig"), "SIG", 90), manifests=[*ATTACHED, older]
    )
    assert [("delete", "delete.untagged")] == found.of_manifests("SIG0")


def test_e4__referrer_of_a_child() -> None:
    """What is attached to a child of an index stays as long as the index does."""
    bundle = manifest("BUNDLE", 90, subject="R")
    kept = judged(tag("app-9", "I", 100), manifests=[*index(), bundle])
    assert [("keep", "live.referrer_of")] == kept.of_manifests("BUNDLE")
    going = judged(tag("pr-9", "I", 100), manifests=[*index(), bundle])
    assert [("delete", "delete.pr")] == going.of_manifests("BUNDLE")


def test_e5__untagged_by_a_move() -> None:
    """What a tag pointed to before can be rolled back to; what is further back goes when it certainly is old enough."""
    moved = [10, 20, 25, 30, 40]
    old = [
        manifest(f"D{5 - number}", 200, untagged=exactly(ago(when)), was_tagged=("latest",))
        for number, when in enumerate(moved)
    ]
    history = {
        "latest": [Past(each.digest, exactly(ago(when))) for each, when in zip(old, moved, strict=True)]
    }
    found = judged(tag("latest", "D6", 10, moved=exactly(ago(10))), manifests=old, history=history)
    assert [("keep", "live.history")] * 3 == found.of_manifests("D5", "D4", "D3")
    assert [("delete", "delete.untagged")] * 2 == found.of_manifests("D2", "D1")


def test_e5__untagged_by_hearsay_of_the_storage() -> None:
    """Of what is untagged since nobody knows when only the first observation counts."""
    old = manifest("D1", before(ago(200)), untagged=before(ago(5)), was_tagged=("latest",))
    verdict = judged(manifests=[old]).manifest("D1")
    assert verdict is not None
    assert ("keep", "keep.unknown_time", NOW + days(9)) == (
        verdict.decision,
        verdict.reason,
        verdict.expires_at,
    )


SOURCES = 'in_use:\n  sources: [{id: cluster-a, scope: {repositories: {any: ["**"]}}}]\n'


def report(valid: timedelta, **more: Any) -> InUseReport:
    return InUseReport(source="cluster-a", valid_until=NOW + valid, **more)


def test_e6__in_use_by_digest() -> None:
    """A pull, and a report of a cluster, keep a digest; a cluster that falls silent holds every deletion."""
    untagged = [manifest("D7", 200, untagged=exactly(ago(60)), was_tagged=("x",))]
    assert [("delete", "delete.untagged")] == judged(manifests=untagged).of_manifests("D7")
    pulled = judged(manifests=untagged, pulls=[pull("D7", 0.1, actor="node")])
    assert [("keep", "keep.not_due")] == pulled.of_manifests("D7")
    running = report(timedelta(hours=45), digests=frozenset({d("D7")}))
    reported = judged(manifests=untagged, in_use=[running], policy=POLICY + SOURCES)
    assert [("keep", "protect.in_use")] == reported.of_manifests("D7")
    silent = judged(
        tag("pr-1", "D8", 100),
        manifests=untagged,
        in_use=[report(timedelta(hours=-1), digests=frozenset({d("other")}))],
        policy=POLICY + SOURCES,
    )
    assert [("hold", "hold.incomplete")] == silent.of_manifests("D7")
    assert [("hold", "hold.incomplete"), ("keep", "protect.immutable")] == silent.said("pr-1", "v0.0.1")
    assert "cluster-a does not report" in text_of(silent.tag("pr-1"))
    never = judged(tag("pr-1", "D8", 100), policy=POLICY + SOURCES)
    assert [("hold", "hold.incomplete")] == never.said("pr-1")
    last = judged(manifests=untagged, in_use=[report(timedelta(hours=-1), digests=frozenset({d("D7")}))])
    assert [("keep", "protect.in_use")] == last.of_manifests("D7")


def test_e6__what_a_digest_protects() -> None:
    """A digest in use protects its manifest, its indexes with their tags, its children, and that of a config."""
    running = judged(
        tag("pr-9", "I", 100), manifests=index(), in_use=[report(days(1), digests=frozenset({d("R")}))]
    )
    assert [("keep", "protect.in_use")] == running.said("pr-9")
    assert [("keep", "protect.in_use"), ("keep", "live.child_of")] == running.of_manifests("R", "A")
    config = judged(
        tag("pr-1", "D8", 100),
        manifests=[manifest("D8", 100, config=d("cfg"))],
        in_use=[report(days(1), digests=frozenset({d("cfg")}))],
    )
    assert [("keep", "protect.in_use")] == config.said("pr-1")
    by_name = judged(
        tag("pr-1", "D8", 100), in_use=[report(days(1), images=frozenset({("team/app", "pr-1")}))]
    )
    assert [("keep", "protect.in_use")] == by_name.said("pr-1")
    elsewhere = judged(
        tag("pr-1", "D8", 100), in_use=[report(days(1), images=frozenset({("team/b", "pr-1")}))]
    )
    assert [("delete", "delete.pr")] == elsewhere.said("pr-1")


def test_e7__pull_of_a_sibling_or_child() -> None:
    """A pull of one tag is use of every tag of its digest, and one of a child is use of the index."""
    crowd = builds(12, name="svc")
    siblings = [tag("svc-1", "D8", 200), tag("svc-2", "D8", 200)]
    unused = judged(*siblings, *crowd)
    assert [("delete", "delete.stale")] * 2 == unused.said("svc-1", "svc-2")
    used = judged(*siblings, *crowd, pulls=[pull("D8", 1, tag="svc-2")])
    assert [("keep", "keep.pulled")] * 2 == used.said("svc-1", "svc-2")
    child = judged(tag("svc-1", "I", 200), *crowd, manifests=index(pushed=200), pulls=[pull("A", 1)])
    assert [("keep", "keep.pulled")] == child.said("svc-1")
    narrow = POLICY.replace("digest_pulls_count_for_tags: true", "digest_pulls_count_for_tags: false")
    alone = judged(*siblings, *crowd, pulls=[pull("D8", 1, tag="svc-2")], policy=narrow)
    assert [("delete", "delete.stale"), ("keep", "keep.pulled")] == alone.said("svc-1", "svc-2")


def test_e8__scanner() -> None:
    """Pulls count unless the policy names their actor or address; what was left out is said."""
    nightly = [pull("D9", 1, times=412, actor="trivy", address="10.9.0.1")]
    ignored = judged(tag("old-x", "D9", 300), pulls=nightly)
    assert [("delete", "delete.stale")] == ignored.said("old-x")
    said = text_of(ignored.tag("old-x"))
    assert "412 pulls by trivy ignored" in said
    assert f"not pulled since pulls are known without a gap, {SINCE:%Y-%m-%d}" in said
    assert {
        "what": "pulls_ignored",
        "times": 412,
        "latest": "2026-11-28T00:00:00.000000Z",
        "by": ["trivy"],
    } in as_json(ignored.tag("old-x"))["evidence"]
    by_range = judged(tag("old-x", "D9", 300), pulls=[pull("D9", 1, address="10.1.2.3")])
    assert [("delete", "delete.stale")] == by_range.said("old-x")
    for unknown in (
        pull("D9", 1),
        pull("D9", 1, address="10.2.0.1"),
        pull("D9", 1, actor="trivy2", address="?"),
    ):
        assert [("keep", "keep.pulled")] == judged(tag("old-x", "D9", 300), pulls=[unknown]).said("old-x")


def test_e9__weak_times() -> None:
    """What was there on the first day may be of any age: nobody is pushed out by it, and it is old only by then."""
    first_seen = before(ago(20))
    forty = [tag(f"main-{number}", f"M{number}", first_seen) for number in range(1, 41)]
    names = [each.name for each in forty]
    lately = Coverage(pulls_since=ago(20))
    young = judged(*forty, coverage=lately)
    assert [("keep", "keep.newest")] * 40 == young.said(*names)
    assert "not certain" in text_of(young.tag("main-7"))
    newer = [tag(f"main-{100 + number}", f"N{number}", 2 + number) for number in range(10)]
    pushed_out = judged(*forty, *newer, coverage=lately)
    assert ("keep", "keep.newest") not in pushed_out.said(*names)
    assert {"keep"} == {decision for decision, _ in pushed_out.said(*names)}
    assert ago(20) + days(90) == pushed_out.tag("main-7").expires_at
    still = [tag(each.name, f"M{each.name}", before(ago(75))) for each in forty]
    long_ago = Coverage(pulls_since=ago(95))
    loose = POLICY.replace("repository_share: 50%", "repository_share: 100%")
    gone = judged(*still, *newer, coverage=long_ago, policy=loose)
    assert [("delete", "delete.stale")] * 40 == gone.said(*names)
    nine = judged(*still, *newer[:9], coverage=long_ago, policy=loose)
    assert [("keep", "keep.newest")] * 40 == nine.said(*names)


def test_e10__semver_per_minor() -> None:
    """Versions are counted by minor, prereleases by themselves; what is no full version no rule of versions keeps."""
    names = ["1.4.0", "1.4.1", "1.4.2", "1.4.2-rc.1", "1.4.2-rc.2", "1.5.0", "v1.5.1", "1.10.0", "2.0"]
    policy = POLICY.replace('glob: ["v[0-9]*"]', 'glob: ["release-*"]')
    tags = [tag(name, f"S{name}", 200 + number) for number, name in enumerate(names)]
    found = evaluated(policy, repository([*tags, tag("stable", "X", 1)]))
    kept = [name for name in names if found.tag(name).decision is Decision.KEEP]
    assert ["1.4.1", "1.4.2", "1.4.2-rc.1", "1.4.2-rc.2", "1.5.0", "v1.5.1", "1.10.0"] == kept
    assert [("delete", "delete.stale")] * 2 == found.said("1.4.0", "2.0")
    assert "1 tags look like versions and are none (three numbers, as 1.2.3): 2.0" in found.evaluation.notes
    builds_of = [tag("1.4.2_a", "Sa", 200), tag("1.4.2_b", "Sb", 201), *tags[:3]]
    built = evaluated(policy, repository([*builds_of, tag("stable", "X", 1)]))
    assert [("keep", "keep.semver")] * 4 == built.said("1.4.2_a", "1.4.2_b", "1.4.2", "1.4.1")


def test_e11__protected_and_moved() -> None:
    """An immutable tag that was moved raises an alarm, and what it pointed to stays, so that it can be put back."""
    moved = tag("v2.0.0", "D10", 1, moved=exactly(ago(1)))
    found = judged(moved, manifests=[manifest("D9", 100, untagged=exactly(ago(1)), was_tagged=("v2.0.0",))])
    assert [("keep", "protect.immutable")] == found.said("v2.0.0")
    assert ("immutable_moved",) == found.tag("v2.0.0").alarms
    assert [("keep", "keep.was_tagged")] == found.of_manifests("D9")
    assert () == judged(tag("v2.0.0", "D10", 1)).tag("v2.0.0").alarms


def test_e12__just_pushed_old_image() -> None:
    """The clock is the tag's: an old image under a new tag is young, and so is one that is pushed again."""
    promoted = judged(tag("pr-88", "D11", 0.1), manifests=[manifest("D11", 400)])
    assert [("keep", "grace.pushed")] == promoted.said("pr-88")
    assert NOW + days(14 - 0.1) == promoted.tag("pr-88").expires_at


def test_e13__push_in_progress() -> None:
    """Children that are there before their index are young."""
    found = judged(manifests=[manifest("A", 0.001), manifest("R", 0.001)])
    assert [("keep", "grace.pushed")] * 2 == found.of_manifests("A", "R")


def test_e14__brake() -> None:
    """A plan that deletes too much is stopped, all of it, with the numbers."""
    tags = [tag(f"pr-{number}", f"P{number}", 100) for number in range(41)]
    tags += [tag(f"v{number}.0.0", f"V{number}", 100) for number in range(19)]
    spread = [
        repository([*tags[number::4], tag("stable", "x", 1)], name=f"team/r{number}") for number in range(4)
    ]
    limits = {each.name: each for each in evaluated(POLICY, *spread).evaluation.brake}
    assert {"share"} == set(limits)
    assert "64.1% of the scope's tags would be deleted, 10.0% are allowed" in limits["share"].text
    one = evaluated(POLICY, repository(tags))
    assert {"share"} == {each.name for each in one.evaluation.brake}
    assert ("hold", "hold.repository_share") == one.said("pr-7")[0]


def test_e14__never_empty() -> None:
    """A repository that would lose its last tag keeps the newest; that stops nothing else."""
    alone = evaluated(POLICY, repository([tag("old", "D", 1000), tag("older", "E", 1001)], name="tools/x"))
    assert ["keep.never_empty", "delete.stale"] == [
        alone.tag(name, "tools/x").reason for name in ("old", "older")
    ]
    doubt = evaluated(POLICY, repository([tag("a", "D", before(ago(100))), tag("b", "E", before(ago(200)))]))
    assert [("keep", "keep.never_empty")] * 2 == doubt.said("a", "b")


def test_e15__same_digest_in_two_repositories() -> None:
    """A manifest goes from one repository and stays in the other; what both hold is not freed."""
    a = repository([tag("pr-1", "D12", 100), KEPT_TAG], name="a/x")
    b = repository([tag("v1.0.0", "D12", 100), KEPT_TAG], name="b/x")
    found = evaluated(POLICY, a, b)
    assert ("delete.pr", "protect.immutable") == (
        found.tag("pr-1", "a/x").reason,
        found.tag("v1.0.0", "b/x").reason,
    )
    gone = found.manifest("D12", "a/x")
    assert gone is not None
    assert Decision.DELETE is gone.decision
    assert 0 == found.evaluation.freed_bytes


def test_e16__cancelled_by_use() -> None:
    """What was planned and is pulled meanwhile stays."""
    assert [("delete", "delete.pr")] == judged(tag("pr-12", "D", 20)).said("pr-12")
    assert [("keep", "keep.pulled")] == judged(
        tag("pr-12", "D", 20), pulls=[pull("D", 0.1, actor="ci")]
    ).said("pr-12")


def test_e17__unreadable() -> None:
    """A manifest that cannot be read holds its repository, and no other."""
    broken = repository([tag("pr-1", "D", 100), tag("odd", None, 100), KEPT_TAG], name="a/x")
    foreign = repository([tag("pr-1", "D", 100), KEPT_TAG], [manifest("F", 100, readable=False)], name="b/x")
    whole = repository([tag("pr-1", "D", 100), KEPT_TAG], name="c/x")
    found = evaluated(POLICY, broken, foreign, whole)
    reasons = [str(found.tag("pr-1", name).reason) for name in ("a/x", "b/x", "c/x")]
    assert ["hold.unreadable", "hold.unreadable", "delete.pr"] == reasons
    assert "tag odd cannot be read" in text_of(found.tag("pr-1", "a/x"))


def test_e18__fallback_tag_of_an_unknown_subject() -> None:
    """A tag that carries what nothing here is the subject of is an orphan since it came; another hex is a plain tag."""
    carried = carrier("nobody")
    young = judged(tag(carried, "IDX", before(ago(5))), tag("sha256-abc", "Y", 100))
    assert [("keep", "keep.not_due"), ("delete", "delete.stale")] == young.said(carried, "sha256-abc")
    assert [("delete", "delete.orphan_referrer")] == judged(tag(carried, "IDX", before(ago(8)))).said(carried)


UNTAGGED_GO = "untagged: {delete: {older: {untagged: 1d}}}"
"""Whatever has no tag for a day goes; nothing else does."""


def fallback(subject: str, digest: str) -> TagFacts:
    return tag(d(subject).replace(":", "-"), digest, 90)


def test_circle__a_fallback_tag_that_points_to_its_own_subject() -> None:
    """Only what it carries lets a subject go, and that is itself: it stays, and so does what is attached to it."""
    attached = manifest("r", 90, subject="s", was_tagged=("old",), untagged=exactly(ago(80)))
    facts = repository([KEPT_TAG, fallback("s", "s")], [manifest("s", 90), attached])
    said = evaluated(UNTAGGED_GO, facts)
    assert [("keep", "live.referrer_of")] == said.of_manifests("r")
    assert Decision.KEEP is said.tag(fallback("s", "s").name).decision


def test_circle__a_fallback_tag_that_points_to_an_index_of_its_subject() -> None:
    """The index belongs to its child, and the child to the index: both stay, with children and what is attached."""
    manifests = [
        manifest("i", 90, children=["m", "n"]),
        manifest("m", 90),
        manifest("n", 90, was_tagged=("old",), untagged=exactly(ago(80))),
        manifest("r", 90, subject="n", was_tagged=("sbom",), untagged=exactly(ago(80))),
    ]
    said = evaluated(UNTAGGED_GO, repository([KEPT_TAG, fallback("m", "i")], manifests))
    assert [("keep", "live.child_of"), ("keep", "live.referrer_of")] == said.of_manifests("n", "r")
    assert "keep" == said.tag(fallback("m", "i").name).decision == said.of_manifests("m")[0][0]


def test_examples__say_why_in_words() -> None:
    """Every verdict has a sentence, and is JSON."""
    assert policies(FILE).cleanup[0].budget is not None
    found = judged(tag("build-7", "D1", Between(ago(3), ago(2))), *builds(12), manifests=index())
    for verdict in found.evaluation.verdicts:
        shown = as_json(verdict)
        assert shown["text"]
        assert {"what", "latest"} <= shown["evidence"][0].keys()

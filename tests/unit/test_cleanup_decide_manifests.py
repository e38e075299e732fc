"""Whether the deletion of a manifest undid a push: what follows from what was seen afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.inventory.own_actions import ActionKind, OtherInstance, TagAction, WatchedEvent
from indexer.oci.digest import digest_of
from indexer.oci.reference import TagName
from indexer.store.unlinking import Need
from reconciler.cleanup.decide import (
    IN_FLIGHT,
    LINK_MARGIN,
    SILENT_AFTER,
    UNREAD_FOR,
    ManifestFacts,
    Verdict,
    conclude_put,
    conclude_unlink,
)
from reconciler.cleanup.unlink import children_in, first_generation, keeping
from tests.fixtures.selection import examples
from tests.unit.test_cleanup_decide import OLD, announced, at, deletion, push

INDEX, CHILD, SIGNATURE, OTHER = (digest_of(word) for word in (b"index", b"child", b"signature", b"other"))
TAG, SECOND = TagName("again"), TagName("second")


def unlinked(**changes: object) -> TagAction:
    return replace(deletion(kind=ActionKind.UNLINK, tag=TagName("")), **changes)  # type: ignore[arg-type]


def pushed(seconds: float, tag: TagName | None = TAG) -> WatchedEvent:
    return replace(push(seconds, OLD), tag=tag)


def facts(*events: WatchedEvent, present: bool = False, **changes: object) -> ManifestFacts:
    return replace(ManifestFacts(present=present, events=events), **changes)  # type: ignore[arg-type]


SECOND_PROCESS = OtherInstance(
    id=2,
    address="other:5000",
    first_event_at=at(-5000),
    last_event_at=at(-10),
    counted_from=None,
    accounted_until=None,
    ended_at=None,
)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (facts(announced()), Verdict.CHECKED),
        (facts(), Verdict.WAIT),
        (facts(announced(), unread=True), Verdict.WAIT),
        (facts(announced(), needed="the index needs it"), Verdict.PUT_BACK),
        (facts(announced(), needed="the index needs it", present=True), Verdict.CHECKED),
        (facts(announced(), pushed(0.1), gone_tags=frozenset({TAG})), Verdict.PUT_BACK),
        (facts(pushed(0.1), gone_tags=frozenset({TAG})), Verdict.PUT_BACK),
        (facts(announced(), pushed(0.1)), Verdict.CHECKED),  # the tag is there: it was moved since
        (facts(announced(), pushed(0.1, None)), Verdict.PUT_BACK),
        (facts(announced(), pushed(0.3, None), present=True), Verdict.CHECKED),
        (facts(announced(), pushed(-LINK_MARGIN.total_seconds() - 1), gone_tags=frozenset({TAG})), Verdict.CHECKED),
        (facts(announced(), pushed(-LINK_MARGIN.total_seconds() - 1, None)), Verdict.PUT_BACK),  # no trace of it
        (facts(announced(), pushed(60), gone_tags=frozenset({TAG})), Verdict.CHECKED),  # somebody deleted it
        (facts(announced(), lossy="a restart"), Verdict.UNCERTAIN),
        (facts(announced(), processes=(SECOND_PROCESS,)), Verdict.WAIT),
        (facts(announced(), pushed(0.1), put_back={TAG: at(0.1)}, present=True), Verdict.CHECKED),
        (facts(announced(), pushed(0.1, None), put_back={TagName(""): at(5)}), Verdict.CHECKED),  # somebody deleted it
        # It was there again, and we deleted it once more: that action finds what it undid. A tag is no less lost.
        (facts(announced(), pushed(0.3, None), deleted_again=True), Verdict.CHECKED),
        (facts(announced(), needed="the index needs it", deleted_again=True), Verdict.CHECKED),
        (facts(announced(), pushed(0.1), gone_tags=frozenset({TAG}), deleted_again=True), Verdict.PUT_BACK),
        # Another tag's push is put back already, or the manifest for an index: this one is announced later.
        (facts(announced(), pushed(0.1), pushed(0.2, SECOND), put_back={SECOND: at(0.2)}, present=True,
               gone_tags=frozenset({TAG})), Verdict.PUT_BACK),
        (facts(announced(), pushed(0.1), put_back={TagName(""): at(5)}, present=True, gone_tags=frozenset({TAG})),
         Verdict.PUT_BACK),
        # Our request, without an answer, was carried out after the put back.
        (facts(announced(9), pushed(0.1), replace(pushed(5), ours=True), put_back={TAG: at(0.1)},
               gone_tags=frozenset({TAG})), Verdict.PUT_BACK),
    ],
)  # fmt: skip
def test_conclude_unlink__what_follows(found: ManifestFacts, verdict: Verdict) -> None:
    """Every push that may have been undone is put back; nothing is certain before our own event came."""
    assert verdict is conclude_unlink(unlinked(), found, at(1)).verdict


def test_conclude_unlink__silence_is_uncertain() -> None:
    """What does not come within a minute leaves it uncertain, not done."""
    later = at(1) + SILENT_AFTER
    for found in (facts(), facts(announced(), unread=True), facts(announced(), processes=(SECOND_PROCESS,))):
        assert Verdict.UNCERTAIN is conclude_unlink(unlinked(), found, later).verdict


def test_conclude_unlink__checked_once_more() -> None:
    """What is pushed after it was checked is waited for until it is read, and makes nothing uncertain at once."""
    checked = unlinked(ended_at=at(2), outcome="unlinked")
    unread = facts(announced(), unread=True)
    assert Verdict.WAIT is conclude_unlink(checked, unread, at(120)).verdict
    assert Verdict.UNCERTAIN is conclude_unlink(checked, unread, at(3) + UNREAD_FOR).verdict
    assert (
        Verdict.PUT_BACK is conclude_unlink(checked, facts(announced(), needed="an index"), at(120)).verdict
    )


def test_conclude_unlink__without_an_answer() -> None:
    """A request without an answer may still arrive for a while; then the manifest is there, or it was deleted."""
    asked = unlinked(done_at=None)
    assert Verdict.WAIT is conclude_unlink(asked, facts(present=True), at(1)).verdict
    assert Verdict.NOT_DONE is conclude_unlink(asked, facts(present=True), at(1) + IN_FLIGHT).verdict
    assert Verdict.CHECKED is conclude_unlink(asked, facts(announced()), at(1)).verdict


def test_conclude_put__back_or_gone_again() -> None:
    """What was put back by digest is there, or somebody deleted it again."""
    put = unlinked(kind=ActionKind.PUT_BACK)
    assert "restored" == conclude_put(put, facts(present=True), at(1)).outcome
    assert "moved_on" == conclude_put(put, facts(), at(1)).outcome
    asked = replace(put, done_at=None)
    assert Verdict.WAIT is conclude_put(asked, facts(), at(1)).verdict
    assert "not_done" == conclude_put(asked, facts(), at(1) + IN_FLIGHT).outcome


@settings(max_examples=examples(200))
@given(
    st.lists(st.tuples(st.floats(0, 0.19), st.sampled_from([TAG, None])), min_size=1, max_size=4),
    st.booleans(),
)
def test_conclude_unlink__no_push_in_between_is_lost(
    pushes: list[tuple[float, TagName | None]],
    is_announced: bool,
) -> None:
    """Whatever was pushed between our look and our event, and is not there, is put back."""
    events = [pushed(seconds, tag) for seconds, tag in pushes] + ([announced()] if is_announced else [])
    found = facts(*events, gone_tags=frozenset({TAG}))
    assert Verdict.PUT_BACK is conclude_unlink(unlinked(), found, at(1)).verdict


def test_generations__index_then_attached_then_children() -> None:
    """Nothing goes while something that stays needs it; what is attached goes after its subject, children last."""
    needs = [
        Need(digest=INDEX, kind="referrer", by=SIGNATURE),
        Need(digest=SIGNATURE, kind="subject", by=INDEX),
        Need(digest=CHILD, kind="index", by=INDEX),
    ]
    every = [CHILD, SIGNATURE, INDEX]
    assert [INDEX] == first_generation(every, needs)
    assert {CHILD} == children_in(needs)
    assert [] == first_generation([CHILD, SIGNATURE], needs), "the index is still there"
    assert sorted([CHILD, SIGNATURE]) == first_generation([CHILD, SIGNATURE], [])
    stays = [*needs, Need(digest=INDEX, kind="referrer", by=OTHER)]
    assert [] == first_generation(every, stays), "something that stays is attached to it"
    tagged = [Need(digest=INDEX, kind="tag", tag="v1")]
    assert "tag v1 needs it" == keeping(tagged, frozenset(every))

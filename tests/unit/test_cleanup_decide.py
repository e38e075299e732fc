"""Whether our own request undid a push: what follows from what was seen afterwards."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.inventory.own_actions import ActionKind, OtherInstance, TagAction, WatchedEvent
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import RepositoryName, TagName
from reconciler.cleanup.decide import (
    IN_FLIGHT,
    LINK_MARGIN,
    SILENT_AFTER,
    Facts,
    Seen,
    Verdict,
    conclude,
)
from tests.fixtures.selection import examples

LOOKED = datetime(2026, 11, 29, 12, tzinfo=UTC)
OLD, NEW, NEWER, DUMMY = (digest_of(word) for word in (b"old", b"new", b"newer", b"dummy"))
GONE = Seen(digest=None)


def at(seconds: float) -> datetime:
    return LOOKED + timedelta(seconds=seconds)


def deletion(**changes: object) -> TagAction:
    action = TagAction(
        id=uuid.uuid4(),
        kind=ActionKind.DELETE,
        state="done",
        repository=RepositoryName("team/app"),
        tag=TagName("v1"),
        digest=OLD,
        dummy=None,
        source="operator",
        actor="alice",
        reason=None,
        job=None,
        of_action=None,
        asked_at=at(-2),
        looked_at=LOOKED,
        requested_at=at(0.1),
        done_at=at(0.2),
        ended_at=None,
        kept_until=at(10),
        outcome=None,
        note=None,
        gone=None,
        published_at=at(-1000),
        published_source=None,
        first_seen_at=None,
        pushed_by=None,
    )
    return replace(action, **changes)  # type: ignore[arg-type]


def restore(**changes: object) -> TagAction:
    return deletion(kind=ActionKind.RESTORE, digest=OLD, **changes)


def push(
    seconds: float, digest: Digest | None = NEW, *, instance: int = 1, own: bool = False, for_it: bool = False
) -> WatchedEvent:
    """Somebody's push, or deletion (None); ``own``: ours, ``for_it``: of the action itself."""
    return WatchedEvent(
        at=at(seconds),
        ours=own,
        announces=for_it,
        digest=digest,
        actor=None if own else "bob",
        instance=instance,
        instance_first_at=at(-5000),
    )


def announced(seconds: float = 0.2, digest: Digest | None = None, *, instance: int = 1) -> WatchedEvent:
    return push(seconds, digest, own=True, for_it=True, instance=instance)


def process(number: int, **changes: object) -> OtherInstance:
    one = OtherInstance(
        id=number,
        address=f"registry-{number}:5000",
        first_event_at=at(-5000),
        last_event_at=at(-10),
        counted_from=None,
        accounted_until=None,
        ended_at=None,
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def verdict(
    action: TagAction, *events: WatchedEvent, seen: Seen = GONE, now: float = 1, **facts: object
) -> Verdict:
    given_facts = Facts(seen=seen, events=events, **facts)  # type: ignore[arg-type]
    return conclude(action, given_facts, at(now)).verdict


def test_deletion__checked_once_its_event_has_come() -> None:
    """Not before: pushes that are announced with it may be unknown until then."""
    assert verdict(deletion()) is Verdict.WAIT
    assert verdict(deletion(), announced()) is Verdict.CHECKED


def test_deletion__its_event_never_comes() -> None:
    """After a minute it is uncertain, and says so; it is never taken for checked."""
    assert verdict(deletion(), now=0.2 + SILENT_AFTER.total_seconds() - 1) is Verdict.WAIT
    assert verdict(deletion(), now=0.2 + SILENT_AFTER.total_seconds() + 1) is Verdict.UNCERTAIN


@pytest.mark.parametrize(
    ("digest", "seconds", "expected"),
    [
        pytest.param(NEW, 0.05, Verdict.PUT_BACK, id="another image, after the look"),
        pytest.param(OLD, 0.05, Verdict.PUT_BACK, id="the same image, after the look"),
        pytest.param(OLD, 0.0, Verdict.PUT_BACK, id="the same image, in the very second of the look"),
        pytest.param(OLD, -0.001, Verdict.CHECKED, id="the same image, before the look"),
        pytest.param(NEW, -59, Verdict.PUT_BACK, id="another image, whose tag may have been written late"),
        pytest.param(NEW, -61, Verdict.CHECKED, id="another image, long before"),
        pytest.param(NEW, 5.1, Verdict.PUT_BACK, id="after our event, within the margin"),
        pytest.param(NEW, 5.3, Verdict.CHECKED, id="long after our event: somebody else deleted it"),
    ],
)
def test_deletion__a_push_about_the_same_time(digest: Digest, seconds: float, expected: Verdict) -> None:
    """With one process the look bounds a push of the same image exactly; of another one the push wins."""
    assert verdict(deletion(), push(seconds, digest), announced()) is expected


def test_deletion__a_policy_knew_of_no_push_that_is_noted() -> None:
    """A push of the same image just before the look, announced later, would have kept the tag: it is put back."""
    by_policy = deletion(source="policy")
    assert verdict(by_policy, push(-5, OLD), announced()) is Verdict.PUT_BACK
    assert verdict(by_policy, push(-61, OLD), announced()) is Verdict.CHECKED
    assert verdict(by_policy, push(-5, OLD), push(-4, None), announced()) is Verdict.CHECKED


def test_deletion__with_two_processes_clocks_may_differ() -> None:
    """A push of the same image through another process counts within the margin of the clocks."""
    two = [process(1), process(2, last_event_at=at(60))]
    early = push(-CLOCK_MARGIN.total_seconds() + 0.1, OLD, instance=2)
    assert verdict(deletion(), early, announced(), processes=two) is Verdict.PUT_BACK
    earlier = push(-CLOCK_MARGIN.total_seconds() - 0.1, OLD, instance=2)
    assert verdict(deletion(), earlier, announced(), processes=two) is Verdict.CHECKED


def test_deletion__of_several_pushes_the_newest_is_put_back() -> None:
    facts = Facts(seen=GONE, events=[push(0.02, NEW), push(0.06, NEWER), announced()])
    conclusion = conclude(deletion(), facts, at(1))
    assert conclusion.push is not None
    assert conclusion.push.digest == NEWER


def test_deletion__a_lost_push_does_not_wait_for_our_event() -> None:
    assert verdict(deletion(), push(0.05)) is Verdict.PUT_BACK


def test_deletion__the_tag_is_there_again() -> None:
    """Whoever pushed after our request is left alone."""
    assert verdict(deletion(), push(0.3), announced(), seen=Seen(digest=NEW)) is Verdict.CHECKED
    assert (
        verdict(deletion(), push(0.05), push(0.3, OLD), announced(), seen=Seen(digest=OLD)) is Verdict.CHECKED
    )


def test_deletion__somebody_else_deleted_what_was_pushed() -> None:
    """A push that its own side deleted again does not come back."""
    assert verdict(deletion(), push(0.05), push(0.06, None), announced()) is Verdict.CHECKED
    assert verdict(deletion(), push(0.05), push(0.06, None, instance=2), announced()) is Verdict.PUT_BACK


def test_deletion__what_was_put_back_once_is_not_put_back_again() -> None:
    """If its pusher deletes it later, it stays deleted."""
    assert verdict(deletion(), push(0.05), announced(), put_back_until=at(0.05)) is Verdict.CHECKED
    assert (
        verdict(deletion(), push(0.05), push(0.07, NEWER), announced(), put_back_until=at(0.05))
        is Verdict.PUT_BACK
    )


def test_deletion__that_reaches_the_registry_after_a_push_was_put_back() -> None:
    """A request that was on its way for long undoes it once more, and so it is put back once more."""
    again = push(0.5, NEW, own=True)
    assert verdict(deletion(), push(0.05), again, announced(0.2), put_back_until=at(0.05)) is Verdict.CHECKED
    assert verdict(deletion(), push(0.05), again, announced(0.9), put_back_until=at(0.05)) is Verdict.PUT_BACK


def test_deletion__that_was_followed_by_another_one_of_ours() -> None:
    """What was pushed in between was seen by the later look, whose own action is followed; it does not come back."""
    later = push(20, None, own=True)
    assert verdict(deletion(), announced(), push(3), later, now=30) is Verdict.CHECKED
    assert verdict(deletion(), announced(), push(0.05), later, now=30) is Verdict.CHECKED
    skewed = push(4, None, own=True, instance=2)
    assert verdict(deletion(), announced(), push(0.05), skewed, now=30) is Verdict.PUT_BACK


def test_deletion__that_is_followed_by_one_whose_event_has_not_come() -> None:
    """That one is on record, and may have removed what is gone: nothing is put back in its place."""
    found = Facts(seen=Seen(digest=None), events=(announced(), push(0.3)))
    assert conclude(deletion(), found, at(30)).verdict is Verdict.PUT_BACK
    assert conclude(deletion(), replace(found, deleted_again=True), at(30)).verdict is Verdict.CHECKED


def test_deletion__without_an_answer() -> None:
    """The request may still be on its way; only later does a tag that is there mean that it was not carried out."""
    action = deletion(state="requested", done_at=None)
    there = Seen(digest=OLD)
    assert verdict(action, seen=there, now=IN_FLIGHT.total_seconds() - 1) is Verdict.WAIT
    assert verdict(action, seen=there, now=IN_FLIGHT.total_seconds() + 1) is Verdict.NOT_DONE
    assert verdict(action, announced()) is Verdict.CHECKED
    assert verdict(action, push(0.05), now=1) is Verdict.PUT_BACK


def test_dummy__is_finished_first() -> None:
    """A tag on a dummy, or left dangling by one, is finished whatever else is known; its push is no announcement."""
    action = deletion(dummy=DUMMY)
    assert verdict(action, seen=Seen(digest=DUMMY)) is Verdict.FINISH
    assert verdict(action, seen=Seen(digest=None, dangling=True)) is Verdict.FINISH
    assert verdict(action, announced(0.1, DUMMY)) is Verdict.WAIT
    assert verdict(action, announced(0.1, DUMMY), announced()) is Verdict.CHECKED


def test_processes__others_must_have_been_heard_of() -> None:
    """By an event after our request, or by their counters; else it waits, and is uncertain in the end."""
    late = 0.2 + SILENT_AFTER.total_seconds() + 1
    silent = [process(1), process(2)]
    assert verdict(deletion(), announced(), processes=silent) is Verdict.WAIT
    assert verdict(deletion(), announced(), processes=silent, now=late) is Verdict.UNCERTAIN
    for heard in (
        process(2, last_event_at=at(5.3)),
        process(2, accounted_until=at(5.3)),
        process(2, ended_at=at(-6)),
    ):
        assert verdict(deletion(), announced(), processes=[process(1), heard]) is Verdict.CHECKED
    for unheard in (
        process(2, last_event_at=at(5.1)),
        process(2, accounted_until=at(5.1)),
        process(2, ended_at=at(-4)),
    ):
        assert verdict(deletion(), announced(), processes=[process(1), unheard]) is Verdict.WAIT


def test_processes__one_that_was_replaced_before_the_look() -> None:
    """A process that another one at its address replaced can send nothing more."""
    before = process(2, address="registry-1:5000", last_event_at=at(-500))
    now = process(1, first_event_at=at(-400))
    assert verdict(deletion(), announced(), processes=[before, now]) is Verdict.CHECKED
    during = replace(now, first_event_at=at(-4))
    assert verdict(deletion(), announced(), processes=[before, during]) is Verdict.WAIT


def test_processes__one_that_began_after_the_look() -> None:
    """A restart loses what was queued; its counters may show that there was none."""
    young = replace(announced(), instance_first_at=at(0.2))
    others = [process(1, first_event_at=at(0.2)), process(2, last_event_at=at(9))]
    assert verdict(deletion(), young, processes=others) is Verdict.UNCERTAIN
    counted = [replace(others[0], counted_from=at(-100)), others[1]]
    assert verdict(deletion(), young, processes=counted) is Verdict.CHECKED


def test_loss__makes_it_uncertain() -> None:
    assert verdict(deletion(), announced(), lossy="the receiver was down") is Verdict.UNCERTAIN


def test_restore__a_push_that_it_overwrote_is_put_back() -> None:
    """Pushing a tag can undo a push, too; a push of the same manifest is none that is lost."""
    own = announced(0.2, OLD)
    there = Seen(digest=OLD)
    assert verdict(restore(), own, seen=there) is Verdict.CHECKED
    assert verdict(restore(), push(0.05), own, seen=there) is Verdict.PUT_BACK
    assert verdict(restore(), push(0.05, OLD), own, seen=there) is Verdict.CHECKED
    assert verdict(restore(), push(0.05), own, seen=Seen(digest=NEW)) is Verdict.CHECKED


def test_put_back__what_was_older_than_it_is_not_put_back() -> None:
    """Of two pushes the newer was put back, and the older one is not lost by that."""
    action = deletion(kind=ActionKind.PUT_BACK, digest=NEW, published_at=at(0.06), of_action=uuid.uuid4())
    own, there = announced(0.9, NEW), Seen(digest=NEW)
    assert verdict(action, push(0.03, NEWER), own, seen=there) is Verdict.CHECKED
    assert verdict(action, push(0.08, NEWER), own, seen=there) is Verdict.PUT_BACK


moments = st.floats(min_value=-100, max_value=100, allow_nan=False)
pushes = st.builds(push, moments, st.sampled_from([OLD, NEW, NEWER]), instance=st.sampled_from([1, 2]))


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(pushes, max_size=6), st.booleans())
def test_no_push_after_the_look_is_ever_taken_for_nothing(
    found: list[WatchedEvent], is_announced: bool
) -> None:
    """Whatever else was pushed: while the tag is gone, a push between look and event is put back."""
    own = [announced()] if is_announced else []
    lost = [each for each in found if LOOKED <= each.at <= at(0.2)]
    conclusion = conclude(deletion(), Facts(seen=GONE, events=[*found, *own]), at(1))
    if lost:
        assert conclusion.verdict is Verdict.PUT_BACK
        assert conclusion.push is not None
        assert conclusion.push.at >= max(each.at for each in lost)
    assert LINK_MARGIN > CLOCK_MARGIN


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(pushes, max_size=5), pushes)
def test_another_push_never_makes_it_surer(found: list[WatchedEvent], one_more: WatchedEvent) -> None:
    """Knowing of one push more never turns a put-back into something that needs nothing."""
    before = conclude(deletion(), Facts(seen=GONE, events=[*found, announced()]), at(1))
    after = conclude(deletion(), Facts(seen=GONE, events=[*found, one_more, announced()]), at(1))
    if before.verdict is Verdict.PUT_BACK:
        assert after.verdict is Verdict.PUT_BACK

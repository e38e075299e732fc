"""Timelines: whatever arrives in whatever order, intervals stay sorted, whole and apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from indexer.inventory import history
from indexer.inventory.history import Timeline, Transition
from indexer.inventory.records import Interval, TimeSource
from indexer.oci.digest import Digest

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (Digest("sha256:" + letter * 64) for letter in "abc")


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def becoming(seconds: float, digest: Digest | None, source: TimeSource = TimeSource.EVENT) -> Transition:
    return Transition(at=at(seconds), digest=digest, source=source)


def held(start: float, end: float | None, digest: Digest, source: TimeSource = TimeSource.EVENT) -> Interval:
    return Interval(
        valid_from=at(start),
        valid_to=None if end is None else at(end),
        digest=digest,
        source=source,
        to_source=None if end is None else TimeSource.EVENT,
    )


def told(*news: tuple[float, Digest | None]) -> Timeline:
    timeline: Timeline = ()
    for seconds, digest in news:
        timeline = history.append(timeline, becoming(seconds, digest))
    return timeline


def test_append__a_move_closes_the_open_interval() -> None:
    """A tag that moves has pointed to the old digest until then."""
    assert (held(1, 2, A), held(2, None, B)) == told((1, A), (2, B))


def test_append__the_same_digest_changes_nothing() -> None:
    """A re-push is not a new interval."""
    assert (held(1, None, A),) == told((1, A), (2, A))


def test_append__a_deletion_leaves_a_gap() -> None:
    """After a deletion nothing holds until the next push."""
    assert (held(1, 2, A), held(3, None, A)) == told((1, A), (2, None), (3, A))


def test_append__a_tie_is_put_a_tick_later() -> None:
    """Two pushes with one timestamp keep their order of arrival and do not overlap."""
    timeline = told((1, A), (1, B))
    assert at(1) + history.TICK == timeline[1].valid_from
    assert not history.overlaps(timeline)


def test_insert__late_news_cuts_the_interval_it_falls_into() -> None:
    """A push that arrives late ends what held before it, and lasts until the next thing known."""
    fitted = history.insert(told((1, A), (5, C)), becoming(3, B), resumed_at=None, ends_at=None)
    assert (held(1, 3, A), held(3, 5, B), held(5, None, C)) == fitted


def test_insert__a_late_deletion_leaves_a_gap() -> None:
    """A delete that arrives late ends the interval it falls into, and only that."""
    fitted = history.insert(told((1, A), (5, C)), becoming(3, None), resumed_at=None, ends_at=None)
    assert (held(1, 3, A), held(5, None, C)) == fitted


def test_insert__into_a_confirmed_interval_resumes_it() -> None:
    """The tag moved away and back: newer evidence had confirmed what is open."""
    fitted = history.insert(told((1, A)), becoming(3, B), resumed_at=at(9), ends_at=None)
    assert [(at(1), at(3), A), (at(3), at(9), B), (at(9), None, A)] == [
        (part.valid_from, part.valid_to, part.digest) for part in fitted
    ]


def test_insert__before_everything_ends_at_the_first_interval() -> None:
    """News older than the whole timeline is its new beginning."""
    fitted = history.insert(told((5, B)), becoming(1, A), resumed_at=None, ends_at=None)
    assert (held(1, 5, A), held(5, None, B)) == fitted


def test_insert__after_a_deletion_on_record_ends_at_it() -> None:
    """A push that arrives after the delete which followed it is in history, and the tag stays gone."""
    fitted = history.insert((), becoming(1, A), resumed_at=None, ends_at=at(4), ends_source=TimeSource.EVENT)
    assert (held(1, 4, A),) == fitted


def test_insert__the_push_a_look_had_found_dates_its_interval() -> None:
    """The event that explains a look moves the start of its interval to the true instant."""
    seen = history.append(told((1, A)), becoming(9, B, TimeSource.FIRST_SEEN))
    fitted = history.insert(seen, becoming(4, B), resumed_at=at(9), ends_at=None)
    assert (held(1, 4, A), held(4, None, B)) == fitted


def found(seconds: float, digest: Digest | None, *, not_before: float | None = None) -> Transition:
    return Transition(
        at=at(seconds),
        digest=digest,
        source=TimeSource.FIRST_SEEN,
        not_before=None if not_before is None else at(not_before),
    )


def shape(timeline: Timeline) -> list[tuple[datetime, datetime | None, Digest, TimeSource]]:
    return [(part.valid_from, part.valid_to, part.digest, part.source) for part in timeline]


def test_insert__a_push_from_before_another_state_was_observed_explains_nothing() -> None:
    """The tag pointed elsewhere in between, so what was found later came with another push."""
    seen = history.append(told((1, A)), found(9, B, not_before=5))
    fitted = history.insert(seen, becoming(4, B), resumed_at=None, ends_at=None)
    assert (at(9), None, B, TimeSource.FIRST_SEEN) == shape(fitted)[-1]
    for seconds in (5, 6):
        dated = history.insert(seen, becoming(seconds, B), resumed_at=None, ends_at=None)
        assert (at(seconds), None, B, TimeSource.EVENT) == shape(dated)[-1]


def test_insert__a_push_does_not_explain_another_push() -> None:
    """Two pushes of one digest, and the earlier arrives last: the later keeps its own instant."""
    timeline = told((1, A), (9, B))
    fitted = history.insert(timeline, becoming(4, B), resumed_at=None, ends_at=None)
    assert (held(1, 4, A), held(4, 9, B), held(9, None, B)) == fitted


def test_insert__a_push_at_the_instant_of_what_it_ended_leaves_it_a_tick() -> None:
    """Two pushes with one timestamp, and the second was observed: no interval is empty."""
    seen = history.append(told((1, A)), found(9, B))
    fitted = history.insert(seen, becoming(1, B), resumed_at=None, ends_at=None)
    assert not history.overlaps(fitted)
    assert A == fitted[0].digest


def test_insert__what_resumes_is_of_no_event() -> None:
    """The event that began the open interval began it once: the entry in the log is found by it."""
    first = replace(becoming(1, A), event_id="one")
    timeline = history.append((), first)
    fitted = history.insert(timeline, becoming(3, B), resumed_at=at(9), ends_at=None)
    assert ["one", None, None] == [part.event_id for part in fitted]


def test_insert__an_end_is_never_known_to_lie_before_the_start() -> None:
    """A late event within the bounds of an observed change narrows them."""
    ended = history.append(told((1, A)), found(9, None, not_before=4))
    fitted = history.insert(ended, becoming(6, B), resumed_at=None, ends_at=None)
    assert (B, at(9), at(6)) == (fitted[1].digest, fitted[1].valid_to, fitted[1].to_not_before)
    fitted = history.insert(ended, becoming(2, B), resumed_at=None, ends_at=None)
    assert (B, at(9), at(4)) == (fitted[1].digest, fitted[1].valid_to, fitted[1].to_not_before)
    begun = history.append((), found(9, A, not_before=4))
    for seconds in (2, 6):
        fitted = history.insert(begun, becoming(seconds, B), resumed_at=None, ends_at=None)
        assert at(max(seconds, 4)) == fitted[0].to_not_before


def test_alive_since__goes_back_to_the_last_gap() -> None:
    """What a tag pointed to does not matter; where there is no gap, it may be older than what was loaded."""
    whole, gap = told((3, A), (5, B)), told((1, A), (2, None), (3, A), (5, B))
    assert at(3) == history.alive_since(whole, None) == history.alive_since(whole, at(4))
    assert at(1) == history.alive_since(whole, at(1))
    assert at(3) == history.alive_since(gap, None) == history.alive_since(gap, at(1))
    assert at(1) == history.alive_since(told((1, A), (2, None)), at(1)) == history.alive_since((), at(1))


def test_held_at__is_half_open() -> None:
    """An interval holds its start and not its end."""
    timeline = told((1, A), (2, B), (3, None))
    assert [
        None if part is None else part.digest
        for part in (history.interval_at(timeline, at(seconds)) for seconds in (1, 2, 3))
    ] == [A, B, None]


NEWS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from([A, B, C, None])), max_size=14)


@given(NEWS, st.booleans())
def test_any_order__intervals_never_overlap(news: list[tuple[int, Digest | None]], confirm: bool) -> None:
    """Newer news appended, older news inserted, in any order with any ties: never an overlap, never out of order."""
    timeline: Timeline = ()
    newest = -1
    for seconds, digest in news:
        if seconds >= newest:
            timeline, newest = history.append(timeline, becoming(seconds, digest)), seconds
        else:
            timeline = history.insert(
                timeline,
                becoming(seconds, digest),
                resumed_at=at(newest) if confirm else None,
                ends_at=at(newest),
            )
        assert not history.overlaps(timeline)
        assert sorted(timeline, key=lambda part: part.valid_from) == list(timeline)


@given(st.permutations([(1, A), (2, B), (3, None), (4, C), (5, A)]))
def test_any_order__distinct_instants_give_the_true_timeline(news: list[tuple[int, Digest | None]]) -> None:
    """When every event arrives and no two tie, the order of arrival does not matter, once the newest is in."""
    timeline: Timeline = ()
    arrived: list[tuple[int, Digest | None]] = []
    for seconds, digest in news:
        newest = max((seconds_before for seconds_before, _ in arrived), default=-1)
        arrived.append((seconds, digest))
        if seconds > newest:
            timeline = history.append(timeline, becoming(seconds, digest))
            continue
        latest = dict(arrived)[newest]
        timeline = history.insert(
            timeline,
            becoming(seconds, digest),
            resumed_at=None,
            ends_at=at(newest) if latest is None else None,
        )
    starts = {A: {at(1), at(5)}, B: {at(2)}, C: {at(4)}}
    for part in timeline:
        assert part.valid_from in starts[part.digest]
    assert timeline[-1].digest == A
    assert timeline[-1].valid_to is None


def test_append__an_end_is_as_exact_as_what_ended_it() -> None:
    """A deletion found by a look is known to lie between two instants, one that was told is not."""
    found = Transition(at=at(9), digest=None, source=TimeSource.FIRST_SEEN, not_before=at(4))
    (ended,) = history.append(told((1, A)), found)
    assert (TimeSource.FIRST_SEEN, at(4), at(9)) == (ended.to_source, ended.to_not_before, ended.valid_to)
    (told_of,) = told((1, A), (2, None))
    assert (TimeSource.EVENT, None) == (told_of.to_source, told_of.to_not_before)


def test_insert__what_resumed_ends_late_news_between_two_instants() -> None:
    """A late push was over when newer evidence confirmed the record: some time in between."""
    fitted = history.insert(told((1, A)), becoming(2, B), resumed_at=at(5), ends_at=None)
    assert (TimeSource.FIRST_SEEN, at(2), at(5)) == (
        fitted[1].to_source,
        fitted[1].to_not_before,
        fitted[1].valid_to,
    )

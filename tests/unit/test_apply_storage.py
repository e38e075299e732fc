"""What lies in the storage, beside what is on record: it dates and adds, and never overrules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.inventory import history
from indexer.inventory.apply_storage import (
    Earlier,
    ManifestFound,
    TagFound,
    TagResult,
    TagVerdict,
    apply_found_manifest,
    apply_found_tag,
    bound_of,
)
from indexer.inventory.changes import (
    AuditAction,
    AuditSource,
    Entry,
    ManifestChanged,
    TagChanged,
    WorkKind,
    WorkRequested,
)
from indexer.inventory.history import TICK, Timeline
from indexer.inventory.records import BrokenReason, Evidence, Interval, ManifestRecord, TagRecord, TimeSource
from indexer.oci.digest import digest_of
from indexer.oci.reference import RepositoryName, TagName

REPOSITORY, TAG = RepositoryName("team/app"), TagName("v1")
A, B, C, D = (digest_of(letter) for letter in (b"a", b"b", b"c", b"d"))
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def found(digest: str = A, at: datetime | None = None, *earlier: tuple[str, datetime]) -> TagFound:
    return TagFound(
        repository=REPOSITORY,
        tag=TAG,
        digest=digest,  # type: ignore[arg-type]
        written_at=at or ago(10),
        read_at=NOW,
        earlier=tuple(Earlier(each, written_at) for each, written_at in earlier),  # type: ignore[arg-type]
    )


def interval(
    digest: str, start: datetime, end: datetime | None = None, source: str = "event", **more: object
) -> Interval:
    ended = None if end is None else TimeSource.EVENT
    values = {
        "valid_from": start,
        "valid_to": end,
        "digest": digest,
        "source": TimeSource(source),
        "to_source": ended,
    }
    return Interval(**(values | more))  # type: ignore[arg-type]


def record(timeline: Timeline, **more: object) -> TagRecord:
    opened = timeline[-1]
    values = {
        "repository": REPOSITORY,
        "name": TAG,
        "digest": opened.digest,
        "revision": 7,
        "last_event_at": None,
        "last_observed_at": ago(1),
        "evidence": Evidence.OBSERVATION,
        "published_at": opened.valid_from,
        "published_source": opened.source,
        "first_seen_at": ago(2),
        "verified_at": ago(1),
    }
    return TagRecord(**(values | more))  # type: ignore[arg-type]


def applied(
    timeline: Timeline, what: TagFound, absent_at: datetime | None = None, **more: object
) -> TagResult:
    known = record(timeline, **more) if timeline and timeline[-1].valid_to is None else None
    return apply_found_tag(known, timeline, what, absent_at=absent_at)


def changed(result: TagResult) -> TagChanged:
    change = result.changes[0]
    assert isinstance(change, TagChanged)
    return change


def test_new__with_its_past() -> None:
    """A tag that nobody knew gets all that the storage knows, each time as the latest possible."""
    result = applied((), found(A, ago(10), (B, ago(30)), (C, ago(20))))
    change = changed(result)
    assert (TagVerdict.CREATED, 2, 0) == (result.verdict, result.placed, result.undated)
    assert [(B, ago(30), ago(20)), (C, ago(20), ago(10)), (A, ago(10), None)] == [
        (part.digest, part.valid_from, part.valid_to) for part in change.history
    ]
    assert {TimeSource.STORAGE} == {part.source for part in change.history}
    assert [None] * 3 == [part.not_before for part in change.history]
    after = change.after
    assert (A, 1, ago(10), TimeSource.STORAGE) == (
        after.digest,
        after.revision,
        after.published_at,
        after.published_source,
    )
    assert (NOW, NOW, None, ago(30)) == (
        after.first_seen_at,
        after.verified_at,
        after.read_at,
        after.alive_since,
    )
    entry = result.changes[1]
    assert isinstance(entry, Entry)
    assert (AuditAction.TAG_CREATED, AuditSource.STORAGE, ago(10), NOW, None, C) == (
        entry.action, entry.source, entry.occurred_at, entry.recorded_at, entry.not_before, entry.previous_digest,
    )  # fmt: skip


@pytest.mark.parametrize("at", [ago(-1), datetime(1970, 1, 1, tzinfo=UTC), datetime(2013, 1, 1, tzinfo=UTC)])
def test_new__with_a_time_that_bounds_nothing(at: datetime) -> None:
    """A time of tomorrow, or before there were registries, is none: the tag is first seen now."""
    after = changed(applied((), found(A, at, (B, at)))).after
    assert (NOW, TimeSource.FIRST_SEEN) == (after.published_at, after.published_source)
    assert (NOW, TimeSource.FIRST_SEEN) == bound_of(at, NOW)
    assert 1 == len(changed(applied((), found(A, at, (B, at)))).history)


def test_new__two_of_the_same_time_have_no_order() -> None:
    """After a restore without times every file has the same; what is not certain is left out and counted."""
    result = applied((), found(A, ago(10), (B, ago(20)), (C, ago(20)), (D, ago(30))))
    assert [D, A] == [part.digest for part in changed(result).history]
    assert (1, 2) == (result.placed, result.undated)
    same = applied((), found(A, ago(10), (B, ago(10)), (C, ago(10))))
    assert ([A], 2) == ([part.digest for part in changed(same).history], same.undated)


def test_new__after_a_deletion_that_is_on_record() -> None:
    """What was deleted later than the file says came back after that; nothing before the deletion is touched."""
    before = (interval(B, ago(50), ago(5)),)
    result = applied(before, found(A, ago(10), (C, ago(20))))
    change = changed(result)
    assert (TagVerdict.CREATED, before, 1) == (result.verdict, change.history[:1], result.undated)
    opened = change.history[-1]
    assert (NOW, TimeSource.FIRST_SEEN, ago(5)) == (opened.valid_from, opened.source, opened.not_before)
    later = changed(applied((interval(B, ago(50), ago(15)),), found(A, ago(10)))).history[-1]
    assert (ago(10), TimeSource.STORAGE, ago(15)) == (later.valid_from, later.source, later.not_before)


def test_new__in_a_repository_that_was_compared() -> None:
    """The registry listed no such tag: it is asked again, and that is the evidence."""
    result = applied((), found(), absent_at=ago(1))
    assert (TagVerdict.DIFFERS, (WorkRequested(kind=WorkKind.VERIFY, repository=REPOSITORY, key=TAG),)) == (
        result.verdict,
        result.changes,
    )


@pytest.mark.parametrize(
    "known",
    [
        record((interval(B, ago(5)),)),
        record((interval(B, ago(5), source="first-seen"),)),
        record((interval(A, ago(5)),), digest=None, published_at=ago(1)),
        record((interval(A, ago(5)),), broken_reason=BrokenReason.DANGLING_TAG),
    ],
)
def test_differs(known: TagRecord) -> None:
    """Another digest, a deletion, a broken tag: nothing is overruled, the tag is verified."""
    result = apply_found_tag(known, (interval(B, ago(5)),), found(A, ago(1)), absent_at=None)
    assert (TagVerdict.DIFFERS, [WorkKind.VERIFY]) == (
        result.verdict,
        [c.kind for c in result.changes if isinstance(c, WorkRequested)],
    )
    assert 1 == len(result.changes)


def test_dated__what_was_only_first_seen() -> None:
    """A tag that a reconcile found gets the time of its file; the revision grows, so that nothing is stored over it."""
    timeline = (interval(A, ago(2), source="first-seen"),)
    result = applied(
        timeline, found(A, ago(10)), published_at=ago(400), published_source=TimeSource.IMAGE_CONFIG
    )
    change = changed(result)
    assert (TagVerdict.DATED, 8) == (result.verdict, change.after.revision)
    assert (ago(10), TimeSource.STORAGE) == (change.after.published_at, change.after.published_source)
    assert [(ago(10), TimeSource.STORAGE)] == [(part.valid_from, part.source) for part in change.history]
    assert 1 == len(result.changes), "nothing happened in the registry: the log gets no entry"


def test_dated__the_end_of_what_was_before_moves_too() -> None:
    """A move that a reconcile found happened by the time of the file: both sides of it are dated."""
    timeline = (
        interval(B, ago(40), ago(2)),
        interval(A, ago(2), source="first-seen", not_before=ago(30)),
    )
    change = changed(applied(timeline, found(A, ago(10))))
    first, second = change.history
    assert (ago(40), ago(10), TimeSource.EVENT, TimeSource.STORAGE) == (
        first.valid_from, first.valid_to, first.source, first.to_source,
    )  # fmt: skip
    assert (ago(10), None, ago(30)) == (second.valid_from, second.valid_to, second.not_before)


@pytest.mark.parametrize(
    ("timeline", "at"),
    [
        ((interval(A, ago(5)),), ago(10)),
        ((interval(A, ago(5), source="first-seen", not_before=ago(7)),), ago(10)),
        ((interval(A, ago(5), source="first-seen", not_before=ago(7)),), ago(7)),
        ((interval(A, ago(5), source="first-seen"),), ago(4)),
        ((interval(A, ago(5), source="first-seen"),), ago(5)),
        ((interval(A, ago(5), source="first-seen"),), ago(-3)),
        ((interval(A, ago(5), source="storage"),), ago(5)),
        ((interval(A, ago(5), source="storage"),), ago(3)),
        ((interval(B, ago(9), ago(5)), interval(A, ago(5), source="first-seen")), ago(9)),
        ((interval(B, ago(9), ago(5)), interval(A, ago(5), source="first-seen")), ago(20)),
        (
            (interval(B, ago(9), ago(5), to_not_before=ago(6)), interval(A, ago(5), source="first-seen")),
            ago(7),
        ),
        ((interval(B, ago(9), ago(8)), interval(A, ago(5), source="first-seen")), ago(8.5)),
    ],
)
def test_unchanged__what_would_contradict(timeline: Timeline, at: datetime) -> None:
    """An event, a bound that is better already, and whatever the record excludes stay as they are."""
    assert TagResult(TagVerdict.UNCHANGED) == applied(timeline, found(A, at))


def test_extended__in_front_of_an_event() -> None:
    """What the tag had before our first event is added in front; the event itself is not touched."""
    timeline = (interval(C, ago(8), ago(5)), interval(A, ago(5)))
    result = applied(timeline, found(A, ago(5), (C, ago(8)), (B, ago(30)), (D, ago(7))))
    change = changed(result)
    assert (TagVerdict.EXTENDED, 1, 1) == (result.verdict, result.placed, result.undated)
    assert timeline == change.history[1:]
    first = change.history[0]
    assert (B, ago(30), ago(8), TimeSource.STORAGE, TimeSource.EVENT, None) == (
        first.digest, first.valid_from, first.valid_to, first.source, first.to_source, first.to_not_before,
    )  # fmt: skip
    assert (ago(5), TimeSource.EVENT) == (change.after.published_at, change.after.published_source)


def test_extended__never_before_what_excludes_it() -> None:
    """A tag that did not exist at an instant had nothing before."""
    timeline = (interval(A, ago(5), source="first-seen", not_before=ago(10)),)
    result = applied(timeline, found(A, ago(6), (B, ago(20)), (C, ago(8))))
    assert [C, A] == [part.digest for part in changed(result).history]
    assert 1 == result.undated


_digests = st.sampled_from([A, B, C, D])
_days = st.floats(0, 60, allow_nan=False).map(lambda days: ago(round(days, 2)))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """What events and observations may have made of a tag's history."""
    instants = sorted(set(draw(st.lists(_days, max_size=8))))
    parts: list[Interval] = []
    for start, end in pairwise([*instants, None]):
        assert start is not None
        if draw(st.booleans()) or not parts:
            source = draw(st.sampled_from(["event", "first-seen", "storage"]))
            known = parts[-1].valid_from if parts and source == "first-seen" and draw(st.booleans()) else None
            parts.append(interval(draw(_digests), start, end, source, not_before=known))
    if parts and parts[-1].valid_to is not None and draw(st.booleans()):
        parts[-1] = replace(parts[-1], valid_to=None, to_source=None)
    return tuple(parts)


_found = st.builds(
    lambda digest, at, earlier: found(digest, at, *[each for each in earlier if each[0] != digest]),
    _digests,
    _days,
    st.lists(st.tuples(_digests, _days), max_size=4, unique_by=lambda each: each[0]),
)


@given(timelines(), _found, st.none() | _days)
def test_property__never_overrules(timeline: Timeline, what: TagFound, absent_at: datetime | None) -> None:
    """Whatever is on record and whatever lies there: events stay, intervals stay apart, and twice is as once."""
    result = applied(timeline, what, absent_at)
    changes = [change for change in result.changes if isinstance(change, TagChanged)]
    if not changes:
        return
    (change,) = changes
    now = change.history
    assert not history.overlaps(now)
    assert change.after.digest == what.digest == now[-1].digest
    assert change.after.published_at == now[-1].valid_from
    kept = [(part.digest, part.valid_from, part.source) for part in now]
    for part in timeline:
        if part.source is TimeSource.EVENT:
            assert (part.digest, part.valid_from, part.source) in kept
        if part.to_source is TimeSource.EVENT and part is not timeline[-2:][0]:
            assert part in now
    for part in now:
        if part.source is TimeSource.STORAGE and part.not_before is not None:
            assert part.not_before < part.valid_from
    again = apply_found_tag(change.after, now, what, absent_at=absent_at)
    assert (TagVerdict.UNCHANGED, ()) == (again.verdict, again.changes)


def test_property__ticks_do_not_oscillate() -> None:
    """A start that was moved by a tick to keep the order is not moved back by the next import."""
    timeline = (interval(A, ago(5) + TICK, source="storage"),)
    assert TagVerdict.UNCHANGED is applied(timeline, found(A, ago(5))).verdict


def manifest(**more: object) -> ManifestRecord:
    values = {"repository": REPOSITORY, "digest": A, "pushed_at": ago(3), "as_of": ago(1)}
    return ManifestRecord(**(values | more))  # type: ignore[arg-type]


def test_manifest() -> None:
    """New: on record, pushed at its time at the latest. Known: unchanged. Deleted on record: the registry is asked."""
    lies = ManifestFound(
        repository=REPOSITORY, digest=A, written_at=ago(9), read_at=NOW, media_type="m", size_bytes=5
    )
    (change,) = apply_found_manifest(None, lies)
    assert isinstance(change, ManifestChanged)
    assert (manifest(pushed_at=ago(9), as_of=NOW), "m", 5) == (
        change.after,
        change.media_type,
        change.size_bytes,
    )
    assert () == apply_found_manifest(manifest(), lies)
    (request,) = apply_found_manifest(manifest(deleted_at=ago(1)), lies)
    assert isinstance(request, WorkRequested)
    assert (WorkKind.RESOLVE, A, True) == (request.kind, request.key, request.even_if_read)

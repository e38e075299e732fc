"""The edges of the rules of precedence: evidence that is close, late, of another clock, or stored after younger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexer.inventory.apply_event import apply_event
from indexer.inventory.apply_manifest_observation import apply_manifest_observation
from indexer.inventory.apply_tag_observation import as_deletion
from indexer.inventory.changes import AuditSource, DriftCause, Entry, Finding, WorkKind, WorkRequested
from indexer.inventory.dummies import DUMMIES
from indexer.inventory.events import Event, EventAction
from indexer.inventory.history import TICK
from indexer.inventory.known import Known
from indexer.inventory.observations import ManifestObservation, ObservationVerdict, TagObservation, TagState
from indexer.inventory.precedence import (
    CLOCK_MARGIN,
    RACE_WINDOW,
    EventOrder,
    absence,
    instant_of,
    is_close,
    is_past_race_window,
    weigh,
)
from indexer.inventory.records import Evidence, ManifestRecord, TagRecord, TimeSource
from indexer.oci.digest import Digest
from tests.unit.test_apply_evidence import (
    REPOSITORY,
    TAG,
    A,
    B,
    at,
    delete,
    event,
    judged,
    look,
    looked,
    push,
    record,
    told,
)

MARGIN, WINDOW = CLOCK_MARGIN.total_seconds(), RACE_WINDOW.total_seconds()
KEY = (REPOSITORY, TAG)
C = Digest("sha256:" + "c" * 64)
POINTS, CONFIRMED, BROKEN, ABSENT = TagState.POINTS, TagState.CONFIRMED, TagState.BROKEN, TagState.ABSENT


def on_record(*, last_event_at: float | None = None, last_observed_at: float | None = None) -> TagRecord:
    return TagRecord(
        repository=REPOSITORY,
        name=TAG,
        digest=A,
        revision=1,
        last_event_at=None if last_event_at is None else at(last_event_at),
        last_observed_at=None if last_observed_at is None else at(last_observed_at),
        evidence=Evidence.EVENT,
        published_at=at(0),
        published_source=TimeSource.EVENT,
        first_seen_at=at(0),
    )


def held(seconds: float, *, deleted: bool = False) -> ManifestRecord:
    return ManifestRecord(
        repository=REPOSITORY,
        digest=A,
        pushed_at=at(0),
        as_of=at(seconds),
        deleted_at=at(seconds) if deleted else None,
    )


def stored(known: Known, observation: TagObservation) -> None:
    """Store an observation that was made over the record as it is, whatever the clocks say."""
    before = known.tags.get(KEY)
    verified_before = None if before is None else before.verified_at
    for change in judged(known, observation, waited=True, verified_before=verified_before).changes:
        known.fold(change)


def finding_of(known: Known, observation: TagObservation, **more: Any) -> Finding:
    (found,) = [c for c in judged(known, observation, **more).changes if isinstance(c, Finding)]
    return found


# --- clocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "seconds", "verdict"),
    [
        (None, 0, EventOrder.NEWER),
        (on_record(last_event_at=10), 10, EventOrder.NEWER),
        (on_record(last_event_at=10), 9.999, EventOrder.LATE),
        (on_record(last_observed_at=100), 100 - MARGIN, EventOrder.NEWER),
        (on_record(last_observed_at=100), 99.999 - MARGIN, EventOrder.LATE),
        (on_record(last_event_at=10, last_observed_at=100), 10, EventOrder.LATE),
        (on_record(last_event_at=99, last_observed_at=100), 98, EventOrder.LATE),
        (on_record(), 0, EventOrder.NEWER),
    ],
)
def test_event__is_weighed_against_events_and_observations(
    known: TagRecord | None, seconds: float, verdict: EventOrder
) -> None:
    """Against an event exactly, against an observation with the margin of the clocks; a tie is newer."""
    assert verdict is weigh(known, at(seconds))


@pytest.mark.parametrize(
    ("known", "seconds", "counts"),
    [
        (None, 0, True),
        (on_record(last_observed_at=100), 0, True),
        (on_record(last_event_at=10), 10 + WINDOW, True),
        (on_record(last_event_at=10), 9.999 + WINDOW, False),
        (on_record(last_event_at=10), 0, False),
    ],
)
def test_observation__counts_once_the_race_window_is_over(
    known: TagRecord | None, seconds: float, counts: bool
) -> None:
    """Counted from the event; without one there is nothing to wait for."""
    assert counts is is_past_race_window(known, at(seconds))


def test_instants__of_two_clocks_are_close_up_to_the_margin() -> None:
    """In either order, and the margin itself is still close."""
    for one, other in ((at(0), at(MARGIN)), (at(MARGIN), at(0))):
        assert is_close(one, other)
        assert not is_close(one - TICK if one < other else one + TICK, other)


@pytest.mark.parametrize(
    ("claimed", "known_at", "instant"),
    [
        (None, 90, 60),
        (70, None, 60),
        (70, 50, 60),
        (70, 65, 65),
        (70, 90, 70),
    ],
    ids=["not held back", "nothing on record", "record is older", "up to the record", "up to its claim"],
)
def test_instant__of_an_event_whose_receipt_held_it_back(
    claimed: float | None, known_at: float | None, instant: float
) -> None:
    """It counts from its receipt on, but where the record is younger: then our clock went back."""
    news = push(60, A, claimed_at=None if claimed is None else at(claimed))
    assert at(instant) == instant_of(news, None if known_at is None else at(known_at))


def test_event__that_a_clock_set_back_holds_back_is_not_late() -> None:
    """Received at 60 by a clock that had been at 100: the tag moves, the manifest is held, and is gone again."""
    known = told(push(100, A))
    apply_event(known, push(60, B, claimed_at=at(130)))
    assert (B, at(100)) == (record(known).digest, record(known).last_event_at)
    known = Known(manifests={(REPOSITORY, A): held(100, deleted=True)})
    apply_event(known, push(60, A, tag=None, claimed_at=at(130)))
    assert known.manifests[REPOSITORY, A].present
    apply_event(known, delete(60, A, tag=None, claimed_at=at(130)))
    assert not known.manifests[REPOSITORY, A].present
    assert at(100) == known.manifests[REPOSITORY, A].as_of


# --- observations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ((POINTS, A), (POINTS, B)),
        ((POINTS, A), (CONFIRMED, A)),
        ((POINTS, A), (BROKEN, None)),
        ((POINTS, A), (ABSENT, None)),
        ((BROKEN, None), (POINTS, A)),
        ((BROKEN, None), (BROKEN, None)),
        ((ABSENT, None), (POINTS, A)),
        ((ABSENT, None), (BROKEN, None)),
        ((ABSENT, None), (ABSENT, None)),
    ],
)
def test_stored_observations__take_no_instant_back(
    newer: tuple[TagState, Digest | None], older: tuple[TagState, Digest | None]
) -> None:
    """A clock was set back, or a reconcile stores old observations: whatever they change, the newest instant stays."""
    known = told(push(1, A))
    for seconds, (outcome, digest) in ((600, newer), (60, older)):
        stored(known, look(seconds, outcome, digest))
    after = record(known)
    assert older[0] in (CONFIRMED, POINTS) or after.broken or not after.live
    assert [at(600)] * 2 == [after.last_observed_at, after.verified_at]
    assert after.as_of == at(600)


@pytest.mark.parametrize("outcome", [BROKEN, ABSENT])
def test_observation__that_is_older_than_a_confirmation_proves_nothing(outcome: TagState) -> None:
    """Deletions wait for the end of a reconcile: the tag was verified meanwhile."""
    known = told(push(1, A))
    for seconds in (30, 600):
        looked(known, look(seconds, POINTS, A))
    stale = look(60, outcome)
    for verified_before in (None, at(30)):
        assert (
            ObservationVerdict.INCONCLUSIVE is judged(known, stale, verified_before=verified_before).verdict
        )
    # Nobody verified it since the record was read for the observation: the clock was set back.
    assert ObservationVerdict.CHANGED is judged(known, stale, verified_before=at(600)).verdict
    assert ObservationVerdict.CHANGED is judged(known, look(600, outcome), verified_before=at(30)).verdict


def test_observation__that_has_waited_is_believed_whatever_the_clock_says() -> None:
    """The change it makes is dated after what is on record."""
    known = told(push(100, A))
    assert ObservationVerdict.INCONCLUSIVE is judged(known, look(60, POINTS, B)).verdict
    stored(known, look(60, POINTS, B))
    after = record(known)
    assert (B, at(100) + TICK, at(100) + TICK) == (
        after.digest,
        after.published_at,
        known.histories[KEY][-1].valid_from,
    )


@pytest.mark.parametrize(("outcome", "digest"), [(POINTS, B), (BROKEN, None), (ABSENT, None)])
def test_observation__finds_what_came_after_all_that_is_known(
    outcome: TagState, digest: Digest | None
) -> None:
    """A tag that was confirmed at 100 changed after that, though the clock of the observation says 60."""
    known = told(push(1, A))
    looked(known, look(100, POINTS, A))
    seen = judged(known, look(60, outcome, digest), verified_before=at(100))
    assert [at(100) + TICK] == [
        c.occurred_at for c in seen.changes if isinstance(c, Entry) and c.action.startswith("tag.")
    ]
    for change in seen.changes:
        known.fold(change)
    assert at(100) + TICK == record(known).published_at or outcome is BROKEN


def test_observation__of_a_broken_tag_is_no_proof_that_it_can_be_read() -> None:
    """Only an observation that was served the manifest says when it was read last."""
    known = told(push(1, A))
    looked(known, look(10, POINTS, A))
    assert at(10) == record(known).read_at
    looked(known, look(20, CONFIRMED, A))
    assert at(10) == record(known).read_at
    looked(known, look(30, BROKEN))
    assert record(known).read_at is None
    looked(known, look(40, POINTS, A))
    assert at(40) == record(known).read_at
    looked(known, look(50, CONFIRMED, B))
    assert (B, None) == (record(known).digest, record(known).read_at)


def test_observation__keeps_since_when_a_tag_is_known() -> None:
    """A move does not make a tag new; a tag that was gone is."""
    known = told(push(1, A))
    looked(known, look(10, POINTS, B))
    assert at(1) == record(known).first_seen_at
    looked(known, look(20, ABSENT))
    looked(known, look(30, POINTS, B))
    assert at(30) == record(known).first_seen_at


def test_observation__of_a_dummy_of_gitlabs_is_a_deletion() -> None:
    """And nothing of the dummy is taken for the tag's."""
    dummy = next(iter(DUMMIES))
    found = replace(look(60, POINTS, dummy), media_type="x", size_bytes=7)
    assert look(60, ABSENT) == as_deletion(found, DUMMIES)
    for other in (look(60, POINTS, A), look(60, BROKEN)):
        assert other == as_deletion(other, DUMMIES)


def moved_by_observation(first: float, then: float) -> Known:
    known = told(push(first, A))
    stored(known, look(then, POINTS, B))
    return known


def found_before(first: float, then: float) -> Known:
    known = Known()
    looked(known, look(first, POINTS, A))
    apply_event(known, push(then, B))
    return known


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        (told(push(10, A), push(10 + MARGIN, B)), DriftCause.RACE),
        (told(push(10, A), push(10.001 + MARGIN, B)), DriftCause.UNANNOUNCED),
        (moved_by_observation(10, 13), DriftCause.UNANNOUNCED),
        (found_before(10, 13), DriftCause.UNANNOUNCED),
    ],
    ids=["two pushes", "too far apart", "the other one was found", "this one was found"],
)
def test_race__is_one_of_two_pushes_that_were_told(known: Known, cause: DriftCause) -> None:
    """What was observed is dated by its observation: nothing was announced out of order."""
    assert cause is finding_of(known, look(60, POINTS, A)).cause


def test_first_reconcile__explains_only_what_is_on_no_record() -> None:
    """A tag that is on record was known before it."""
    assert DriftCause.FIRST_RECONCILE is finding_of(Known(), look(60, POINTS, A), first_reconcile=True).cause
    assert DriftCause.UNANNOUNCED is finding_of(Known(), look(60, POINTS, A)).cause
    known = told(push(1, A))
    assert DriftCause.UNANNOUNCED is finding_of(known, look(60, POINTS, B), first_reconcile=True).cause


# --- manifests -------------------------------------------------------------------------------------------


def asked(seconds: float, *, served: bool, as_of: float) -> ManifestObservation:
    return ManifestObservation(
        repository=REPOSITORY, digest=A, served=served, observed_at=at(seconds), as_of=at(as_of)
    )


@pytest.mark.parametrize("deleted", [True, False])
def test_manifest__evidence_of_it_is_not_taken_back_by_a_slow_clock(deleted: bool) -> None:
    """The registry's clock is behind: the observation counts, its instant does not make the record older."""
    answer = asked(60, served=deleted, as_of=5)
    (change, *_) = apply_manifest_observation(
        held(10, deleted=deleted), answer, source=AuditSource.WALK
    ).changes
    known = Known()
    known.fold(change)
    after = known.manifests[REPOSITORY, A]
    assert (deleted, at(10)) == (after.present, after.as_of)
    assert at(60) == (after.pushed_at if deleted else after.deleted_at)


@pytest.mark.parametrize("deleted", [True, False])
def test_manifest__that_was_asked_for_long_enough_is_believed(deleted: bool) -> None:
    """Whatever the clock says, once the wait is over; what is confirmed needs none."""
    record_, answer = held(100, deleted=deleted), asked(60, served=deleted, as_of=60)
    for waited, verdict in ((False, ObservationVerdict.INCONCLUSIVE), (True, ObservationVerdict.CHANGED)):
        found = apply_manifest_observation(record_, answer, source=AuditSource.VERIFY, waited=waited)
        assert verdict is found.verdict


def test_push__of_what_is_held_keeps_since_when_and_who() -> None:
    """Neither a later push nor one that arrives late makes a manifest newer, or its evidence older."""
    known = told(push(10, A, actor="ada"))
    for seconds, as_of in ((30, 30), (20, 30)):
        apply_event(known, push(seconds, A, actor="bob"))
        after = known.manifests[REPOSITORY, A]
        assert (at(10), "ada", at(as_of)) == (after.pushed_at, after.pushed_by, after.as_of)


@pytest.mark.parametrize("imported", [True, False])
def test_push__out_of_an_older_history_has_the_registry_asked(imported: bool) -> None:
    """It may have been deleted since, without a trace in that history."""
    changes = apply_event(Known(), push(10, A, tag=None, imported=imported))
    assert [imported] == [
        c.even_if_read for c in changes if isinstance(c, WorkRequested) and c.kind is WorkKind.RESOLVE
    ]


# --- events ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("news", "kept"),
    [(push(20, A), True), (push(20, B), False), (delete(20), False)],
    ids=["the same", "another", "deleted"],
)
def test_event__leaves_verified_what_it_agrees_with(news: Event, kept: bool) -> None:
    """A push of what is on record; when it was observed stays known either way."""
    known = told(push(1, A))
    looked(known, look(10, POINTS, A))
    apply_event(known, news)
    after = record(known)
    expected = at(10) if kept else None
    assert (expected, expected, at(10)) == (after.verified_at, after.read_at, after.last_observed_at)


def test_event__of_a_broken_tag_leaves_it_unverified() -> None:
    """A push of the same digest may have put its manifest back."""
    known = told(push(1, A))
    looked(known, look(10, BROKEN))
    apply_event(known, push(20, A))
    after = record(known)
    assert (False, None, None) == (after.broken, after.verified_at, after.read_at)


@pytest.mark.parametrize(
    ("news", "kept"),
    [
        (push(10, A), True),
        (push(10, B), False),
        (delete(10), False),
        (push(10, B, imported=True), True),
    ],
    ids=["the same", "another", "deleted", "imported"],
)
def test_late_event__of_another_state_leaves_the_tag_unverified(news: Event, kept: bool) -> None:
    """The order of two instants is only as good as the clocks; an import is old by its nature."""
    known = told(push(50, A))
    looked(known, look(100, POINTS, A))
    apply_event(known, news)
    assert (A, at(100) if kept else None, at(100)) == (
        record(known).digest,
        record(known).verified_at,
        record(known).last_observed_at,
    )


@pytest.mark.parametrize(("seconds", "last_event_at"), [(10, 50), (70, 70)])
def test_late_event__takes_no_instant_back(seconds: float, last_event_at: float) -> None:
    """Late after a newer observation, it may still be the newest event."""
    known = told(push(50, A))
    looked(known, look(100, POINTS, A))
    apply_event(known, push(seconds, B))
    assert (A, at(last_event_at)) == (record(known).digest, record(known).last_event_at)


def test_late_event__held_until_the_next_thing_that_was_known() -> None:
    """The first evidence after it that had confirmed the record, and not the newest."""
    known = told(push(1, A), push(10, A))
    looked(known, look(50, POINTS, A))
    apply_event(known, push(5, B))
    assert [(A, at(1), at(5)), (B, at(5), at(10)), (A, at(10), None)] == [
        (part.digest, part.valid_from, part.valid_to) for part in known.histories[KEY]
    ]


@pytest.mark.parametrize("observed", [True, False], ids=["observed", "event"])
def test_late_event__before_an_absence_ends_with_it(observed: bool) -> None:
    """A tag that was pushed and is known to be gone was there in between; how the end is known is said."""
    known = Known(tags={KEY: absence(KEY, at(100))}) if observed else told(delete(100))
    apply_event(known, push(10, A, imported=observed))
    (part,) = known.histories[KEY]
    assert (A, at(10), at(100)) == (part.digest, part.valid_from, part.valid_to)
    assert (TimeSource.FIRST_SEEN if observed else TimeSource.EVENT) is part.to_source
    assert not record(known).live


def test_late_event__changes_not_who_pushed_what_is_on_record() -> None:
    """Only its own event says who pushed it."""
    known = told(push(50, A, actor="ada"))
    looked(known, look(100, POINTS, A))
    apply_event(known, push(10, B, actor="bob"))
    assert "ada" == record(known).pushed_by
    assert at(50) == record(known).published_at


@pytest.mark.parametrize(
    "before",
    [[], [push(1, B, actor="ada")], [push(1, A, actor="ada"), delete(5, actor="cy")]],
    ids=["on no record", "moved", "deleted"],
)
def test_pull__does_not_say_who_pushed(before: list[Event]) -> None:
    """Whoever fetched the content is not who put it there, nor is whoever had pushed or deleted what was there."""
    known = told(*before)
    apply_event(known, event(EventAction.PULL, 50, A, actor="bob"))
    after = record(known)
    assert (A, None, None) == (after.digest, after.pushed_by, known.histories[KEY][-1].actor)
    apply_event(known, event(EventAction.PULL, 50, C, tag=None, actor="bob"))
    assert known.manifests[REPOSITORY, C].present
    assert known.manifests[REPOSITORY, C].pushed_by is None


def test_pull__of_one_of_gitlabs_dummies_is_no_evidence() -> None:
    """It is served for a moment, while a tag is being deleted."""
    dummy = next(iter(DUMMIES))
    known = Known()
    changes = apply_event(known, event(EventAction.PULL, 10, dummy))
    assert ({}, {}) == (known.tags, known.manifests)
    assert ["manifest.pulled"] == [change.action for change in changes if isinstance(change, Entry)]


def test_deletion__announced_again_takes_no_instant_back() -> None:
    """GitLab's way of deleting makes several events of it, which arrive in any order."""
    known = told(push(1, A), delete(50))
    known.tags[KEY] = replace(record(known), deleted_by_dummy=True)
    for seconds, last_event_at in ((40, 50), (60, 60)):
        apply_event(known, delete(seconds))
        assert (False, at(last_event_at)) == (record(known).live, record(known).last_event_at)

"""Whether a repository holds a manifest: what observations, and events beside them, make of what is on record."""

from __future__ import annotations

from datetime import datetime
from itertools import permutations

import pytest

from indexer.inventory.apply_event import apply_event
from indexer.inventory.apply_manifest_observation import apply_manifest_observation
from indexer.inventory.changes import (
    AuditSource,
    Change,
    DriftKind,
    Entry,
    Finding,
    ManifestChanged,
    VerifyTagsOfDigest,
    WorkKind,
    WorkRequested,
)
from indexer.inventory.dummies import DUMMIES
from indexer.inventory.events import Event, EventAction
from indexer.inventory.known import Known
from indexer.inventory.observations import ManifestObservation, ObservationVerdict, TagState
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.inventory.records import ManifestRecord
from indexer.oci.digest import Digest
from tests.unit.test_apply_evidence import REPOSITORY, TAG, A, at, delete, event, judged, look, push, told

MARGIN = CLOCK_MARGIN.total_seconds()


def hold(seconds: float, *, deleted: bool = False, digest: Digest = A) -> ManifestRecord:
    instant = at(seconds)
    return ManifestRecord(
        repository=REPOSITORY,
        digest=digest,
        pushed_at=at(0),
        as_of=instant,
        deleted_at=instant if deleted else None,
        pushed_by="alice",
    )


def asked(seconds: float, *, served: bool) -> ManifestObservation:
    return ManifestObservation(
        repository=REPOSITORY, digest=A, served=served, observed_at=at(seconds), as_of=at(seconds)
    )


def held_after(changes: tuple[Change, ...] | list[Change]) -> ManifestRecord | None:
    found = [change.after for change in changes if isinstance(change, ManifestChanged)]
    return found[-1] if found else None


def dues(
    changes: tuple[Change, ...] | list[Change], kind: WorkKind = WorkKind.RESOLVE
) -> list[WorkRequested]:
    return [change for change in changes if isinstance(change, WorkRequested) and change.kind is kind]


@pytest.mark.parametrize(
    ("record", "observation", "judgement"),
    [
        (hold(10), asked(11, served=True), ObservationVerdict.CONFIRMED),
        (None, asked(11, served=False), ObservationVerdict.CONFIRMED),
        (hold(10, deleted=True), asked(11, served=False), ObservationVerdict.CONFIRMED),
        (None, asked(11, served=True), ObservationVerdict.CHANGED),
        (hold(10, deleted=True), asked(10 + MARGIN, served=True), ObservationVerdict.INCONCLUSIVE),
        (hold(10, deleted=True), asked(10.1 + MARGIN, served=True), ObservationVerdict.CHANGED),
        (hold(10), asked(10 + MARGIN, served=False), ObservationVerdict.INCONCLUSIVE),
        (hold(10), asked(10.1 + MARGIN, served=False), ObservationVerdict.CHANGED),
        (hold(900), asked(10, served=False), ObservationVerdict.INCONCLUSIVE),
        (hold(900, deleted=True), asked(10, served=True), ObservationVerdict.INCONCLUSIVE),
    ],
)
def test_observation__is_weighed_with_the_margin_of_the_clocks(
    record: ManifestRecord | None, observation: ManifestObservation, judgement: ObservationVerdict
) -> None:
    """One that contradicts evidence which is younger, or too close for the clocks, changes nothing."""
    found = apply_manifest_observation(record, observation, source=AuditSource.WALK)
    assert judgement == found.verdict
    after = held_after(found.changes)
    if judgement is ObservationVerdict.CHANGED:
        assert after is not None
        assert observation.served == after.present
        assert record is None or after.as_of >= record.as_of
    else:
        assert after is None


def test_observation__brings_back_what_was_called_gone() -> None:
    """It is in the log and in the drift report, and what was not read is read."""
    changes = apply_manifest_observation(
        hold(10, deleted=True), asked(60, served=True), source=AuditSource.WALK, tag=TAG
    ).changes
    (entry,) = [change for change in changes if isinstance(change, Entry)]
    assert ("manifest.found", "walk", at(10)) == (entry.action, entry.source, entry.not_before)
    (finding,) = [change for change in changes if isinstance(change, Finding)]
    assert (DriftKind.MANIFEST_MISSING, TAG, None, A) == (
        finding.kind, finding.tag, finding.expected, finding.found,
    )  # fmt: skip
    (due,) = dues(changes)
    assert (A, True) == (due.key, due.unless_waiting)


def test_observation__of_one_that_is_gone() -> None:
    """The tags on record with it are looked at."""
    changes = apply_manifest_observation(hold(10), asked(60, served=False), source=AuditSource.VERIFY).changes
    assert VerifyTagsOfDigest(repository=REPOSITORY, digest=A) in changes
    assert ["manifest.deleted"] == [change.action for change in changes if isinstance(change, Entry)]


@pytest.mark.parametrize("dead", [hold(10, deleted=True), None], ids=["deleted", "unknown"])
def test_look__that_confirms_a_tag_proves_its_manifest(dead: ManifestRecord | None) -> None:
    """The tag agrees, and yet something is put right: served through its tag, the manifest is held."""
    known = told(push(1, A))
    known.manifests.clear()
    if dead is not None:
        known.manifests[REPOSITORY, A] = dead
    seen = judged(known, look(60, TagState.POINTS, A))
    assert ObservationVerdict.CHANGED == seen.verdict
    after = held_after(seen.changes)
    assert after is not None
    assert after.present
    assert [DriftKind.MANIFEST_MISSING] == [c.kind for c in seen.changes if isinstance(c, Finding)]


def test_look__that_reads_the_link_alone_has_the_manifest_asked_for() -> None:
    """A 304 proves nothing of the manifest."""
    known = told(push(1, A))
    known.manifests[REPOSITORY, A] = hold(10, deleted=True)
    seen = judged(known, look(60, TagState.CONFIRMED, A))
    assert ObservationVerdict.CONFIRMED == seen.verdict
    assert held_after(seen.changes) is None
    assert [(A, True)] == [(due.key, due.even_if_read) for due in dues(seen.changes)]


def test_look__close_to_a_deletion_has_the_manifest_asked_for() -> None:
    """The clocks do not tell which was first; the tag itself is confirmed."""
    known = told(push(1, A))
    known.manifests[REPOSITORY, A] = hold(58, deleted=True)
    seen = judged(known, look(60, TagState.POINTS, A))
    assert ObservationVerdict.CONFIRMED == seen.verdict
    assert held_after(seen.changes) is None
    assert [(A, True)] == [(due.key, due.even_if_read) for due in dues(seen.changes)]


def test_look__that_confirms_asks_for_what_was_not_read() -> None:
    """The store leaves out what was read; what waits keeps its time."""
    seen = judged(told(push(1, A)), look(60, TagState.POINTS, A))
    assert ObservationVerdict.CONFIRMED == seen.verdict
    assert [(A, False, True)] == [
        (due.key, due.even_if_read, due.unless_waiting) for due in dues(seen.changes)
    ]


def test_look__that_finds_a_move_to_one_called_gone() -> None:
    """The move is the finding; the manifest is held again, and the log says so."""
    known = told(push(1, A))
    other = Digest("sha256:" + "b" * 64)
    known.manifests[REPOSITORY, other] = hold(10, deleted=True, digest=other)
    seen = judged(known, look(60, TagState.POINTS, other))
    assert [DriftKind.TAG_STALE] == [c.kind for c in seen.changes if isinstance(c, Finding)]
    assert ["tag.moved", "manifest.found"] == [c.action for c in seen.changes if isinstance(c, Entry)]


@pytest.mark.parametrize("seconds", [9.0, 1.0])
def test_push__older_than_the_deletion_has_the_registry_asked(seconds: float) -> None:
    """It revives nothing by itself, and is not passed over either."""
    known = Known(manifests={(REPOSITORY, A): hold(10, deleted=True)})
    changes = apply_event(known, push(seconds, A, tag=None))
    assert not known.manifests[REPOSITORY, A].present
    assert [(A, True)] == [(due.key, due.even_if_read) for due in dues(changes)]


@pytest.mark.parametrize(("seconds", "is_asked"), [(11.0, True), (11 + MARGIN, False)])
def test_push__just_after_a_deletion_has_the_registry_asked(seconds: float, is_asked: bool) -> None:
    """It stands until the registry has said otherwise."""
    known = Known(manifests={(REPOSITORY, A): hold(10, deleted=True)})
    changes = apply_event(known, push(seconds, A, tag=None))
    assert known.manifests[REPOSITORY, A].present
    assert [is_asked] == [due.even_if_read for due in dues(changes)]


@pytest.mark.parametrize(
    ("seconds", "present", "is_asked"),
    [(1.0, True, True), (9.0, True, True), (11.0, False, True), (11 + MARGIN, False, False)],
)
def test_delete__near_or_before_what_is_on_record(seconds: float, present: bool, is_asked: bool) -> None:
    """Older than the record it changes nothing and the registry is asked; just after it, it stands until asked."""
    known = Known(manifests={(REPOSITORY, A): hold(10)})
    changes = apply_event(known, delete(seconds, A, tag=None))
    assert present == known.manifests[REPOSITORY, A].present
    assert is_asked == bool(dues(changes))


def test_delete__of_a_dummy_sets_nothing_back() -> None:
    """An old deletion of one of GitLab's dummies does not make evidence older than it is."""
    dummy = next(iter(DUMMIES))
    known = Known(manifests={(REPOSITORY, dummy): hold(100, digest=dummy)})
    apply_event(known, delete(10, dummy, tag=None))
    assert at(100) == known.manifests[REPOSITORY, dummy].as_of


@pytest.mark.parametrize(("seconds", "is_asked"), [(12.0, True), (1.0, False)])
def test_pull__close_to_a_deletion_has_the_registry_asked(seconds: float, is_asked: bool) -> None:
    """The client may have read the state before it."""
    known = Known(manifests={(REPOSITORY, A): hold(10, deleted=True)})
    changes = apply_event(known, event(EventAction.PULL, seconds, A, tag=None))
    assert not known.manifests[REPOSITORY, A].present
    assert is_asked == bool(dues(changes))


def test_confirmed__instants_never_go_back() -> None:
    """Looks are not stored in the order they were made in: a walk stores a thousand at once."""
    known = told(push(1, A))
    for seconds in (600, 60):
        for change in judged(known, look(seconds, TagState.POINTS, A)).changes:
            known.fold(change)
    record = known.tags[REPOSITORY, TAG]
    newest: list[datetime | None] = [record.last_observed_at, record.verified_at, record.read_at]
    assert [at(600)] * 3 == newest


def found_at(seconds: float) -> Known:
    """What is on record of a manifest of which only an observation is known."""
    known = Known()
    for change in apply_manifest_observation(
        None, asked(seconds, served=True), source=AuditSource.WALK
    ).changes:
        known.fold(change)
    return known


def dated(known: Known) -> tuple[datetime, str | None]:
    held = known.manifests[REPOSITORY, A]
    assert held.present
    return held.pushed_at, held.pushed_by


def by(actor: str, seconds: float) -> Event:
    return push(seconds, A, tag=None, actor=actor)


def test_push__dates_the_manifest_before_and_after_an_observation() -> None:
    """Whether its event comes first or late, the manifest was pushed when and by whom the event says."""
    in_order = told(by("alice", 10))
    for change in apply_manifest_observation(
        in_order.manifests[REPOSITORY, A], asked(60, served=True), source=AuditSource.WALK
    ).changes:
        in_order.fold(change)
    late = found_at(60)
    assert (at(60), None) == dated(late)
    apply_event(late, by("alice", 10))
    assert dated(late) == dated(in_order) == (at(10), "alice")
    assert at(60) == late.manifests[REPOSITORY, A].as_of


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_push__the_first_of_several_dates_the_manifest_in_every_order(order: tuple[int, ...]) -> None:
    """Pushing the same again changes neither when it was pushed, nor by whom."""
    events = [by("alice", 10), by("bob", 20), by("carol", 30)]
    known = told(*(events[number] for number in order))
    assert (at(10), "alice") == dated(known)
    assert at(30) == known.manifests[REPOSITORY, A].pushed_again_at, "somebody wants it: cleanup must know"


def test_push__again_is_forgotten_with_the_manifest() -> None:
    """One push is none again; after a deletion the next one is the first; nobody's pull is a push."""
    known = told(by("alice", 10), event(EventAction.PULL, 20, A, tag=None, actor="alice"))
    assert known.manifests[REPOSITORY, A].pushed_again_at is None
    apply_event(known, by("bob", 30))
    apply_event(known, delete(40, A, tag=None))
    assert known.manifests[REPOSITORY, A].pushed_again_at is None
    apply_event(known, by("bob", 50))
    assert known.manifests[REPOSITORY, A].pushed_again_at is None


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_push__after_a_deletion_dates_the_manifest_in_every_order(order: tuple[int, ...]) -> None:
    """What is there is the second push: no event that comes late makes it older."""
    events = [by("alice", 10), delete(20, A, tag=None), by("bob", 30)]
    when, who = dated(told(*(events[number] for number in order)))
    assert at(30) == when
    # Where the deletion comes last, the record no longer tells who made the second push.
    assert who == (None if order in {(0, 2, 1), (2, 0, 1)} else "bob")


def test_push__after_a_late_deletion_names_its_author() -> None:
    """A deletion that comes late was followed by a push: its event, later still, says when and by whom."""
    known = found_at(60)
    apply_event(known, by("alice", 10))
    apply_event(known, delete(20, A, tag=None))
    assert (at(60), None) == dated(known)
    apply_event(known, by("alice", 15))
    assert (at(60), None) == dated(known)
    apply_event(known, by("bob", 30))
    assert (at(30), "bob") == dated(known)


def test_push__older_than_a_deletion_does_not_date_what_an_observation_brought_back() -> None:
    """The observation shows a push after the deletion, of which no event came."""
    known = told(by("alice", 10), delete(20, A, tag=None))
    for change in apply_manifest_observation(
        known.manifests[REPOSITORY, A], asked(60, served=True), source=AuditSource.WALK
    ).changes:
        known.fold(change)
    apply_event(known, by("alice", 15))
    assert (at(60), None) == dated(known)
    apply_event(known, by("bob", 25))
    assert (at(25), "bob") == dated(known)


def test_pull__that_comes_late_dates_nothing() -> None:
    """It shows that the manifest was there, not since when, nor who pushed it."""
    known = found_at(60)
    apply_event(known, event(EventAction.PULL, 10, A, tag=None, actor="alice"))
    assert (at(60), None) == dated(known)

"""The rules of precedence as tables: what one event, then one look, makes of what is on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.inventory.apply_event import apply_event
from indexer.inventory.apply_tag_observation import apply_tag_observation
from indexer.inventory.changes import (
    AuditAction,
    AuditSource,
    BlobAnnounced,
    Change,
    DriftCause,
    DriftKind,
    Entry,
    Finding,
    ManifestChanged,
    Pulled,
    VerifyTagsOfDigest,
    WorkRequested,
)
from indexer.inventory.events import Event, EventAction
from indexer.inventory.history import overlaps
from indexer.inventory.known import Known
from indexer.inventory.observations import ObservationResult, ObservationVerdict, TagObservation, TagState
from indexer.inventory.precedence import CLOCK_MARGIN, RACE_WINDOW
from indexer.inventory.records import BrokenReason, TagRecord, TimeSource
from indexer.oci.digest import Digest
from indexer.oci.media_types import OCI_MANIFEST
from indexer.oci.reference import RepositoryName, TagName

REPOSITORY, TAG = RepositoryName("team/app"), TagName("v1")
A, B = (Digest("sha256:" + letter * 64) for letter in "ab")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


_numbers = iter(range(10**6))


def event(
    action: EventAction,
    seconds: float,
    digest: Digest | None = None,
    tag: TagName | None = TAG,
    **more: object,
) -> Event:
    values: dict[str, object] = {
        "id": f"event-{next(_numbers)}",
        "occurred_at": at(seconds),
        "received_at": at(seconds),
        "action": action,
        "repository": REPOSITORY,
        "tag": tag,
        "digest": digest,
        "media_type": OCI_MANIFEST if digest and action is not EventAction.DELETE else "",
    }
    return Event(**(values | more))  # type: ignore[arg-type]  # a test's shorthand


def push(seconds: float, digest: Digest, **more: object) -> Event:
    return event(EventAction.PUSH, seconds, digest, **more)  # type: ignore[arg-type]  # as above


def delete(seconds: float, digest: Digest | None = None, **more: object) -> Event:
    return event(EventAction.DELETE, seconds, digest, **more)  # type: ignore[arg-type]  # as above


def look(
    seconds: float, outcome: TagState, digest: Digest | None = None, *, unreadable: bool = False
) -> TagObservation:
    return TagObservation(
        repository=REPOSITORY,
        tag=TAG,
        outcome=outcome,
        observed_at=at(seconds),
        as_of=at(seconds),
        digest=digest,
        unreadable=unreadable,
    )


def told(*events: Event) -> Known:
    known = Known()
    for each in events:
        apply_event(known, each)
    return known


def judged(known: Known, observation: TagObservation, **more: Any) -> ObservationResult:
    key = (REPOSITORY, TAG)
    found = (REPOSITORY, observation.digest) if observation.digest else None
    return apply_tag_observation(
        known.tags.get(key),
        known.histories.get(key, ()),
        observation,
        manifest=known.manifests.get(found) if found else None,
        source=AuditSource.VERIFY,
        **more,
    )


def looked(known: Known, observation: TagObservation) -> ObservationResult:
    seen = judged(known, observation)
    for change in seen.changes:
        known.fold(change)
    return seen


def record(known: Known) -> TagRecord:
    return known.tags[REPOSITORY, TAG]


def actions(changes: list[Change] | tuple[Change, ...]) -> list[str]:
    return [change.action for change in changes if isinstance(change, Entry)]


def test_push__creates_moves_and_repushes() -> None:
    """The action says what the push did to the tag, and a move names the digest before."""
    known = Known()
    assert ["manifest.pushed", "tag.created"] == actions(apply_event(known, push(1, A)))
    assert ["tag.repushed"] == actions(apply_event(known, push(2, A)))
    moved = [c for c in apply_event(known, push(3, B)) if isinstance(c, Entry)]
    assert ["manifest.pushed", "tag.moved"] == [entry.action for entry in moved]
    assert A == moved[1].previous_digest


def test_push__a_repush_does_not_bump_the_publish_time() -> None:
    """The tag came to point at its digest with the first push."""
    known = told(push(1, A), push(9, A))
    assert (at(1), TimeSource.EVENT) == (record(known).published_at, record(known).published_source)


def test_push__makes_the_tag_due_and_the_digest_due() -> None:
    """A notification is hearsay: the tag is looked at, and an unknown manifest is read."""
    dues = [change for change in apply_event(Known(), push(1, A)) if isinstance(change, WorkRequested)]
    assert [("resolve", A), ("verify", TAG)] == [(due.kind, due.key) for due in dues]


def test_push__of_a_blob_is_no_manifest() -> None:
    """Distribution calls every blob octet-stream."""
    changes = apply_event(Known(), push(1, A, tag=None, media_type="application/octet-stream"))
    assert [BlobAnnounced, Entry] == [type(change) for change in changes]


def test_late_push__does_not_move_the_state() -> None:
    """Older than the newest event on record: history and audit take it, the tag stays."""
    known = told(push(5, B))
    changes = apply_event(known, push(1, A))
    assert B == record(known).digest
    assert ["manifest.pushed", "tag.created"] == actions(changes)
    assert [A, B] == [part.digest for part in known.histories[REPOSITORY, TAG]]


def test_late_push__after_a_deletion_does_not_revive_the_tag() -> None:
    """The tombstone is younger."""
    known = told(push(1, A), delete(5))
    apply_event(known, push(3, B))
    assert not record(known).live


@pytest.mark.parametrize(
    ("before_the_look", "digest"), [(CLOCK_MARGIN / 2, B), (CLOCK_MARGIN * 2, A)], ids=["within", "beyond"]
)
def test_push__older_than_a_look(before_the_look: timedelta, digest: Digest) -> None:
    """Within the clock margin of a look, news stands provisionally; beyond it, the look stands."""
    known = told(push(1, A))
    looked(known, look(100, TagState.POINTS, A))
    apply_event(known, push(100 - before_the_look.total_seconds(), B))
    assert digest == record(known).digest


def test_push__that_a_look_had_found_dates_the_tag() -> None:
    """The notification arrives after the walk: the publish time becomes the event's, and nothing is new."""
    known = Known()
    looked(known, look(100, TagState.POINTS, A))
    assert TimeSource.FIRST_SEEN == record(known).published_source
    changes = apply_event(known, push(40, A, actor="ada"))
    assert (at(40), TimeSource.EVENT, "ada") == (
        record(known).published_at,
        record(known).published_source,
        record(known).pushed_by,
    )
    assert AuditAction.TAG_REPUSHED in actions(changes)


def test_delete__of_a_digest_leaves_its_tags_to_their_own_events() -> None:
    """Tags are not dropped by inference; those on record with the digest are looked at."""
    known = told(push(1, A))
    changes = apply_event(known, delete(2, A, tag=None))
    assert ["manifest.deleted"] == actions(changes)
    assert [VerifyTagsOfDigest(repository=REPOSITORY, digest=A)] == [
        change for change in changes if isinstance(change, VerifyTagsOfDigest)
    ]
    assert A == record(known).digest


def test_delete__of_a_known_blob() -> None:
    """The event has the same shape as a manifest's; what is on record tells them apart."""
    known = told(push(1, A, tag=None, media_type="application/octet-stream"))
    assert ["blob.deleted"] == actions(apply_event(known, delete(2, A, tag=None)))


def test_delete__of_an_unknown_digest_is_not_guessed() -> None:
    """A manifest whose push was lost or a blob never announced: the log says it cannot tell."""
    assert ["content.deleted"] == actions(apply_event(Known(), delete(2, A, tag=None)))


def test_delete__before_a_newer_push_of_the_manifest_is_late() -> None:
    """A manifest pushed again after the deletion is held."""
    known = told(push(5, A))
    apply_event(known, delete(2, A, tag=None))
    assert known.manifests[REPOSITORY, A].present


def test_pull__of_what_is_on_record_only_counts() -> None:
    """A pull that agrees with the record is no evidence of anything new."""
    changes = apply_event(told(push(1, A)), event(EventAction.PULL, 50, A))
    assert [Pulled, Entry] == [type(change) for change in changes]


def test_pull__of_unknown_content_is_evidence() -> None:
    """A pull-through cache announces its tags only by pulls."""
    known = told(event(EventAction.PULL, 50, A))
    assert (A, TimeSource.FIRST_SEEN) == (record(known).digest, record(known).published_source)
    assert known.manifests[REPOSITORY, A].present


def test_pull__just_after_a_push_only_makes_the_tag_due() -> None:
    """The client may have read the state before the push's link was written."""
    known = told(push(50, B))
    changes = apply_event(known, event(EventAction.PULL, 50.01, A))
    assert B == record(known).digest
    assert any(isinstance(change, WorkRequested) and change.key == TAG for change in changes)


def test_pull__by_ourselves_is_nothing() -> None:
    """Our own looks cause pull events; they are nobody's pulls."""
    assert [] == apply_event(Known(), event(EventAction.PULL, 1, A, ours=True))


def test_mount__is_recorded_with_its_origin() -> None:
    """The repository has the blob from another."""
    changes = apply_event(Known(), event(EventAction.MOUNT, 1, A, tag=None, from_repository="base/image"))
    (entry,) = [change for change in changes if isinstance(change, Entry)]
    assert ("blob.mounted", "base/image") == (entry.action, entry.detail["from_repository"])


def test_look__that_agrees_confirms() -> None:
    """Nothing changes but how well we know it: the revision stays."""
    known = told(push(1, A))
    revision = record(known).revision
    assert ObservationVerdict.CONFIRMED == looked(known, look(9, TagState.CONFIRMED, A)).verdict
    assert (at(9), None, revision) == (
        record(known).verified_at,
        record(known).read_at,
        record(known).revision,
    )


def test_look__right_after_an_event_proves_nothing() -> None:
    """The registry announces a push before it writes the tag's link."""
    known = told(push(1, A), push(10, B))
    soon = 10 + RACE_WINDOW.total_seconds() / 2
    assert ObservationResult(verdict=ObservationVerdict.INCONCLUSIVE) == looked(
        known, look(soon, TagState.POINTS, A)
    )
    assert B == record(known).digest


def test_look__settles_a_race_of_two_pushes() -> None:
    """The events' order was not the registry's: the digest announced before is dated by its own event."""
    known = told(push(10, A, actor="ada"), push(10.001, B))
    seen = looked(known, look(60, TagState.POINTS, A))
    (finding,) = [change for change in seen.changes if isinstance(change, Finding)]
    assert (DriftKind.TAG_STALE, DriftCause.RACE) == (finding.kind, finding.cause)
    assert (A, TimeSource.EVENT, "ada") == (
        record(known).digest,
        record(known).published_source,
        record(known).pushed_by,
    )
    assert at(10.001) < record(known).published_at < at(10.002)


def test_look__that_finds_a_move_knows_its_bounds() -> None:
    """The move happened after what was on record and not after the look."""
    known = told(push(10, A))
    seen = looked(known, look(60, TagState.POINTS, B))
    (entry,) = [change for change in seen.changes if isinstance(change, Entry)]
    assert ("tag.moved", at(10), at(60)) == (entry.action, entry.not_before, entry.occurred_at)
    assert any(isinstance(change, ManifestChanged) for change in seen.changes)


def test_look__at_a_dangling_tag() -> None:
    """Listed and unreadable is broken, not gone; readable again is not a new tag."""
    known = told(push(10, A))
    assert ["tag.broken"] == actions(looked(known, look(60, TagState.BROKEN)).changes)
    assert (A, BrokenReason.DANGLING_TAG) == (record(known).digest, record(known).broken_reason)
    assert ["tag.readable"] == actions(looked(known, look(70, TagState.POINTS, A)).changes)
    assert (A, None, at(10)) == (
        record(known).digest,
        record(known).broken_reason,
        record(known).published_at,
    )


def test_look__tells_why_a_tag_is_broken() -> None:
    """The reason on record is that of the newest look, though the tag does not become broken once more."""
    known = told(push(10, A))
    looked(known, look(60, TagState.BROKEN, unreadable=True))
    assert BrokenReason.UNREADABLE_TAG == record(known).broken_reason
    again = looked(known, look(70, TagState.BROKEN))
    assert (ObservationVerdict.CONFIRMED, []) == (again.verdict, actions(again.changes))
    assert BrokenReason.DANGLING_TAG == record(known).broken_reason
    apply_event(known, push(80, A))
    assert (None, False) == (record(known).broken_reason, record(known).broken)


def test_look__at_a_dangling_tag_nobody_announced() -> None:
    """It is listed all the same, without a digest: nothing says where it points."""
    known = Known()
    looked(known, look(60, TagState.BROKEN))
    assert (None, True, True) == (record(known).digest, record(known).broken, record(known).live)


def test_look__that_finds_nothing_deletes() -> None:
    """A tag that the registry says in full is not there becomes a tombstone with its bounds."""
    known = told(push(10, A))
    seen = looked(known, look(60, TagState.ABSENT))
    assert ["tag.deleted"] == actions(seen.changes)
    assert not record(known).live
    assert at(60) == known.histories[REPOSITORY, TAG][-1].valid_to


def test_look__finds_a_deleted_tag_again() -> None:
    """A tag that lives again begins a new interval; the old one stays."""
    known = told(push(10, A), delete(20))
    assert ["tag.created"] == actions(looked(known, look(60, TagState.POINTS, A)).changes)
    assert [at(10), at(60)] == [part.valid_from for part in known.histories[REPOSITORY, TAG]]


def test_look__at_a_tag_that_an_earlier_walk_did_not_see_has_a_bound() -> None:
    """What is on no record was not there when the repository was last compared: it came after that."""
    known = Known()
    seen = judged(Known(), look(60, TagState.POINTS, A), absent_at=at(20))
    for change in seen.changes:
        known.fold(change)
    (entry,) = [change for change in seen.changes if isinstance(change, Entry)]
    assert (at(20), at(60)) == (entry.not_before, entry.occurred_at)
    assert at(20) == known.histories[REPOSITORY, TAG][0].not_before


def dates(known: Known) -> tuple[datetime, TimeSource, str | None]:
    return record(known).published_at, record(known).published_source, record(known).pushed_by


@pytest.mark.parametrize("ago", [0.0, 0.2, CLOCK_MARGIN.total_seconds()])
@pytest.mark.parametrize("previous", [(), (A,)], ids=["new", "moved"])
def test_push__found_before_its_event_came_has_the_dates_of_the_event(
    ago: float, previous: tuple[Digest, ...]
) -> None:
    """What is on record is the same, whether the event or the observation came first; the order of tags is kept."""
    pushed = push(100 - ago, B, actor="ada")
    pushes = [push(10, digest, actor="bob") for digest in previous]
    in_order, found_first = told(*pushes, pushed), told(*pushes)
    looked(in_order, look(100 + CLOCK_MARGIN.total_seconds(), TagState.POINTS, B))
    looked(found_first, look(100, TagState.POINTS, B))
    assert TimeSource.FIRST_SEEN == record(found_first).published_source
    changes = apply_event(found_first, pushed)
    assert (at(100 - ago), TimeSource.EVENT, "ada") == dates(found_first) == dates(in_order)
    assert found_first.histories == in_order.histories
    assert not overlaps(found_first.histories[REPOSITORY, TAG])
    assert AuditAction.TAG_REPUSHED in actions(changes)


def test_push__after_an_observation_of_the_same_does_not_date_it() -> None:
    """The tag was there before, so this was pushed again: the time never becomes later."""
    known = Known()
    looked(known, look(100, TagState.POINTS, A))
    apply_event(known, push(100.2, A, actor="ada"))
    assert (at(100), TimeSource.FIRST_SEEN, None) == dates(known)
    apply_event(known, push(99.9, A, actor="eve"))
    assert (at(99.9), TimeSource.EVENT, "eve") == dates(known)


def test_push__never_dates_again_what_an_event_dated() -> None:
    """Pushed twice, and found in between: the first push counts, in whatever order the events come."""
    pushes = [push(99.8, A, actor="ada"), push(100.3, A, actor="eve")]
    for order in (pushes, pushes[::-1]):
        known = Known()
        looked(known, look(100, TagState.POINTS, A))
        for each in order:
            apply_event(known, each)
        assert (at(99.8), TimeSource.EVENT, "ada") == dates(known)


def test_pull__does_not_date_what_was_found() -> None:
    """A pull shows that the tag points there, not since when."""
    known = Known()
    looked(known, look(100, TagState.POINTS, A))
    apply_event(known, event(EventAction.PULL, 99.9, A))
    assert (at(100), TimeSource.FIRST_SEEN) == dates(known)[:2]


def test_push__found_before_its_event_came_leaves_what_was_in_between() -> None:
    """Something else is on record between the event and what was found: the event is not its cause."""
    known = told(push(10, A))
    looked(known, look(99, TagState.POINTS, B))
    looked(known, look(101.5, TagState.POINTS, A))
    before = known.histories[REPOSITORY, TAG]
    apply_event(known, push(98.5, A))
    assert (at(101.5), TimeSource.FIRST_SEEN) == dates(known)[:2]
    assert before == known.histories[REPOSITORY, TAG]


def test_delete__found_before_its_event_came_has_the_instant_of_the_event() -> None:
    """The interval ends when the tag was deleted, as if the event had come first."""
    pushed, gone = push(10, A), delete(99.8)
    in_order, found_first = told(pushed, gone), told(pushed)
    looked(found_first, look(100, TagState.ABSENT))
    apply_event(found_first, gone)
    assert (at(99.8), TimeSource.EVENT) == dates(found_first)[:2] == dates(in_order)[:2]
    assert found_first.histories == in_order.histories

"""What an event changes of a tag.

By its place in the order of evidence (``precedence``) an event is applied in order, and state and timeline move on; or
it is late, and only history and audit log take it. In either case the tag is verified afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from indexer.inventory import history
from indexer.inventory.changes import (
    AuditAction,
    Change,
    TagChanged,
    WorkKind,
    WorkRequested,
    event_entry,
)
from indexer.inventory.events import Event, EventAction
from indexer.inventory.history import Timeline, Transition
from indexer.inventory.known import Known
from indexer.inventory.own_actions import with_dates_of
from indexer.inventory.precedence import EventOrder, instant_of, weigh
from indexer.inventory.records import Evidence, TagRecord, TimeSource
from indexer.oci.digest import Digest


def apply_tag_event(
    known: Known, event: Event, *, digest: Digest | None, dummy: Digest | None = None
) -> Iterator[Change]:
    """Decide what an event changes that says its tag points to ``digest``, or is gone (None).

    ``dummy`` is the manifest that GitLab put in the tag's place to delete it.
    """
    tag = event.tag
    if tag is None:
        return
    key = (event.repository, tag)
    before = known.tags.get(key)
    event = replace(event, occurred_at=instant_of(event, before.as_of if before is not None else None))
    timeline = known.histories.get(key, ())
    is_pull = event.action is EventAction.PULL
    transition = Transition(
        at=event.occurred_at,
        digest=digest,
        # A pull shows that the tag points there, not since when, nor who pushed it.
        source=TimeSource.FIRST_SEEN if is_pull else TimeSource.EVENT,
        not_before=before.as_of if is_pull and before is not None else None,
        actor=event.pushed_by,
        event_id=event.id,
    )
    late = weigh(before, event.occurred_at) is EventOrder.LATE
    if before is not None and digest is None and _is_known_already(before, dummy=dummy, late=late):
        yield _note_instant(before, timeline, event)
        yield WorkRequested(kind=WorkKind.VERIFY, repository=event.repository, key=tag)
        return
    apply = _apply_late if late else _apply_in_order
    change, previous, action = apply(before, timeline, event, transition)
    if dummy is not None and not change.after.live:
        change = replace(change, after=replace(change.after, deleted_by_dummy=True))
    if not late and event.own is not None:
        change = replace(change, after=with_dates_of(change.after, event.own))
    yield change
    yield event_entry(
        event,
        action,
        tag=True,
        digest=previous if digest is None else digest,
        previous_digest=previous,
        **({"late": True} if late else {}),
        **({"inferred_from": "pull"} if is_pull else {}),
        **({"dummy_manifest": dummy} if dummy is not None else {}),
        **_cause(known, event),
    )
    yield WorkRequested(kind=WorkKind.VERIFY, repository=event.repository, key=tag)


def _cause(known: Known, event: Event) -> dict[str, object]:
    """Name the deletion of a digest that a tag's deletion followed from."""
    if event.action is not EventAction.DELETE or not event.request.id:
        return {}
    cause = known.causes.get((event.repository, event.request.id))
    return {} if cause is None else {"caused_by": cause}


def _is_known_already(before: TagRecord, *, dummy: Digest | None, late: bool) -> bool:
    """Tell whether a deletion is one of several events of a deletion by GitLab (``dummies``) and not the first.

    First comes the push of the dummy, then the tag's own delete; between replicas also the other way round.
    """
    if before.live:
        return False
    return before.deleted_by_dummy if dummy is None else late


def _note_instant(before: TagRecord, timeline: Timeline, event: Event) -> TagChanged:
    """Record the event's instant and nothing else."""
    last_event_at = (
        event.occurred_at if before.last_event_at is None else max(before.last_event_at, event.occurred_at)
    )
    after = replace(before, revision=before.revision + 1, last_event_at=last_event_at, deleted_by_dummy=True)
    return TagChanged(before=before, after=after, history=timeline)


_Applied = tuple[TagChanged, Digest | None, AuditAction]
"""The change, the digest that the tag pointed to before, and the action of the entry."""

_Apply = Callable[[TagRecord | None, Timeline, Event, Transition], _Applied]


def _apply_in_order(
    before: TagRecord | None, timeline: Timeline, event: Event, transition: Transition
) -> _Applied:
    """Move state and timeline on. The record is unverified until an observation agrees.

    Where an observation found before what the event reports, only its instant and its author become known: an
    observation is made after the write, so an earlier event is its cause. A later one is another push of the same.
    """
    previous = before.digest if before is not None else None
    fitted = history.append(timeline, transition)
    if fitted == timeline:
        fitted = history.date(timeline, transition)
    opened = history.open_interval(fitted)
    dated = fitted != timeline
    same = before is not None and before.digest is not None and previous == transition.digest
    stays = same and not dated
    unbroken = before is not None and not before.broken
    assert event.tag is not None  # noqa: S101 - the caller checked; tells mypy
    after = TagRecord(
        repository=event.repository,
        name=event.tag,
        digest=transition.digest,
        revision=1 if before is None else before.revision + 1,
        last_event_at=event.occurred_at,
        last_observed_at=None if before is None else before.last_observed_at,
        evidence=Evidence.EVENT,
        published_at=_published(
            before, transition, same=stays, opened_at=opened.valid_from if opened else None
        ),
        published_source=before.published_source if stays and before is not None else transition.source,
        first_seen_at=(before.first_seen_at if before is not None and before.live else event.received_at),
        pushed_by=before.pushed_by if stays and before is not None else transition.actor,
        verified_at=before.verified_at if before is not None and same and unbroken else None,
        read_at=before.read_at if before is not None and same and unbroken else None,
    )
    change = TagChanged(before=before, after=after, history=fitted)
    return change, previous, _action(previous, transition.digest)


def _published(
    before: TagRecord | None, transition: Transition, *, same: bool, opened_at: datetime | None
) -> datetime:
    if same and before is not None:
        return before.published_at
    return opened_at if opened_at is not None else transition.at


def _apply_late(
    before: TagRecord | None, timeline: Timeline, event: Event, transition: Transition
) -> _Applied:
    """Put an event that is older than the record into the timeline; the state stays.

    Only the publish time may become better known: the event may be the push whose result an observation had found. An
    event of another state makes the record unverified: the order of two instants is only as good as the clocks are.
    """
    assert before is not None  # noqa: S101 - nothing is late without a record; tells mypy
    current = history.interval_at(timeline, transition.at)
    previous = current.digest if current is not None else None
    confirmed = [
        at for at in (before.last_event_at, before.last_observed_at) if at is not None and at > transition.at
    ]
    fitted = history.insert(
        timeline,
        transition,
        resumed_at=min(confirmed) if confirmed and before.live else None,
        ends_at=None if before.live else before.published_at,
        ends_source=TimeSource.EVENT if before.evidence is Evidence.EVENT else TimeSource.FIRST_SEEN,
    )
    opened, was_open = history.open_interval(fitted), history.open_interval(timeline)
    after = replace(
        before,
        revision=before.revision + 1,
        last_event_at=max(before.last_event_at, event.occurred_at)
        if before.last_event_at
        else event.occurred_at,
        verified_at=before.verified_at if event.imported or transition.digest == before.digest else None,
    )
    explained = opened is not None and was_open is not None and opened != was_open
    if explained and opened is not None:
        after = replace(
            after,
            published_at=opened.valid_from,
            published_source=opened.source,
            pushed_by=opened.actor if opened.event_id == event.id else after.pushed_by,
        )
    found_before = explained and opened is not None and opened.event_id == event.id
    action = AuditAction.TAG_REPUSHED if found_before else _action(previous, transition.digest)
    return TagChanged(before=before, after=after, history=fitted), previous, action


def _action(previous: Digest | None, digest: Digest | None) -> AuditAction:
    if digest is None:
        return AuditAction.TAG_DELETED
    if previous is None:
        return AuditAction.TAG_CREATED
    return AuditAction.TAG_REPUSHED if previous == digest else AuditAction.TAG_MOVED

"""Events → changes: what a notification makes of the inventory.

The rules, by what the event says (Distribution 2.8.2 and 3.1.1, measured):

- push with a tag: the tag points to the digest, and the repository holds the manifest.
- push without a tag: of ``application/octet-stream`` a blob, else a manifest (children of an index).
- mount: the repository has the blob, from another repository.
- delete with a tag: the tag is gone; the manifest stays. In the same request as a delete of a digest, which takes its
  tags along and is told first (2.8.2 and 3.1.1, seen), the entry names that event as its cause.
- delete with a digest: a manifest or a blob, told apart only by what is on record. Tags are not dropped by
  inference: their own events follow, and those on record with the digest are looked at.
- pull by GET: counted, and where it names no tag, as one of the tag that the client had checked (``pulls``).
- pull by HEAD: a check, counted apart.
- either, where it names content that is on no record: evidence that we missed something (a pull-through cache
  announces its content only this way).
- push of one of GitLab's dummies to a tag: the tag is gone; what follows of that deletion is not told twice.

Every event yields audit entries; none changes anything twice, since the store drops ids it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from indexer.inventory import history
from indexer.inventory.changes import (
    AuditAction,
    AuditSource,
    BlobAnnounced,
    Change,
    Checked,
    Entry,
    ManifestChanged,
    Pulled,
    TagChanged,
    VerifyTagsOfDigest,
    WorkKind,
    WorkRequested,
    dated,
)
from indexer.inventory.dummies import DUMMIES, is_dummy_push
from indexer.inventory.events import Event, EventAction
from indexer.inventory.history import Becoming, Timeline
from indexer.inventory.precedence import CLOCK_MARGIN, EventOrder, instant_of, is_close, weigh
from indexer.inventory.records import (
    Evidence,
    ManifestKey,
    ManifestRecord,
    TagKey,
    TagRecord,
    TimeSource,
)
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName


@dataclass(slots=True)
class Known:
    """What is on record about everything a batch of events names; each event's changes are folded back in."""

    tags: dict[TagKey, TagRecord] = field(default_factory=dict)
    histories: dict[TagKey, Timeline] = field(default_factory=dict)
    manifests: dict[ManifestKey, ManifestRecord] = field(default_factory=dict)
    blobs: set[Digest] = field(default_factory=set)
    dummies: set[Digest] = field(default_factory=lambda: set(DUMMIES))
    causes: dict[tuple[RepositoryName, str], str] = field(default_factory=dict)
    """By repository and request: the id of the event that told that a digest was deleted."""
    pulled_tags: Mapping[str, TagName] = field(default_factory=dict)
    """By the id of a GET by digest: the tag that it is a pull of, see ``pulls``."""

    def fold(self, change: Change) -> None:
        """Take a change in, so that the next event of the batch is decided on it."""
        if isinstance(change, TagChanged):
            self.tags[change.after.key] = change.after
            self.histories[change.after.key] = change.history
        elif isinstance(change, ManifestChanged):
            self.manifests[change.after.repository, change.after.digest] = change.after
        elif isinstance(change, BlobAnnounced):
            self.blobs.add(change.digest)


def apply_event(known: Known, event: Event) -> list[Change]:
    """Decide what ``event`` changes, and fold it into ``known``."""
    changes = []
    for change in map(dated, _decide(known, event)):
        known.fold(change)
        changes.append(change)
    return changes


def _decide(known: Known, event: Event) -> Iterator[Change]:
    match event.action:
        case EventAction.PUSH:
            return _pushed(known, event)
        case EventAction.PULL:
            return _pulled(known, event)
        case EventAction.MOUNT:
            return _mounted(known, event)
        case EventAction.DELETE:
            return _deleted(known, event)
    assert_never(event.action)


def _pushed(known: Known, event: Event) -> Iterator[Change]:
    if event.digest is None:
        return
    if event.is_blob:
        yield BlobAnnounced(digest=event.digest, size_bytes=event.size_bytes)
        yield _entry(event, AuditAction.BLOB_PUSHED, digest=event.digest)
        return
    if is_dummy_push(event, known.dummies):
        known.dummies.add(event.digest)  # of this batch, whatever made it one
        yield from _apply_tag_event(known, event, digest=None, dummy=event.digest)
        return
    newly_held = yield from _hold_manifest(known, event)
    if event.tag is None or newly_held:
        yield _entry(event, AuditAction.MANIFEST_PUSHED, digest=event.digest, media_type=event.media_type)
    if event.tag is not None:
        yield from _apply_tag_event(known, event, digest=event.digest)


def _hold_manifest(known: Known, event: Event) -> Generator[Change, None, bool]:
    """Record that the repository holds the manifest; return whether it did not before."""
    digest = event.digest
    if digest is None:
        return False
    before = known.manifests.get((event.repository, digest))
    event = replace(event, occurred_at=instant_of(event, before.as_of if before is not None else None))
    newly_held = before is None or not before.present
    doubtful = before is not None and newly_held and is_close(before.as_of, event.occurred_at)
    if before is not None and newly_held and before.as_of > event.occurred_at:
        # Deleted after this push, as far as the clocks tell.
        yield _ask(event, digest)
        return False
    after = ManifestRecord(
        repository=event.repository,
        digest=digest,
        pushed_at=event.occurred_at if newly_held or before is None else before.pushed_at,
        as_of=event.occurred_at if before is None else max(before.as_of, event.occurred_at),
        pushed_by=event.actor if newly_held or before is None else before.pushed_by,
    )
    yield ManifestChanged(
        before=before, after=after, media_type=event.media_type, size_bytes=event.size_bytes
    )
    asked = doubtful or (newly_held and event.imported)
    yield WorkRequested(kind=WorkKind.RESOLVE, repository=event.repository, key=digest, held=asked)
    return newly_held


def _ask(event: Event, digest: Digest) -> WorkRequested:
    """Whether the repository holds the manifest is for the registry to say: the evidence contradicts itself."""
    return WorkRequested(kind=WorkKind.RESOLVE, repository=event.repository, key=digest, held=True)


def _mounted(known: Known, event: Event) -> Iterator[Change]:
    if event.digest is None:
        return
    if event.digest not in known.blobs:
        yield BlobAnnounced(digest=event.digest, size_bytes=event.size_bytes)
    yield _entry(
        event, AuditAction.BLOB_MOUNTED, digest=event.digest, from_repository=event.from_repository or ""
    )


def _deleted(known: Known, event: Event) -> Iterator[Change]:
    if event.tag is not None:
        yield from _apply_tag_event(known, event, digest=None)
        return
    digest = event.digest
    if digest is None:
        return
    if event.request.id:
        known.causes[event.repository, event.request.id] = event.id
    manifest = known.manifests.get((event.repository, digest))
    if digest in known.dummies:
        if manifest is not None and manifest.present:
            yield from _manifest_gone(manifest, event, digest)
        return
    if manifest is None and digest in known.blobs:
        yield _entry(event, AuditAction.BLOB_DELETED, digest=digest)
        return
    yield from _manifest_gone(manifest, event, digest)
    yield VerifyTagsOfDigest(repository=event.repository, digest=digest)
    # An unknown digest may be a manifest whose push was lost, or a blob that was never announced.
    yield _entry(
        event,
        AuditAction.CONTENT_DELETED if manifest is None else AuditAction.MANIFEST_DELETED,
        digest=digest,
    )


def _manifest_gone(before: ManifestRecord | None, event: Event, digest: Digest) -> Iterator[Change]:
    """Record that the repository holds the manifest no longer; where evidence is too close, or younger, ask."""
    event = replace(event, occurred_at=instant_of(event, before.as_of if before is not None else None))
    late = before is not None and before.as_of > event.occurred_at
    if before is not None and before.present and (late or is_close(before.as_of, event.occurred_at)):
        yield _ask(event, digest)
    if late:
        return
    yield ManifestChanged(
        before=before,
        after=ManifestRecord(
            repository=event.repository,
            digest=digest,
            pushed_at=event.occurred_at if before is None else before.pushed_at,
            as_of=event.occurred_at,
            deleted_at=event.occurred_at,
            pushed_by=None if before is None else before.pushed_by,
        ),
    )


def _pulled(known: Known, event: Event) -> Iterator[Change]:
    if event.ours or event.is_blob or event.digest is None:
        return
    if event.is_check:
        yield Checked(repository=event.repository, tag=event.tag, digest=event.digest, at=event.occurred_at)
        yield _entry(event, AuditAction.MANIFEST_CHECKED, tag=True, digest=event.digest)
    else:
        yield from _fetched(known, event, event.digest)
    yield from _shown_by_pull(known, event)


def _fetched(known: Known, event: Event, digest: Digest) -> Iterator[Change]:
    """Count a GET: of the tag it names, or the one that the client had checked."""
    checked = known.pulled_tags.get(event.id) if event.tag is None else None
    tag = event.tag or checked
    yield Pulled(repository=event.repository, tag=tag, digest=digest, at=event.occurred_at)
    entry = _entry(event, AuditAction.MANIFEST_PULLED, tag=True, digest=digest)
    if checked is not None:
        entry = replace(entry, tag=checked, detail=entry.detail | {"tag_by": "check"})
    yield entry


def _shown_by_pull(known: Known, event: Event) -> Iterator[Change]:
    """Take what a client was served as evidence, where it is not what is on record."""
    if event.digest is None or event.digest in known.dummies:
        return
    # Close to other evidence the client may have read the state before it: then only a look can tell.
    manifest = known.manifests.get((event.repository, event.digest))
    if manifest is None or (not manifest.present and event.occurred_at > manifest.as_of + CLOCK_MARGIN):
        yield from _hold_manifest(known, event)
    elif not manifest.present and is_close(manifest.as_of, event.occurred_at):
        yield _ask(event, event.digest)
    if event.tag is None:
        return
    record = known.tags.get((event.repository, event.tag))
    if record is not None and record.digest == event.digest:
        return
    yield WorkRequested(kind=WorkKind.VERIFY, repository=event.repository, key=event.tag)
    if record is None or event.occurred_at > record.as_of + CLOCK_MARGIN:
        yield from _apply_tag_event(known, event, digest=event.digest)


def _apply_tag_event(
    known: Known, event: Event, *, digest: Digest | None, dummy: Digest | None = None
) -> Iterator[Change]:
    """Decide what becomes of a tag that ``event`` says points to ``digest``, or is gone (None).

    ``dummy`` is the manifest that GitLab put in the tag's place to delete it.
    """
    tag = event.tag
    if tag is None:
        return
    key = (event.repository, tag)
    before = known.tags.get(key)
    event = replace(event, occurred_at=instant_of(event, before.as_of if before is not None else None))
    timeline = known.histories.get(key, ())
    news = Becoming(
        at=event.occurred_at,
        digest=digest,
        # A pull shows that the tag points there, not since when.
        source=TimeSource.FIRST_SEEN if event.action is EventAction.PULL else TimeSource.EVENT,
        not_before=before.as_of if event.action is EventAction.PULL and before is not None else None,
        actor=event.actor,
        event_id=event.id,
    )
    late = weigh(before, event.occurred_at) is EventOrder.LATE
    if before is not None and digest is None and _is_known_already(before, dummy=dummy, late=late):
        yield _apply_again(before, timeline, event)
        yield WorkRequested(kind=WorkKind.VERIFY, repository=event.repository, key=tag)
        return
    place = _apply_late if late else _apply_in_order
    change, previous, action = place(before, timeline, event, news)
    if dummy is not None and not change.after.live:
        change = replace(change, after=replace(change.after, deleted_by_dummy=True))
    yield change
    yield _entry(
        event,
        action,
        tag=True,
        digest=previous if digest is None else digest,
        previous_digest=previous,
        **({"late": True} if late else {}),
        **({"inferred_from": "pull"} if event.action is EventAction.PULL else {}),
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
    """Tell whether a deletion is one event of several that GitLab's way of deleting makes (``dummies``).

    The push of the dummy told it, and the tag's own delete follows; or, between replicas, the other way round.
    """
    if before.live:
        return False
    return before.deleted_by_dummy if dummy is None else late


def _apply_again(before: TagRecord, timeline: Timeline, event: Event) -> TagChanged:
    """The record takes note of the event's instant, and of nothing else."""
    last_event_at = (
        event.occurred_at if before.last_event_at is None else max(before.last_event_at, event.occurred_at)
    )
    after = replace(before, revision=before.revision + 1, last_event_at=last_event_at, deleted_by_dummy=True)
    return TagChanged(before=before, after=after, history=timeline)


_Placed = tuple[TagChanged, Digest | None, AuditAction]
_Place = Callable[[TagRecord | None, Timeline, Event, Becoming], _Placed]


def _apply_in_order(before: TagRecord | None, timeline: Timeline, event: Event, news: Becoming) -> _Placed:
    """News that stands, provisionally: state and timeline move on."""
    previous = before.digest if before is not None else None
    timeline = history.append(timeline, news)
    opened = history.open_interval(timeline)
    same = before is not None and before.digest is not None and previous == news.digest
    unbroken = before is not None and not before.broken
    pull = event.action is EventAction.PULL
    assert event.tag is not None  # noqa: S101 - the caller checked; tells mypy
    after = TagRecord(
        repository=event.repository,
        name=event.tag,
        digest=news.digest,
        revision=1 if before is None else before.revision + 1,
        last_event_at=event.occurred_at,
        last_observed_at=None if before is None else before.last_observed_at,
        evidence=Evidence.EVENT,
        published_at=_published(before, news, same=same, opened_at=opened.valid_from if opened else None),
        published_source=before.published_source if same and before is not None else news.source,
        first_seen_at=(before.first_seen_at if before is not None and before.live else event.received_at),
        pushed_by=before.pushed_by if before is not None and (same or pull) else event.actor,
        verified_at=before.verified_at if before is not None and same and unbroken else None,
        read_at=before.read_at if before is not None and same and unbroken else None,
    )
    change = TagChanged(before=before, after=after, history=timeline)
    return change, previous, _action(previous, news.digest)


def _published(
    before: TagRecord | None, news: Becoming, *, same: bool, opened_at: datetime | None
) -> datetime:
    if same and before is not None:
        return before.published_at
    return opened_at if opened_at is not None else news.at


def _apply_late(before: TagRecord | None, timeline: Timeline, event: Event, news: Becoming) -> _Placed:
    """News from before what is on record: the timeline takes it where it belongs, the state stays.

    Only its publish time may become better known: the event may be the very push that a look had found. Where it names
    another state, that is to be verified anew: the order of two instants is only as good as the clocks are.
    """
    assert before is not None  # noqa: S101 - nothing is late without a record; tells mypy
    holder = history.held_at(timeline, news.at)
    previous = holder.digest if holder is not None else None
    confirmed = [
        at for at in (before.last_event_at, before.last_observed_at) if at is not None and at > news.at
    ]
    fitted = history.insert(
        timeline,
        news,
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
        verified_at=before.verified_at if event.imported or news.digest == before.digest else None,
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
    action = AuditAction.TAG_REPUSHED if found_before else _action(previous, news.digest)
    return TagChanged(before=before, after=after, history=fitted), previous, action


def _action(previous: Digest | None, digest: Digest | None) -> AuditAction:
    if digest is None:
        return AuditAction.TAG_DELETED
    if previous is None:
        return AuditAction.TAG_CREATED
    return AuditAction.TAG_REPUSHED if previous == digest else AuditAction.TAG_MOVED


def _entry(
    event: Event,
    action: AuditAction,
    *,
    tag: bool = False,
    digest: Digest | None = None,
    previous_digest: Digest | None = None,
    **detail: object,
) -> Entry:
    return Entry(
        action=action,
        source=AuditSource.NOTIFICATION,
        repository=event.repository,
        occurred_at=event.occurred_at,
        recorded_at=event.received_at,
        tag=event.tag if tag else None,
        digest=digest,
        previous_digest=previous_digest,
        event=event,
        detail=event.notes | ({"imported": True} if event.imported else {}) | detail,
    )

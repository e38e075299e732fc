"""Events → changes: what a notification changes in the inventory.

The rules, by what the event reports (measured with Distribution 2.8.2 and 3.1.1):

- push with a tag: the tag points to the digest, and the repository has the manifest (``tag_events``,
  ``manifest_events``).
- push without a tag: of ``application/octet-stream`` a blob, else a manifest (a child of an index).
- mount: the repository has the blob, from another repository.
- delete with a tag: the tag is gone, the manifest stays. If a delete of a digest in the same request came first, the
  entry names that event as its cause: deleting a digest deletes its tags.
- delete with a digest: a manifest or a blob; only the record tells which. No tag is deleted by inference: its own event
  follows, and every tag on record with the digest is verified.
- pull (``pull_events``): counted, and evidence where it names content that is not on record.
- push of one of GitLab's dummies to a tag: the tag is gone. Further events of that deletion change nothing
  (``dummies``).

Every event yields audit entries. No event is applied twice: the store drops ids that it has applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from indexer.inventory.changes import (
    AuditAction,
    BlobAnnounced,
    Change,
    VerifyTagsOfDigest,
    dated,
    event_entry,
)
from indexer.inventory.dummies import is_dummy_push
from indexer.inventory.events import Event, EventAction
from indexer.inventory.known import Known
from indexer.inventory.manifest_events import put_manifest, remove_manifest
from indexer.inventory.pull_events import apply_pull
from indexer.inventory.tag_events import apply_tag_event


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
            return _apply_push(known, event)
        case EventAction.PULL:
            return apply_pull(known, event)
        case EventAction.MOUNT:
            return _apply_mount(known, event)
        case EventAction.DELETE:
            return _apply_delete(known, event)
    assert_never(event.action)


def _apply_push(known: Known, event: Event) -> Iterator[Change]:
    if event.digest is None:
        return
    if event.is_blob:
        yield BlobAnnounced(digest=event.digest, size_bytes=event.size_bytes)
        yield event_entry(event, AuditAction.BLOB_PUSHED, digest=event.digest)
        return
    if is_dummy_push(event, known.dummies):
        known.dummies.add(event.digest)  # for this batch, also one that was recognised by its User-Agent
        yield from apply_tag_event(known, event, digest=None, dummy=event.digest)
        return
    is_new = yield from put_manifest(known, event, event.digest)
    if event.tag is None or is_new:
        yield event_entry(
            event, AuditAction.MANIFEST_PUSHED, digest=event.digest, media_type=event.media_type
        )
    if event.tag is not None:
        yield from apply_tag_event(known, event, digest=event.digest)


def _apply_mount(known: Known, event: Event) -> Iterator[Change]:
    if event.digest is None:
        return
    if event.digest not in known.blobs:
        yield BlobAnnounced(digest=event.digest, size_bytes=event.size_bytes)
    yield event_entry(
        event, AuditAction.BLOB_MOUNTED, digest=event.digest, from_repository=event.from_repository or ""
    )


def _apply_delete(known: Known, event: Event) -> Iterator[Change]:
    if event.tag is not None:
        yield from apply_tag_event(known, event, digest=None)
        return
    digest = event.digest
    if digest is None:
        return
    if event.request.id:
        known.causes[event.repository, event.request.id] = event.id
    manifest = known.manifests.get((event.repository, digest))
    if digest in known.dummies:
        if manifest is not None and manifest.present:
            yield from remove_manifest(manifest, event, digest)
        return
    if manifest is None and digest in known.blobs:
        yield event_entry(event, AuditAction.BLOB_DELETED, digest=digest)
        return
    yield from remove_manifest(manifest, event, digest)
    yield VerifyTagsOfDigest(repository=event.repository, digest=digest)
    # An unknown digest may be a manifest whose push was lost, or a blob that was never announced.
    yield event_entry(
        event,
        AuditAction.CONTENT_DELETED if manifest is None else AuditAction.MANIFEST_DELETED,
        digest=digest,
    )

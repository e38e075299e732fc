"""What an event changes of whether a repository has a manifest.

Instants of a push and a delete that are within the clock margin of each other may be in either order. Then the younger
one stands, and the registry is asked (a ``resolve`` of the digest).

``pushed_at`` is the first push since the manifest was last deleted. Events may come in any order, and an observation
may come before them all:

- A push of what is there already does not date it, and is remembered beside: cleanup must know that somebody wants it.
- A push that comes late dates the record, if it is older than ``pushed_at`` and no deletion is known in between.
- A deletion that comes late, of a manifest that the repository has again, was followed by another push. The record is
  then dated by its newest evidence, until the event of that push comes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import datetime

from indexer.inventory.changes import Change, ManifestChanged, WorkKind, WorkRequested
from indexer.inventory.events import Event, EventAction
from indexer.inventory.known import Known
from indexer.inventory.precedence import instant_of, is_close
from indexer.inventory.records import ManifestRecord
from indexer.oci.digest import Digest


def put_manifest(known: Known, event: Event, digest: Digest) -> Generator[Change, None, bool]:
    """Record that the repository has the manifest; return whether it did not have it before."""
    before = known.manifests.get((event.repository, digest))
    event = replace(event, occurred_at=instant_of(event, before.as_of if before is not None else None))
    is_new = before is None or not before.present
    is_uncertain = before is not None and is_new and is_close(before.as_of, event.occurred_at)
    if before is not None and is_new and before.as_of > event.occurred_at:
        # Deleted after this push, as far as the clocks tell.
        yield ask_registry(event, digest)
        return False
    yield ManifestChanged(
        before=before,
        after=_with_push(before, event, digest),
        media_type=event.media_type,
        size_bytes=event.size_bytes,
    )
    must_ask = is_uncertain or (is_new and event.imported)
    yield WorkRequested(kind=WorkKind.RESOLVE, repository=event.repository, key=digest, even_if_read=must_ask)
    return is_new


def _with_push(before: ManifestRecord | None, event: Event, digest: Digest) -> ManifestRecord:
    """Return the record after evidence that the repository has the manifest."""
    if before is None or not before.present:
        return ManifestRecord(
            repository=event.repository,
            digest=digest,
            pushed_at=event.occurred_at,
            as_of=event.occurred_at,
            pushed_by=event.pushed_by,
            absent_at=None if before is None else before.deleted_at,
        )
    after = replace(before, as_of=max(before.as_of, event.occurred_at))
    if event.action is not EventAction.PUSH:
        return after
    if event.occurred_at >= before.pushed_at:
        return replace(after, pushed_again_at=_later(before.pushed_again_at, event.occurred_at))
    if before.absent_at is not None and event.occurred_at <= before.absent_at:
        return after
    again = _later(before.pushed_again_at, before.pushed_at)
    return replace(after, pushed_at=event.occurred_at, pushed_by=event.pushed_by, pushed_again_at=again)


def _later(known: datetime | None, at: datetime) -> datetime:
    return at if known is None else max(known, at)


def remove_manifest(before: ManifestRecord | None, event: Event, digest: Digest) -> Iterator[Change]:
    """Record that the repository no longer has the manifest, unless the record rests on younger evidence."""
    event = replace(event, occurred_at=instant_of(event, before.as_of if before is not None else None))
    is_late = before is not None and before.as_of > event.occurred_at
    if before is not None and before.present and (is_late or is_close(before.as_of, event.occurred_at)):
        yield ask_registry(event, digest)
    if before is not None and is_late:
        if before.present:
            yield ManifestChanged(before=before, after=_with_late_deletion(before, event.occurred_at))
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
            absent_at=None if before is None else before.absent_at,
        ),
    )


def _with_late_deletion(before: ManifestRecord, at: datetime) -> ManifestRecord:
    """Return the record of a manifest that was deleted at an instant, and is there on younger evidence."""
    absent_at = at if before.absent_at is None else max(before.absent_at, at)
    if before.pushed_at > at:
        return replace(before, absent_at=absent_at)
    return replace(before, pushed_at=before.as_of, pushed_by=None, absent_at=absent_at)


def ask_registry(event: Event, digest: Digest) -> WorkRequested:
    """Return the work item that asks the registry whether the repository has the manifest."""
    return WorkRequested(kind=WorkKind.RESOLVE, repository=event.repository, key=digest, even_if_read=True)

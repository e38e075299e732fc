"""What a pull changes.

- A GET is counted, and where it names no tag, as a pull of the tag that the client had checked (``pulls``).
- A HEAD is a check, and is counted apart.
- Either is evidence where it names content that is not on record: an event was missed. A pull-through cache announces
  its content only this way.

A pull of a blob, and one of our own requests, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from indexer.inventory.changes import (
    AuditAction,
    Change,
    Checked,
    Pulled,
    WorkKind,
    WorkRequested,
    event_entry,
)
from indexer.inventory.events import Event
from indexer.inventory.known import Known
from indexer.inventory.manifest_events import ask_registry, put_manifest
from indexer.inventory.precedence import CLOCK_MARGIN, is_close
from indexer.inventory.tag_events import apply_tag_event
from indexer.oci.digest import Digest


def apply_pull(known: Known, event: Event) -> Iterator[Change]:
    """Decide what a GET or HEAD changes."""
    if event.ours or event.is_blob or event.digest is None:
        return
    if event.is_check:
        yield Checked(repository=event.repository, tag=event.tag, digest=event.digest, at=event.occurred_at)
        yield event_entry(event, AuditAction.MANIFEST_CHECKED, tag=True, digest=event.digest)
    else:
        yield from _count_get(known, event, event.digest)
    yield from _apply_as_evidence(known, event, event.digest)


def _count_get(known: Known, event: Event, digest: Digest) -> Iterator[Change]:
    """Count a GET as a pull of the tag that it names, or that the client had checked."""
    checked = known.pulled_tags.get(event.id) if event.tag is None else None
    tag = event.tag or checked
    yield Pulled(repository=event.repository, tag=tag, digest=digest, at=event.occurred_at)
    entry = event_entry(event, AuditAction.MANIFEST_PULLED, tag=True, digest=digest)
    if checked is not None:
        entry = replace(entry, tag=checked, detail=entry.detail | {"tag_by": "check"})
    yield entry


def _apply_as_evidence(known: Known, event: Event, digest: Digest) -> Iterator[Change]:
    """Correct the record where the client was served something else.

    Close to other evidence the client may have read the state before it: then only an observation can tell.
    """
    if digest in known.dummies:
        return
    manifest = known.manifests.get((event.repository, digest))
    if manifest is None or (not manifest.present and event.occurred_at > manifest.as_of + CLOCK_MARGIN):
        yield from put_manifest(known, event, digest)
    elif not manifest.present and is_close(manifest.as_of, event.occurred_at):
        yield ask_registry(event, digest)
    if event.tag is None:
        return
    record = known.tags.get((event.repository, event.tag))
    if record is not None and record.digest == digest:
        return
    yield WorkRequested(kind=WorkKind.VERIFY, repository=event.repository, key=event.tag)
    if record is None or event.occurred_at > record.as_of + CLOCK_MARGIN:
        yield from apply_tag_event(known, event, digest=digest)

"""What evidence changes: the values that decisions return and ``store.apply`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from indexer.inventory import history
from indexer.inventory.events import Event
from indexer.inventory.own_actions import ActionKind
from indexer.inventory.records import BrokenReason, Interval, ManifestRecord, TagRecord
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName


class AuditAction(StrEnum):
    """What happened: the ``action`` of an audit entry."""

    TAG_CREATED = "tag.created"
    TAG_MOVED = "tag.moved"
    TAG_REPUSHED = "tag.repushed"
    TAG_DELETED = "tag.deleted"
    TAG_BROKEN = "tag.broken"
    TAG_READABLE = "tag.readable"
    MANIFEST_PUSHED = "manifest.pushed"
    MANIFEST_DELETED = "manifest.deleted"
    MANIFEST_FOUND = "manifest.found"
    MANIFEST_PULLED = "manifest.pulled"
    MANIFEST_CHECKED = "manifest.checked"
    BLOB_PUSHED = "blob.pushed"
    BLOB_DELETED = "blob.deleted"
    BLOB_MOUNTED = "blob.mounted"
    CONTENT_DELETED = "content.deleted"
    POLICY_CHANGED = "policy.changed"
    HOLD_ADDED = "hold.added"
    HOLD_REMOVED = "hold.removed"
    CLEANUP_PLANNED = "cleanup.planned"
    CLEANUP_APPROVED = "cleanup.approved"
    CLEANUP_REJECTED = "cleanup.rejected"
    CLEANUP_CANCELLED = "cleanup.cancelled"
    CLEANUP_NEAR_MISS = "cleanup.near_miss"
    CLEANUP_CONFIRMED = "cleanup.confirmed"
    JOB_ENDED = "job.ended"
    JOB_REQUESTED = "job.requested"
    OPERATOR_AUDIT_KEY_REPLACED = "operator.audit_key_replaced"
    REQUEST_DENIED = "request.denied"
    REQUEST_FAILED = "request.failed"
    LOG_ARCHIVED = "log.archived"
    LOG_DROPPED = "log.dropped"
    OPERATOR_BRAKE_RELEASED = "operator.brake_released"
    OPERATOR_FEED_DISCARDED = "operator.feed_discarded"
    OPERATOR_FEED_REMOVED = "operator.feed_removed"
    OPERATOR_FEED_REPLAYED = "operator.feed_replayed"
    OPERATOR_FEED_RETRIED = "operator.feed_retried"
    OPERATOR_HISTORY_IMPORTED = "operator.history_imported"
    OPERATOR_INBOX_DISCARDED = "operator.inbox_discarded"
    OPERATOR_INBOX_RETRIED = "operator.inbox_retried"
    OPERATOR_MAINTENANCE_BEGAN = "operator.maintenance_began"
    OPERATOR_MAINTENANCE_ENDED = "operator.maintenance_ended"
    OPERATOR_PEOPLE_ERASED = "operator.people_erased"
    OPERATOR_RECONCILED = "operator.reconciled"
    CLEANUP_TAG_DELETED = "cleanup.tag_deleted"
    CLEANUP_RESTORED = "cleanup.restored"
    CLEANUP_PUT_BACK = "cleanup.put_back"
    STORAGE_DAMAGED = "storage.damaged"
    STORAGE_REPAIRED = "storage.repaired"
    COLLECTION_PLANNED = "gc.planned"
    COLLECTION_OVERLAPPED = "gc.overlapped"


class AuditSource(StrEnum):
    """How we know: the ``source`` of an audit entry. ``walk`` is a reconcile."""

    NOTIFICATION = "notification"
    WALK = "walk"
    VERIFY = "verify"
    STORAGE = "storage"
    POLICY = "policy"
    OPERATOR = "operator"
    ACCESS_LOG = "access-log"


OTHER_SOURCE_NAMES = {"reconcile": AuditSource.WALK}
"""Further names that filters accept; an entry always shows the value of the source itself."""


ACTION_OF: Final[Mapping[ActionKind, AuditAction]] = {
    ActionKind.DELETE: AuditAction.CLEANUP_TAG_DELETED,
    ActionKind.RESTORE: AuditAction.CLEANUP_RESTORED,
    ActionKind.PUT_BACK: AuditAction.CLEANUP_PUT_BACK,
    ActionKind.UNLINK: AuditAction.CLEANUP_TAG_DELETED,
}
"""The action of the entry of a tag's event that is of one of our own actions."""


class WorkKind(StrEnum):
    """The kinds of work items."""

    VERIFY = "verify"
    RESOLVE = "resolve"
    MEASURE = "measure"


class DriftKind(StrEnum):
    """How the inventory differed from the registry."""

    TAG_MISSING = "tag_missing"
    TAG_STALE = "tag_stale"
    TAG_EXTRA = "tag_extra"
    TAG_BROKEN = "tag_broken"
    TAG_READABLE = "tag_readable"
    MANIFEST_EXTRA = "manifest_extra"
    MANIFEST_MISSING = "manifest_missing"


class DriftCause(StrEnum):
    """Why the inventory differed, as far as it is known. ``inventory/causes`` finds those that later evidence tells.

    - ``first_reconcile``: it was there before the indexer.
    - ``race``: two pushes of one tag; the order of the events was not the registry's.
    - ``dangling_tag``: the tag exists, its manifest does not.
    - ``unreadable_tag``: the registry lists the tag and fails (500) whenever it is asked for it.
    - ``late_notification``: the event came after the observation.
    - ``lost_notification``: no event came, and the registry is known to have lost some in that time.
    - ``out_of_band``: no event came, and none was lost: it was not done through the API.
    - ``garbage_collection``: a manifest is gone, and so is content that only it had.
    - ``unannounced``, of manifests ``content_removed``: no event came, and the reason is not known.
    """

    FIRST_RECONCILE = "first_reconcile"
    RACE = "race"
    DANGLING_TAG = BrokenReason.DANGLING_TAG.value
    UNREADABLE_TAG = BrokenReason.UNREADABLE_TAG.value
    LATE_NOTIFICATION = "late_notification"
    LOST_NOTIFICATION = "lost_notification"
    OUT_OF_BAND = "out_of_band"
    GARBAGE_COLLECTION = "garbage_collection"
    UNANNOUNCED = "unannounced"
    CONTENT_REMOVED = "content_removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChanged:
    """A tag's record, and the loaded part of its history, after the change. ``before`` None: nothing was on record."""

    before: TagRecord | None
    after: TagRecord
    history: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestChanged:
    """Whether a repository has a manifest. Media type and size in bytes are the evidence's; '' and 0: none."""

    before: ManifestRecord | None
    after: ManifestRecord
    media_type: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAnnounced:
    """A blob exists, or existed, in the registry."""

    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A client pulled. Counted per tag and per manifest."""

    repository: RepositoryName
    tag: TagName | None
    digest: Digest | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A client asked by HEAD: no pull, but a client that has the content asks in no other way."""

    repository: RepositoryName
    tag: TagName | None
    digest: Digest
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRequested:
    """A work item is wanted: ``key`` is the tag to verify, or the digest to resolve.

    ``even_if_read``: ask whether the repository has the manifest, even if its content was read elsewhere.
    ``unless_waiting``: an item that waits already keeps its time and its attempts.
    """

    kind: WorkKind
    repository: RepositoryName
    key: str
    even_if_read: bool = False
    unless_waiting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTagsOfDigest:
    """Every tag of ``repository`` that is on record with ``digest`` must be verified."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One audit entry. ``event`` has who and from where; entries of observations have none."""

    action: AuditAction
    source: AuditSource
    repository: RepositoryName
    occurred_at: datetime
    recorded_at: datetime
    not_before: datetime | None = None
    tag: TagName | None = None
    digest: Digest | None = None
    previous_digest: Digest | None = None
    event: Event | None = None
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference that an observation found, for the drift report. ``not_before``: it arose after this instant."""

    kind: DriftKind
    cause: DriftCause
    repository: RepositoryName
    detected_at: datetime
    repaired: bool
    not_before: datetime | None = None
    tag: TagName | None = None
    expected: Digest | None = None
    found: Digest | None = None


Change = (
    TagChanged
    | ManifestChanged
    | BlobAnnounced
    | Pulled
    | Checked
    | WorkRequested
    | VerifyTagsOfDigest
    | Entry
    | Finding
)


def dated(change: Change) -> Change:
    """Return the change of a tag with its ``alive_since`` as the history now has it; other changes as they are."""
    if not isinstance(change, TagChanged):
        return change
    before = change.before
    known = before.alive_since if before is not None and before.live else None
    since = history.alive_since(change.history, known) if change.after.live else None
    if since == change.after.alive_since:
        return change
    after = replace(change.after, alive_since=since)
    return TagChanged(before=before, after=after, history=change.history)


def event_entry(
    event: Event,
    action: AuditAction,
    *,
    tag: bool = False,
    digest: Digest | None = None,
    previous_digest: Digest | None = None,
    **detail: object,
) -> Entry:
    """Return the audit entry of an event; ``tag``: it is about the event's tag. ``detail`` is added to its notes.

    Of an action of our own the entry says that, by whom it was asked for, and why. A manifest that we deleted by its
    digest stays ``manifest.deleted``.
    """
    source = AuditSource.NOTIFICATION
    own = event.own
    if own is not None:
        detail = own.detail | detail
        if tag or event.tag is None:
            if tag or own.kind is not ActionKind.UNLINK:
                action = ACTION_OF[own.kind]
            source = AuditSource(own.source)
            event = replace(event, actor=own.actor or event.actor)
    return Entry(
        action=action,
        source=source,
        repository=event.repository,
        occurred_at=event.occurred_at,
        recorded_at=event.received_at,
        tag=event.tag if tag else None,
        digest=digest,
        previous_digest=previous_digest,
        event=event,
        detail=event.notes | ({"imported": True} if event.imported else {}) | detail,
    )

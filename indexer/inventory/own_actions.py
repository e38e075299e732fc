"""What we do to tags of the registry ourselves, and how the events of it are recorded. Pure.

Acting never writes the inventory: it changes the registry, and the event of that comes back. The event carries the
signature of our request (``own_requests``), and the request is on record with the action it was sent for. So the entry
of that event names the action, its cause and who asked for it, and there is no second entry of the same change.

A tag that is put back or restored keeps its dates and who pushed it: it points to what it pointed to before.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum, unique

from indexer.inventory.records import TagRecord, TimeSource
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName


@unique
class ActionKind(StrEnum):
    """What is done to a tag. ``put_back``: a push that our own request had undone is made good.

    ``unlink``: a manifest is deleted by its digest, once nothing needs it.
    """

    DELETE = "delete"
    RESTORE = "restore"
    PUT_BACK = "put_back"
    UNLINK = "unlink"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAction:
    """One action, as the events of its requests are recorded.

    ``source``: ``policy`` or ``operator``. ``actor``: who asked for it. The last four are those of the tag as it was.
    """

    id: str
    kind: ActionKind
    source: str
    actor: str | None = None
    reason: str | None = None
    job: str | None = None
    published_at: datetime | None = None
    published_source: TimeSource | None = None
    first_seen_at: datetime | None = None
    pushed_by: str | None = None

    @property
    def detail(self) -> dict[str, object]:
        """What its audit entries say beside who and what."""
        named = {"cleanup": self.id, "job": self.job, "reason": self.reason}
        return {key: value for key, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAction:
    """One action on one tag, or on a manifest: then ``tag`` is empty. The columns of ``tag_action`` (schema.sql)."""

    id: uuid.UUID
    kind: ActionKind
    state: str
    repository: RepositoryName
    tag: TagName
    digest: Digest
    dummy: Digest | None
    source: str
    actor: str | None
    reason: str | None
    job: uuid.UUID | None
    of_action: uuid.UUID | None
    asked_at: datetime
    looked_at: datetime | None
    requested_at: datetime | None
    done_at: datetime | None
    ended_at: datetime | None
    kept_until: datetime
    outcome: str | None
    note: str | None
    gone: str | None
    published_at: datetime | None
    published_source: TimeSource | None
    first_seen_at: datetime | None
    pushed_by: str | None
    events: int = 0

    @property
    def is_on_manifest(self) -> bool:
        """Whether it is about a manifest, and no tag of it."""
        return not self.tag


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedEvent:
    """An event of a tag or a manifest while it was watched, by the registry's clock.

    - ``ours``: of a request that we sent; ``announces``: for this very action.
    - ``digest``: what was pushed; None: the tag, or the manifest, was deleted.
    - ``tag``: to which tag a watched manifest was pushed; None: by its digest, or a tag is watched.
    - ``instance_first_at``: the first event of the registry process that sent it.
    """

    at: datetime
    ours: bool
    announces: bool
    digest: Digest | None
    actor: str | None
    instance: int
    instance_first_at: datetime
    tag: TagName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherInstance:
    """A registry process that sent events lately.

    ``counted_from``, ``accounted_until``, ``ended_at``: as its counters show, where they are read.
    """

    id: int
    address: str
    first_event_at: datetime
    last_event_at: datetime
    counted_from: datetime | None
    accounted_until: datetime | None
    ended_at: datetime | None


def with_dates_of(record: TagRecord, own: OwnAction | None) -> TagRecord:
    """Return the record of a tag that an action brought back, with the dates that it had before."""
    if own is None or own.kind is ActionKind.DELETE or not record.live or own.published_at is None:
        return record
    return replace(
        record,
        published_at=own.published_at,
        published_source=own.published_source or record.published_source,
        first_seen_at=own.first_seen_at or record.first_seen_at,
        pushed_by=own.pushed_by,
    )

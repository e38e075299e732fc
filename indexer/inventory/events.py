"""One event of a notification, decoded: what ``apply_event`` decides on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from indexer.inventory.own_actions import OwnAction
from indexer.oci.digest import Digest
from indexer.oci.media_types import is_unclassified_blob
from indexer.oci.reference import RepositoryName, TagName


class EventAction(StrEnum):
    """The actions of Distribution 2.8 and 3.x (notifications/event.go)."""

    PUSH = "push"
    PULL = "pull"
    MOUNT = "mount"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """The client's request, as the registry reports it. The client controls it: never trust it, never link to it."""

    id: str | None = None
    address: str = ""
    port: int | None = None
    host: str = ""
    method: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInfo:
    """The registry process that sent the event: ``hostname:port``, and an id that is new with every start."""

    address: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A decoded event.

    - ``occurred_at``: the event's own timestamp, but never later than ``received_at``. Otherwise a registry whose clock
      runs ahead would make all later events late. ``claimed_at``: the timestamp, where it was later.
    - ``notes``: what was altered to make the event storable (a cut user agent, an escaped NUL), and what was odd.
    - ``imported``: it comes from an older history, long after it happened.
    - ``claim``: what the request carries to prove that it is our own ('': only our name); ``store/own_requests`` checks
      it. ``ours``: it is.
    - ``write``: the proxy's id of the request; see ``inventory.write_notices``.
    - ``own``: what it is the event of, where it is one of our own actions (``store/tag_actions``).
    """

    id: str
    occurred_at: datetime
    received_at: datetime
    claimed_at: datetime | None = None
    action: EventAction
    repository: RepositoryName
    tag: TagName | None = None
    digest: Digest | None = None
    media_type: str = ""
    size_bytes: int = 0
    from_repository: str | None = None
    actor: str | None = None
    request: RequestInfo = field(default_factory=RequestInfo)
    instance: InstanceInfo = field(default_factory=InstanceInfo)
    notes: dict[str, object] = field(default_factory=dict)
    claim: str | None = None
    write: str | None = None
    ours: bool = False
    own: OwnAction | None = None
    imported: bool = False

    @property
    def is_blob(self) -> bool:
        """True for a blob: Distribution labels every blob ``application/octet-stream`` (2.8.2 and 3.1.1).

        A delete has no type at all; there only the record tells.
        """
        return is_unclassified_blob(self.media_type) and self.tag is None

    @property
    def pushed_by(self) -> str | None:
        """Who put there, or deleted, what it names. A pull does not say that: its actor fetched the content."""
        return None if self.action is EventAction.PULL else self.actor

    @property
    def is_check(self) -> bool:
        """True where a client asked by HEAD and fetched nothing."""
        return self.action is EventAction.PULL and self.request.method.upper() == "HEAD"

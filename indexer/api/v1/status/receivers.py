"""Deliveries to others: the feeds of the audit log, and events forwarded to GitLab."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.api.v1.status.ages import age
from indexer.common.rfc3339 import format_time
from indexer.store.feeds import FeedState
from indexer.store.forwarding import ForwardingBacklog


class ForwardingShown(Shown):
    """Events forwarded to GitLab; all 0 where forwarding is not configured."""

    waiting: int
    since: datetime | None
    age_seconds: float | None
    dead: int = Field(
        description="Dead letters: events that GitLab refused for good, and that are still kept."
    )
    forwarded: int = Field(description="Since the beginning.")
    dropped: int = Field(description="Since the beginning: they waited too long, or too many waited.")


class FeedShown(Shown):
    """A feed of the audit log."""

    name: str
    kind: str
    position: int = Field(
        description="Up to this position every entry is delivered, a dead letter, or filtered out."
    )
    behind: int = Field(description="Sealed entries after that position.")
    behind_since: datetime | None = Field(description="When the oldest of them was recorded.")
    age_seconds: float | None
    delivered: int = Field(description="Since the beginning, repeated deliveries included.")
    dead: int = Field(description="Dead letters: entries that the receiver refused for good.")
    attempts: int = Field(description="Failed attempts since the last one that succeeded.")
    replays: int
    delivered_at: datetime | None
    failed_at: datetime | None
    retry_at: datetime | None
    stopped: str | None = Field(
        description="Why the feed has stopped until an operator acts; null: it has not."
    )
    last_error: str | None


def show_forwarding(backlog: ForwardingBacklog, now: datetime) -> dict[str, Any]:
    """Return a :class:`ForwardingShown` for the response."""
    return {
        "waiting": backlog.waiting,
        "since": format_time(backlog.since),
        "age_seconds": age(backlog.since, now),
        "dead": backlog.dead,
        "forwarded": backlog.forwarded,
        "dropped": backlog.dropped,
    }


def show_feed(feed: FeedState, now: datetime) -> dict[str, Any]:
    """Return a :class:`FeedShown` for the response."""
    return {
        "name": feed.name,
        "kind": feed.kind,
        "position": feed.position,
        "behind": feed.behind,
        "behind_since": format_time(feed.behind_since),
        "age_seconds": age(feed.behind_since, now),
        "delivered": feed.delivered,
        "dead": feed.dead,
        "attempts": feed.attempts,
        "replays": feed.replays,
        "delivered_at": format_time(feed.delivered_at),
        "failed_at": format_time(feed.failed_at),
        "retry_at": format_time(feed.retry_at),
        "stopped": feed.stopped,
        "last_error": feed.last_error,
    }

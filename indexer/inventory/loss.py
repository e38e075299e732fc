"""What is known of a registry process's events, and what can be said of their loss: values. Pure.

``reconciler/loss`` decides on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from indexer.common.rfc3339 import format_time


@unique
class LossState(StrEnum):
    """What can be said of the events of an interval: none was lost, at most so many, or it is unknown."""

    NOTHING_LOST = "nothing_lost"
    AT_MOST = "at_most"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A registry process as its debug address shows it. Each field is a column of ``registry_process`` (schema.sql)."""

    id: int
    address: str
    instance_id: int | None
    began_at: datetime
    read_at: datetime
    accounted_until: datetime
    mark_at: datetime
    suspected_at: datetime | None
    events: int
    delivered: int
    accepted: int
    pending: int
    mark_events: int
    mark_lost: int
    accounted_lost: int
    accounted_events: int
    missing: int
    gc_cycles: int
    last_gc_nanoseconds: int | None
    process_start_seconds: float | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSession:
    """When one process of ours could take deliveries: from ``opened_at`` to ``heartbeat_at``, its last report."""

    opened_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Downtime:
    """An interval in which no process of ours could take deliveries."""

    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord:
    """A registry instance: when events of it were received, and from when to when its own counters were read."""

    id: int
    address: str
    first_seen_at: datetime
    last_seen_at: datetime
    counted_from: datetime | None
    counted_to: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStatement:
    """What can be said of the events that a process made from ``from_at`` to ``to_at``.

    ``lost``: at most. ``waiting_at_end``: queued in the memory of a process that ended, when it was last read.
    ``needs_reconcile``: a full reconcile has to follow.
    """

    state: LossState
    from_at: datetime
    to_at: datetime
    lost: int | None = None
    because: str | None = None
    needs_reconcile: bool = False
    waiting_at_end: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as the API and ``reconciler status --json`` show it."""
        return {
            "state": self.state,
            "lost": self.lost,
            "from": format_time(self.from_at),
            "to": format_time(self.to_at),
            "because": self.because,
        }


NO_COUNTERS = "no counters are read: RECONCILER_REGISTRY_DEBUG_URLS is not set"
NOT_LINKED = "none of the counters that are read is known to be this instance's"


def current_statement(account: Account, statements: Sequence[LossStatement]) -> LossStatement:
    """Return what can be said of the events up to the last reading; ``statements``: the latest first."""
    last = statements[0] if statements else None
    if account.error is None and last is not None and last.to_at == account.read_at:
        return last
    waiting = account.events - account.delivered
    if account.error is not None:
        because = f"its debug address could not be read: {account.error}"
    elif waiting > 0:
        because = f"{waiting} events wait in the registry's memory; they are delivered unless it ends"
    elif account.suspected_at is not None and account.instance_id is None:
        because = "it is not known yet which instance these counters are of"
    elif account.suspected_at is not None:
        because = f"{account.missing} events are on their way here, or missing"
    elif account.began_at == account.read_at:
        because = "its counters were read only once so far"
    else:
        because = "what was received is not applied yet"
    return LossStatement(
        state=LossState.UNKNOWN, from_at=account.accounted_until, to_at=account.read_at, because=because
    )


def without_counters(*, first_seen_at: datetime, now: datetime, some_are_read: bool) -> LossStatement:
    """Return what can be said of an instance that no debug address is known to belong to."""
    because = NOT_LINKED if some_are_read else NO_COUNTERS
    return LossStatement(state=LossState.UNKNOWN, from_at=first_seen_at, to_at=now, because=because)

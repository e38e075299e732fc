"""Lost events, by registry process: what can be said from its counters and ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.common.rfc3339 import format_time
from indexer.inventory.loss import LossState
from indexer.store.instants import known
from indexer.store.listing import status as store
from indexer.store.listing.page_query import Row


class Loss(Shown):
    """How many of the events that the registry made in an interval were lost."""

    state: LossState
    lost: int | None = Field(description="Upper bound; null unless the state is `at_most`.")
    from_: datetime = Field(alias="from")
    to: datetime
    because: str | None


class ProcessShown(Shown):
    """A registry process by its own counters, which are read at its debug address."""

    address: str
    instance_id: str | None = Field(
        description="The instance with these counters; null while it is not known which it is."
    )
    began_at: datetime = Field(description="When the counters were first read.")
    read_at: datetime
    ended_at: datetime | None
    error: str | None = Field(description="Why the counters could not be read last time; null: they were.")
    events: int = Field(description="Events that the process made for our endpoint since it began.")
    delivered: int
    pending: int
    missing: int = Field(description="Upper bound of the events that were delivered and not received.")
    loss: Loss
    intervals: list[Loss] = Field(description="The latest first; at most 5.")


class Instance(Shown):
    """One registry process: a restart makes a new one."""

    instance_id: str
    address: str
    events: int = Field(description="Different events received.")
    first_seen_at: datetime
    last_seen_at: datetime
    first_event_at: datetime | None
    last_event_at: datetime | None
    missing: int | None = Field(
        description="Upper bound of the events that were delivered by its counters and not received; null: not known."
    )
    loss: Loss
    intervals: list[Loss] = Field(description="The latest first; at most 5.")


def show_instances(found: store.StatusRows) -> Sequence[dict[str, Any]]:
    """Return every :class:`Instance` for the response."""
    return [_show_instance(found, row) for row in found.instances]


def _show_instance(found: store.StatusRows, row: Row) -> dict[str, Any]:
    process = found.process_of(row)
    return {
        "instance_id": row["instance"],
        "address": row["address"],
        "events": row["events"],
        "first_seen_at": format_time(row["first_seen_at"]),
        "last_seen_at": format_time(row["last_seen_at"]),
        "first_event_at": format_time(known(row["first_event_at"])),
        "last_event_at": format_time(known(row["last_event_at"])),
        "missing": None if process is None else process.account.missing,
        "loss": found.loss_of(row).as_json(),
        "intervals": [each.as_json() for each in found.intervals_of(row)],
    }


def show_processes(found: store.StatusRows) -> Sequence[dict[str, Any]]:
    """Return every :class:`ProcessShown` for the response."""
    names = {row["id"]: row["instance"] for row in found.instances}
    return [
        {
            "address": each.account.address,
            "instance_id": names.get(each.account.instance_id),
            "began_at": format_time(each.account.began_at),
            "read_at": format_time(each.account.read_at),
            "ended_at": format_time(each.ended_at),
            "error": each.account.error,
            "events": each.account.events,
            "delivered": each.account.delivered,
            "pending": each.account.pending,
            "missing": each.account.missing,
            "loss": each.now.as_json(),
            "intervals": [interval.as_json() for interval in each.intervals],
        }
        for each in found.processes
    ]

"""What is claimed of lost events, by registry process."""

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
    """What is claimed of the events that were made in an interval."""

    state: LossState
    lost: int | None = Field(description="At most so many; null unless the state is `at_most`.")
    from_: datetime = Field(alias="from")
    to: datetime
    because: str | None


class ProcessShown(Shown):
    """A registry process by its own counters, read at its debug address."""

    address: str
    instance_id: str | None = Field(description="Whose counters these are; null while that is not known.")
    began_at: datetime = Field(description="Of the first reading.")
    read_at: datetime
    ended_at: datetime | None
    error: str | None = Field(description="Why the last reading failed; null: it did not.")
    events: int = Field(description="Made for our endpoint since the process began.")
    delivered: int
    pending: int
    missing: int = Field(description="Delivered and not received, at most.")
    loss: Loss
    intervals: list[Loss] = Field(description="The latest first; at most 5.")


class Instance(Shown):
    """One registry process: a restart makes a new one."""

    instance_id: str
    address: str
    events: int = Field(description="Distinct events received.")
    first_seen_at: datetime
    last_seen_at: datetime
    first_event_at: datetime | None
    last_event_at: datetime | None
    missing: int | None = Field(
        description="Delivered by its counters and not received, at most; null: unknown."
    )
    loss: Loss
    intervals: list[Loss] = Field(description="The latest first; at most 5.")


def show_instances(found: store.StatusRows) -> Sequence[dict[str, Any]]:
    """Return each :class:`Instance` as it is answered."""
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
    """Return each :class:`Process` as it is answered."""
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

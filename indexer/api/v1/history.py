"""The history of a tag: what it pointed to, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of, readable_repository
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Time
from indexer.api.paths import HISTORY
from indexer.api.problems import not_found
from indexer.api.responses import Items
from indexer.common.rfc3339 import format_time
from indexer.inventory.records import TimeSource
from indexer.oci.digest import digest_from_bytes
from indexer.store.identifiers import event_text
from indexer.store.instants import known
from indexer.store.listing.history import history_of_tag, is_tag_known
from indexer.store.listing.page_query import Row, fetch_page

SCOPE = "history"


class HistoryQuery(ListQuery):
    """The history of one tag."""

    sort: Literal["from", "-from"] = Field(default="-from", description="`-from`: the newest first.")
    at: Time | None = Field(default=None, description="Only what the tag pointed to at that time.")


class HistoryAt(Shown):
    """The interval in which a tag pointed to a digest."""

    digest: str
    from_: datetime = Field(alias="from", description="Inclusive.")
    to: datetime | None = Field(description="Exclusive; null: the tag still points to it.")
    from_source: TimeSource = Field(description="How the start is known.")
    not_before: datetime | None = Field(
        description="Earliest possible start, if the start is only known to be between this and `from`."
    )
    actor: str | None
    event_id: str | None = Field(description="The registry's id of the event that announced it.")
    to_source: TimeSource | None = Field(description="How the end is known; null: it is open, or not known.")
    to_not_before: datetime | None = Field(
        description="Earliest possible end, if the end is only known to be between this and `to`."
    )


@operation(HISTORY, query=HistoryQuery, result=Listed[HistoryAt], item=HistoryAt)
async def list_history(call: ApiCall[HistoryQuery]) -> Items:
    """List what a tag pointed to, newest first, also for a tag that was deleted.

    With `at`, the list has the one interval of that time, or nothing if the tag did not exist then.
    """
    query, tag = call.query, call.path["tag"]
    async with call.readers.reading() as held:
        repository = await readable_repository(held, call)
        listing = history_of_tag(
            repository_id=repository.id, tag=tag, at=query.at, descending=query.sort.startswith("-")
        )
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        if not found.rows and not await is_tag_known(held, repository_id=repository.id, tag=tag):
            raise not_found("no such tag was ever on record")
        count = await counted(held, call, listing)
    shown = [show_interval(row) for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=repository.freshness, count=count)


def show_interval(row: Row) -> dict[str, Any]:
    """Return a :class:`HistoryAt` for the response."""
    return {
        "digest": digest_from_bytes(row["digest"]),
        "from": format_time(row["valid_from"]),
        "to": format_time(known(row["valid_to"])),
        "from_source": row["from_source"],
        "not_before": format_time(row["not_before"]),
        "actor": row["actor"],
        "event_id": event_text(row["event_key"]),
        "to_source": row["to_source"],
        "to_not_before": format_time(row["to_not_before"]),
    }

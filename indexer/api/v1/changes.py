"""Tags that differ between two times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Text, Texts, Time
from indexer.api.responses import Items
from indexer.common.rfc3339 import format_time
from indexer.inventory.records import TimeSource
from indexer.oci.digest import digest_from_bytes
from indexer.store.identifiers import event_text
from indexer.store.listing.changes import changes_between, digests_at
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import Row, fetch_page
from indexer.store.listing.scopes import find_scope

SCOPE = "changes"


class ChangesQuery(ListQuery):
    """What is different at `until` from what was at `since`."""

    since: Time = Field(description="The time of the old state.")
    until: Time | None = Field(default=None, description="The time of the new state; now, if not given.")
    other_names: ClassVar[Mapping[str, str]] = {"after_time": "since", "before_time": "until"}
    not_in_cursors: ClassVar[frozenset[str]] = frozenset({"since", "until"})
    repository: Texts | None = Field(default=None, description="In any of these repositories.")
    prefix: Text | None = Field(default=None, description="In repositories whose name begins with this.")


class TagChange(Shown):
    """A tag that was created, moved or deleted."""

    repository: str
    tag: str
    change: Literal["created", "moved", "deleted"]
    digest: str | None = Field(description="At `until`; null: the tag did not exist.")
    previous_digest: str | None = Field(description="At `since`; null: the tag did not exist.")
    at: datetime = Field(description="When the tag got the state that it has at `until`.")
    source: TimeSource | None = Field(description="How `at` is known.")
    not_before: datetime | None = Field(
        description="Earliest possible time, if it is only known to be between this and `at`."
    )
    actor: str | None = Field(description="Who did it. For deletions only the audit log has it.")
    event_id: str | None = Field(description="The registry's id of the event that announced it.")


class ChangesPage(Listed[TagChange]):
    """A page of changes, and the two times that are compared."""

    since: datetime
    until: datetime


@operation("/changes", query=ChangesQuery, result=ChangesPage, item=TagChange)
async def list_changes(call: ApiCall[ChangesQuery]) -> Items:
    """List the tags that differ between two times, the latest change first.

    The difference is net: a tag that moved and moved back is not listed, one that moved ten times is listed once. Every
    single change is in the audit log. One request reads 20,000 changes: the page may be short or empty, and still have
    a `next`. If `until` is not given, or a time is an age, the following pages use the times of the first: they are in
    its links, and in its body as `since` and `until`.
    """
    query = call.query
    until = query.until or datetime.now(UTC)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        scope = await find_scope(
            held,
            repositories=query.repository or (),
            prefix=query.prefix,
            granted=call.principal.repositories,
        )
        listing = changes_between(scope=scope, since=query.since, until=until)
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        before = await digests_at(held, rows=found.rows, at=query.since)
        count = await counted(held, call, listing)
    shown = [_show(row, previous) for row, previous in zip(found.rows, before, strict=True)]
    between = {"since": format_time(query.since), "until": format_time(until)}
    return items_of(
        call,
        SCOPE,
        listing,
        found,
        items=shown,
        freshness=fresh,
        count=count,
        more=between,
        fixed=between,
        other_names=ChangesQuery.other_names,
    )


def _show(row: Row, previous: bytes | None) -> dict[str, Any]:
    gone = bool(row["ended"])
    return {
        "repository": row["repository"],
        "tag": row["tag"],
        "change": "deleted" if gone else "created" if previous is None else "moved",
        "digest": None if gone else digest_from_bytes(row["digest"]),
        "previous_digest": None if previous is None else digest_from_bytes(previous),
        "at": format_time(row["valid_to"] if gone else row["valid_from"]),
        "source": row["to_source"] if gone else row["from_source"],
        "not_before": format_time(row["to_not_before"] if gone else row["not_before"]),
        "actor": None if gone else row["actor"],
        "event_id": None if gone else event_text(row["event_key"]),
    }

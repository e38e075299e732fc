"""What differs between two instants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.openapi import ApiCall, operation
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
    """What is different at `until` from what it was at `since`."""

    since: Time = Field(description="The state at this instant is the old one.")
    until: Time | None = Field(
        default=None, description="The state at this instant is the new one; now, if not given."
    )
    other_names: ClassVar[Mapping[str, str]] = {"after_time": "since", "before_time": "until"}
    not_in_cursors: ClassVar[frozenset[str]] = frozenset({"since", "until"})
    repository: Texts | None = Field(default=None, description="In any of these repositories.")
    prefix: Text | None = Field(default=None, description="In repositories whose name begins so.")


class TagChange(Shown):
    """A tag that points elsewhere, is new or is gone."""

    repository: str
    tag: str
    change: Literal["created", "moved", "deleted"]
    digest: str | None = Field(description="At `until`; null: the tag did not exist.")
    previous_digest: str | None = Field(description="At `since`; null: the tag did not exist.")
    at: datetime = Field(description="When it came to what it is at `until`.")
    source: TimeSource | None = Field(description="How `at` is known.")
    not_before: datetime | None = Field(
        description="Where `at` is only known to lie between this instant and `at`."
    )
    actor: str | None = Field(description="Who did it; of deletions only the audit log says.")
    event_id: str | None = Field(description="The registry's id of the event that told it.")


class ChangesPage(Listed[TagChange]):
    """A page of changes, and the instants they lie between."""

    since: datetime
    until: datetime


@operation("/changes", query=ChangesQuery, result=ChangesPage, item=TagChange)
async def list_changes(call: ApiCall[ChangesQuery]) -> Items:
    """List the tags that differ between two instants, the latest change first.

    The difference is net: a tag that moved and came back is not listed, one that moved ten times once. Every single
    change is in the audit log. One request looks at 20,000 changes: the page may be short, or empty, and still
    have a `next`. Where an instant is left out or given as an age, the following pages are asked with the one that the
    first had: it is in the links, and `since` and `until` are in the body.
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

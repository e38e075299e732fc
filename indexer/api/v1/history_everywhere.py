"""History across repositories: a repository at a time, the tags of a digest, and versions that were moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import DigestText, Text, Texts, Time
from indexer.api.responses import Items
from indexer.api.v1.history import HistoryAt, show_interval
from indexer.common.rfc3339 import format_time
from indexer.inventory.records import TimeSource
from indexer.oci.digest import Digest, digest_from_bytes
from indexer.store.listing.freshness import freshness
from indexer.store.listing.history import history_everywhere, replacements
from indexer.store.listing.page_query import fetch_page
from indexer.store.listing.scopes import find_scope

SCOPE = "history-everywhere"
SCOPE_MOVED = "moved"


class HistoryEverywhereQuery(ListQuery):
    """Filters of intervals; an interval must match all of them."""

    repository: Texts | None = Field(default=None, description="Of any of these repositories.")
    prefix: Text | None = Field(default=None, description="Of repositories whose name begins with this.")
    tag: Text | None = Field(default=None, description="Of this tag.")
    digest: DigestText | None = Field(default=None, description="Tags that pointed to this digest.")
    at: Time | None = Field(default=None, description="Only what tags pointed to at that time.")


class HeldSomewhere(HistoryAt):
    """The interval in which a tag of a repository pointed to a digest."""

    repository: str
    tag: str


@operation("/history", query=HistoryEverywhereQuery, result=Listed[HeldSomewhere], item=HeldSomewhere)
async def list_history_everywhere(call: ApiCall[HistoryEverywhereQuery]) -> Items:
    """List what tags pointed to, by repository, tag and time, also for deleted tags.

    With `repository` and `at`: the repository as it was then. With `digest`: every tag that ever pointed to it. A
    filter without an index reads 20,000 intervals per request: the page may then be short or empty, and still have a
    `next`. Repositories are in the order in which they came on record.
    """
    query = call.query
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        scope = await find_scope(
            held,
            repositories=query.repository or (),
            prefix=query.prefix,
            granted=call.principal.repositories,
        )
        listing = await history_everywhere(
            held,
            scope=scope,
            tag=query.tag,
            digest=None if query.digest is None else Digest(query.digest),
            at=query.at,
        )
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    shown = [{"repository": row["repository"], "tag": row["tag"], **show_interval(row)} for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


MOVED_NAMES = {
    "after_time": "moved_after",
    "before_time": "moved_before",
    "since": "moved_after",
    "until": "moved_before",
}


class MovedQuery(ListQuery):
    """Versions that were moved."""

    repository: Texts | None = Field(default=None, description="Of any of these repositories.")
    prefix: Text | None = Field(default=None, description="Of repositories whose name begins with this.")
    moved_after: Time | None = Field(default=None, description="Exclusive.")
    moved_before: Time | None = Field(default=None, description="Exclusive.")
    other_names: ClassVar[Mapping[str, str]] = MOVED_NAMES


class Moved(HeldSomewhere):
    """A move of a tag that is a full version."""

    change: Literal["moved", "recreated"] = Field(
        description="`recreated`: the tag did not exist from `previous_to` to `from`."
    )
    previous_digest: str
    previous_to: datetime = Field(description="Until when it pointed to `previous_digest`.")
    previous_to_source: TimeSource | None
    previous_to_not_before: datetime | None


@operation("/history/moved", query=MovedQuery, result=Listed[Moved], item=Moved)
async def list_moved(call: ApiCall[MovedQuery]) -> Items:
    """List full versions that were moved, or deleted and created again with another digest; newest first.

    Full versions, which nobody expects to move, are tags like `1.2.3`, `v1.2.3-rc.1`, `1.2.3_build5`; `1.2` and `v1`
    are not.
    """
    query = call.query
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        scope = await find_scope(
            held,
            repositories=query.repository or (),
            prefix=query.prefix,
            granted=call.principal.repositories,
        )
        listing = replacements(scope=scope, after=query.moved_after, before=query.moved_before)
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE_MOVED, listing.orders))
        count = await counted(held, call, listing)
    shown = [
        {
            "repository": row["repository"],
            "tag": row["tag"],
            **show_interval(row),
            "change": "moved" if row["previous_to"] == row["valid_from"] else "recreated",
            "previous_digest": digest_from_bytes(row["previous_digest"]),
            "previous_to": format_time(row["previous_to"]),
            "previous_to_source": row["previous_to_source"],
            "previous_to_not_before": format_time(row["previous_to_not_before"]),
        }
        for row in found.rows
    ]
    return items_of(call, SCOPE_MOVED, listing, found, items=shown, freshness=fresh, count=count)

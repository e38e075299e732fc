"""What the endpoints of lists have in common: whose repository it is, how many items there are, the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from indexer.api.answers import Items
from indexer.api.openapi import Call
from indexer.api.pagination import ListQuery, cursor_of
from indexer.api.problems import not_found
from indexer.oci.reference import RepositoryName
from indexer.store.listing.freshness import Freshness, RepositoryRef, find_repository
from indexer.store.listing.walk import Found, Listing, count, estimate
from indexer.store.pool import Connection


async def readable_repository(connection: Connection, call: Call[Any]) -> RepositoryRef:
    """Return the repository in the call's path; one the caller may not read is not found either."""
    name = call.path["repository"]
    found = None
    if call.principal.may_read(name):
        found = await find_repository(connection, name=RepositoryName(name))
    if found is None:
        raise not_found("there is no such repository on record")
    return found


async def counted(connection: Connection, query: ListQuery, listing: Listing) -> int | None:
    """Return how many items the list has, where the caller asks."""
    match query.count:
        case "exact":
            return await count(connection, listing)
        case "estimate":
            return await estimate(connection, listing)
        case None:
            return None


def items_of(
    scope: str,
    listing: Listing,
    found: Found,
    *,
    items: Iterable[Mapping[str, Any]],
    freshness: Freshness,
    count: int | None,
    more: Mapping[str, Any] | None = None,
    fixed: Mapping[str, str | None] | None = None,
    other_names: Mapping[str, str] | None = None,
) -> Items:
    """Return a page as it is shown; ``more`` and ``fixed`` as in ``Items``."""
    return Items(
        items=list(items),
        next=cursor_of(found.next, scope, listing.orders),
        previous=cursor_of(found.previous, scope, listing.orders),
        freshness=freshness,
        count=count,
        more=more or {},
        fixed=fixed or {},
        other_names=other_names or {},
    )

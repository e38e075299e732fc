"""What the endpoints of lists share: the repository of the path, the count, the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from indexer.api.operations import ApiCall
from indexer.api.problems import not_found
from indexer.api.responses import Items
from indexer.oci.reference import RepositoryName
from indexer.store.listing.freshness import Freshness, RepositoryRef, find_repository
from indexer.store.listing.page_query import PageQuery, PageRows, count, count_to, estimate, place
from indexer.store.pool import Connection

COUNTED_AT_MOST = 100_000
"""Where the items themselves are counted for an estimate, counting ends here."""

LONGEST_PAGE_BYTES = 8 * 1024 * 1024
"""Of the items of a page. A thousand ordinary tags are half a megabyte; longer pages come from what clients wrote."""


async def readable_repository(connection: Connection, call: ApiCall[Any]) -> RepositoryRef:
    """Return the repository of the path; raise a 404 where there is none, or the caller may not read it."""
    name = call.path["repository"]
    found = None
    if call.principal.may_read(name):
        found = await find_repository(connection, name=RepositoryName(name))
    if found is None:
        raise not_found("there is no such repository on record")
    return found


async def counted(connection: Connection, call: ApiCall[Any], listing: PageQuery) -> int | None:
    """Return the number of items, as the parameter ``count`` wants it; None without it.

    PostgreSQL's estimate covers all repositories, so it could reveal whether others have a digest. A caller who may not
    read everything gets a count, up to ``COUNTED_AT_MOST``, instead.
    """
    match call.query.count:
        case "exact":
            return await count(connection, listing)
        case "estimate" if call.principal.repositories is not None:
            return await count_to(connection, listing, most=COUNTED_AT_MOST)
        case "estimate":
            return await estimate(connection, listing)
        case _:
            return None


def items_of(
    call: ApiCall[Any],
    scope: str,
    listing: PageQuery,
    found: PageRows,
    *,
    items: Iterable[Mapping[str, Any]],
    freshness: Freshness,
    count: int | None,
    more: Mapping[str, Any] | None = None,
    fixed: Mapping[str, str | None] | None = None,
    other_names: Mapping[str, str] | None = None,
) -> Items:
    """Return a page for the response; ``more`` and ``fixed`` as in ``Items``.

    A page that is too long ends early, and its cursor points to where it ended.
    """
    backwards = call.query.before is not None
    shown = list(items)
    fitting = encode_fitting(reversed(shown) if backwards else shown)
    left_out = len(shown) - len(fitting)
    next_, previous = found.next, found.previous
    if backwards:
        fitting.reverse()
        if left_out:
            previous = place(listing, found, left_out)
    elif left_out:
        next_ = place(listing, found, len(fitting) - 1)
    return Items(
        items=shown[left_out:] if backwards else shown[: len(fitting)],
        encoded=fitting,
        next=call.cursors.cursor_of(next_, scope, listing.orders),
        previous=call.cursors.cursor_of(previous, scope, listing.orders),
        freshness=freshness,
        count=count,
        more=more or {},
        fixed=fixed or {},
        other_names=other_names or {},
    )


def encode_fitting(items: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return the first items as JSON, at most ``LONGEST_PAGE_BYTES``, but at least one."""
    encoded: list[bytes] = []
    size = 0
    for item in items:
        text = orjson.dumps(item)
        size += len(text) + 1
        if size > LONGEST_PAGE_BYTES and encoded:
            break
        encoded.append(text)
    return encoded

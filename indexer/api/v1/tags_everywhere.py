"""Tags across repositories."""

from __future__ import annotations

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed
from indexer.api.operations import ApiCall, operation
from indexer.api.parameters import Text, Texts
from indexer.api.responses import Items
from indexer.api.sorting import parse_sort, sort_field
from indexer.api.v1.tags import Tag, TagFilterQuery, show_tag, tag_filter
from indexer.store.listing.freshness import freshness
from indexer.store.listing.scopes import find_scope
from indexer.store.listing.tags import COLUMNS, fetch_tags, tags_everywhere

SCOPE = "everywhere"


class TagsEverywhereQuery(TagFilterQuery):
    """Tags of all repositories."""

    sort: str = sort_field(COLUMNS, default="-published_at")
    repository: Texts | None = Field(default=None, description="Of any of these repositories.")
    prefix: Text | None = Field(default=None, description="Of repositories whose name begins with this.")
    name: Text | None = Field(default=None, description="Tags that contain this.")


class TagSomewhere(Tag):
    """One tag, and its repository."""

    repository: str


@operation("/tags", query=TagsEverywhereQuery, result=Listed[TagSomewhere], item=TagSomewhere)
async def list_tags_everywhere(call: ApiCall[TagsEverywhereQuery]) -> Items:
    """List tags across repositories, newest first.

    Any key sorts. Ties are broken by repository, in the order in which repositories came on record, then by name. A
    filter without an index reads 20,000 tags per request: the page may then be short or empty, and still have a `next`.
    """
    query = call.query
    wanted = tag_filter(query, name=query.name)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        scope = await find_scope(
            held,
            repositories=query.repository or (),
            prefix=query.prefix,
            granted=call.principal.repositories,
        )
        listing = await tags_everywhere(
            held, scope=scope, sort=parse_sort(query.sort, COLUMNS), wanted=wanted
        )
        page = await fetch_tags(
            held, call.interned, listing, call.cursors.page_of(query, SCOPE, listing.orders)
        )
        count = await counted(held, call, listing)
    shown = [{"repository": row["repository"], **show_tag(row, page)} for row in page.found.rows]
    return items_of(call, SCOPE, listing, page.found, items=shown, freshness=fresh, count=count)

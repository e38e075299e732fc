"""Repositories."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import CHECKED, PULLS_KNOWN, Listed, Shown, older_name
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Flag, Query, Text
from indexer.api.paths import REPOSITORY
from indexer.api.problems import not_found
from indexer.api.responses import Document, Items
from indexer.api.sorting import parse_sort, sort_field
from indexer.common.rfc3339 import format_time
from indexer.oci.reference import RepositoryName
from indexer.store.instants import known
from indexer.store.listing import repositories as store
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import Row, fetch_page

SCOPE = "repositories"


class RepositoriesQuery(ListQuery):
    """All repositories."""

    sort: str = sort_field(store.COLUMNS, default="name")
    name: Text | None = Field(default=None, description="Repositories whose name contains this.")
    prefix: Text | None = Field(default=None, description="Repositories whose name begins with this.")
    has_tags: Flag | None = Field(default=None, description="Whether it has any tag now.")


class NoQuery(Query):
    """No parameters."""


class Repository(Shown):
    """One repository."""

    name: str
    tag_count: int
    manifest_count: int
    size_bytes: int = Field(
        description="Its manifests, configs and layers, each digest once. Shortly behind changes."
    )
    created_at: datetime = Field(
        description="Time of its first event on record, or of the reconcile that found it."
    )
    last_published_at: datetime | None = Field(description="When a tag last came to point to another digest.")
    last_pulled_at: datetime | None
    last_checked_at: datetime | None = Field(description=CHECKED)


class RepositoryAlone(Repository):
    """One repository, and when it was last reconciled."""

    pulls_known: bool = Field(description=PULLS_KNOWN)
    last_reconciled_at: datetime | None = Field(
        description="When a reconcile last compared it completely with the registry. Null: not yet."
    )
    walked_at: datetime | None = older_name("last_reconciled_at")


@operation("/repositories", query=RepositoriesQuery, result=Listed[Repository], item=Repository)
async def list_repositories(call: ApiCall[RepositoriesQuery]) -> Items:
    """List the repositories on record."""
    query = call.query
    wanted = store.RepositoryFilter(
        name=query.name, prefix=query.prefix, has_tags=query.has_tags, granted=call.principal.listed
    )
    listing = store.repositories(parse_sort(query.sort, store.COLUMNS), wanted)
    page = call.cursors.page_of(query, SCOPE, listing.orders)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, page)
        count = await counted(held, call, listing)
    shown = [_show(row) for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@operation(REPOSITORY, query=NoQuery, result=RepositoryAlone)
async def get_repository(call: ApiCall[NoQuery]) -> Document:
    """Show one repository."""
    name = RepositoryName(call.path["repository"])
    row = None
    if call.principal.may_read(name):
        async with call.readers.reading() as held:
            fresh = await freshness(held)
            row = await store.find_repository(held, name=name)
    if row is None:
        raise not_found("there is no such repository on record")
    reconciled_at = format_time(row["last_reconciled_at"])
    return Document(
        body=_show(row)
        | {
            "pulls_known": fresh.pulls_known,
            "last_reconciled_at": reconciled_at,
            "walked_at": reconciled_at,
        }
    )


def _show(row: Row) -> dict[str, Any]:
    return {
        "name": row["name"],
        "tag_count": row["tag_count"],
        "manifest_count": row["manifest_count"],
        "size_bytes": row["size_bytes"],
        "created_at": format_time(row["created_at"]),
        "last_published_at": format_time(known(row["last_published_at"])),
        "last_pulled_at": format_time(known(row["last_pulled_at"])),
        "last_checked_at": format_time(known(row["last_checked_at"])),
    }

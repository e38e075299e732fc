"""The audit log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from indexer.api.auth import AUDIT
from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import (
    MAX_VALUES,
    DigestText,
    Flag,
    Query,
    Several,
    Text,
    Texts,
    Time,
    WholeNumber,
)
from indexer.api.responses import CSV, NDJSON, Items, Out, Stream
from indexer.audit.export import Export, export_from
from indexer.audit.serialize import show_entry
from indexer.inventory.changes import OTHER_SOURCE_NAMES, AuditAction, AuditSource
from indexer.oci.digest import Digest
from indexer.store.listing.audit import AuditFilter, audit_entries
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import fetch_page
from indexer.store.listing.scopes import find_scope

SCOPE = "audit"


def _sources(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(OTHER_SOURCE_NAMES.get(name, name) for name in value.split(","))


Sources = Annotated[
    tuple[AuditSource, ...],
    Field(min_length=1, max_length=MAX_VALUES),
    BeforeValidator(_sources),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "enum": [*AuditSource, *OTHER_SOURCE_NAMES]},
            "minItems": 1,
            "maxItems": MAX_VALUES,
        }
    ),
]
"""One or more sources, each by any of its names."""


class AuditFilterQuery(Query):
    """Filters of entries; an entry must match all of them."""

    repository: Texts | None = Field(default=None, description="Of any of these repositories.")
    prefix: Text | None = Field(default=None, description="Of repositories whose name begins with this.")
    tag: Text | None = Field(default=None, description="About this tag.")
    digest: DigestText | None = Field(default=None, description="About this digest.")
    action: Several[AuditAction] | None = Field(default=None, description="What happened.")
    actor: Text | None = Field(default=None, description="Who did it.")
    source: Sources | None = Field(
        default=None,
        description="How it is known. `reconcile` means the same as `walk`, which is what entries show.",
    )
    address: Text | None = Field(default=None, description="The client's address, without the port.")
    occurred_after: Time | None = Field(default=None, description="Exclusive.")
    occurred_before: Time | None = Field(default=None, description="Exclusive.")
    other_names: ClassVar[Mapping[str, str]] = {
        "after_time": "occurred_after",
        "before_time": "occurred_before",
        "since": "occurred_after",
    }


class AuditQuery(ListQuery, AuditFilterQuery):
    """Entries, newest first."""

    other_names: ClassVar[Mapping[str, str]] = {**AuditFilterQuery.other_names, "until": "occurred_before"}


class ExportQuery(AuditFilterQuery):
    """Sealed entries, by position."""

    format: Literal["ndjson", "csv"] = Field(default="ndjson")
    after_position: WholeNumber = Field(default=0, description="Begin after this position.")
    until: WholeNumber | None = Field(default=None, description="Up to this position, inclusive.")
    proof: Flag = Field(
        default=False,
        description="Add `commitments`, `salts` and `leaf_hash`, with which an entry can be verified.",
    )


class Actor(Shown):
    """Who did it."""

    name: str


class RequestShown(Shown):
    """The client's request, as the registry reported it. Clients can send any values."""

    id: str | None
    address: str | None
    port: int | None
    host: str | None
    method: str | None
    user_agent: str | None


class RegistryProcess(Shown):
    """The registry process that announced it."""

    address: str | None
    instance_id: str | None


class AuditEntry(Shown):
    """One entry of the audit log."""

    position: int | None = Field(
        description="Position in the log: grows, without gaps. Null: not sealed yet, or a pull not coalesced yet."
    )
    id: int
    occurred_at: datetime
    recorded_at: datetime
    action: AuditAction
    repository: str | None
    tag: str | None
    digest: str | None
    previous_digest: str | None
    media_type: str | None
    actor: Actor | None
    request: RequestShown | None
    registry: RegistryProcess | None
    source: AuditSource = Field(description="How it is known; `walk`: a reconcile observed it.")
    event_id: str | None = Field(description="The registry's id of the event.")
    occurred_between: list[datetime] | None = Field(
        description="Earliest and latest possible time, if the time itself is not known."
    )
    detail: dict[str, Any]


@operation("/audit", query=AuditQuery, result=Listed[AuditEntry], item=AuditEntry)
async def list_audit(call: ApiCall[AuditQuery]) -> Items:
    """List what happened, newest first.

    A filter without an index (tag, digest, source, address, several actions, or an action that comes with every push or
    pull: `manifest.pushed`, `manifest.pulled`, `manifest.checked`, `blob.pushed`, `blob.mounted`) reads 100,000 entries
    per request: the page may then be short or empty, and still have a `next`.
    """
    call.principal.require(AUDIT)
    query = call.query
    wanted = audit_filter(query)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        scope = await find_scope(held, repositories=query.repository or (), prefix=query.prefix)
        listing = await audit_entries(held, scope=scope, wanted=wanted)
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    shown = [show_entry(row) for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@operation("/audit/export", query=ExportQuery, result=AuditEntry, media_types=(NDJSON, CSV))
async def export_audit(call: ApiCall[ExportQuery]) -> Stream:
    """Export sealed entries in the order of their positions, as NDJSON or CSV.

    Ends where the log ended when the export began. To resume, set `after_position` to the last position received. If
    the export fails on the way, the response ends without its last chunk.
    """
    call.principal.require(AUDIT)
    query = call.query
    wanted = Export(
        format=query.format,
        after_position=query.after_position,
        until=query.until,
        filters=audit_filter(query),
        proof=query.proof,
    )

    async def write(out: Out) -> None:
        await export_from(call.readers.reading, wanted, out)

    media_type = NDJSON if query.format == "ndjson" else f"{CSV}; charset=utf-8"
    return Stream(media_type=media_type, write=write, filename=f"audit.{query.format}")


def audit_filter(query: AuditFilterQuery) -> AuditFilter:
    """Return the store's filter for a query."""
    return AuditFilter(
        repositories=query.repository or (),
        prefix=query.prefix,
        tag=query.tag,
        digest=None if query.digest is None else Digest(query.digest),
        actions=query.action or (),
        actor=query.actor,
        sources=query.source or (),
        address=query.address,
        occurred_after=query.occurred_after,
        occurred_before=query.occurred_before,
    )

"""Holds: repositories, tags and digests that nobody may clean up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, command, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Query
from indexer.api.problems import not_found
from indexer.api.responses import Changed, Document, Items
from indexer.api.v1.cleanup import operator_of, require_all, require_operator
from indexer.cleanup.holding import hold_json, parse_until
from indexer.common.errors import CallerError
from indexer.oci.digest import parse_digest
from indexer.oci.reference import parse_repository_name, parse_tag_name
from indexer.store import holds
from indexer.store.listing.cleanup import listed_holds
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import fetch_page
from indexer.store.pool import transaction

SCOPE = "holds"


class HoldShown(Shown):
    """A hold: on a repository, one of its tags, one of its digests, or (no repository) a digest anywhere."""

    id: str
    repository: str | None
    tag: str | None
    digest: str | None
    owner: str
    reason: str
    until: datetime | None = Field(description="Null: until it is removed.")
    created_at: datetime
    created_by: str


Said = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
"""Not only white space, and no NUL, which PostgreSQL does not store."""


class HoldRequest(BaseModel):
    """What to put on hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: str | None = Field(default=None, description="Null: a digest in any repository.")
    tag: str | None = Field(default=None, description="One tag of the repository.")
    digest: str | None = Field(
        default=None, description="A manifest, with the indexes that refer to it and its children."
    )
    owner: Said | None = Field(default=None, description="Whose hold it is; default: the caller's name.")
    reason: Said = Field(description="It is shown with every verdict.")
    until: str | None = Field(
        default=None,
        description="RFC 3339 time, or a duration from now like `14d`; null: until it is removed.",
    )


@operation("/holds", query=ListQuery, result=Listed[HoldShown], item=HoldShown)
async def list_holds(call: ApiCall[ListQuery]) -> Items:
    """List the holds that are not over, oldest first."""
    require_all(call)
    listing = listed_holds()
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    shown = [hold_json(holds.hold_of(row)) for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@operation("/holds/{id}", query=Query, result=HoldShown)
async def get_hold(call: ApiCall[Query]) -> Document:
    """Show one hold."""
    require_all(call)
    async with call.readers.reading() as held:
        hold = await holds.find_hold(held, hold_id=call.path["id"])
    if hold is None:
        raise not_found("there is no such hold")
    return Document(body=hold_json(hold))


@command("POST", "/holds", body=HoldRequest, result=HoldShown, status=201, refusals=(422,))
async def add_hold(call: ApiCall[Query]) -> Changed:
    """Put a repository, a tag or a digest on hold: cleanup keeps it, whatever a policy says."""
    require_operator(call)
    wanted: HoldRequest = call.body
    now = datetime.now(UTC)
    if wanted.repository is None and (wanted.digest is None or wanted.tag is not None):
        raise _wrong("repository", "name a repository, or a digest alone")
    if wanted.tag is not None and wanted.digest is not None:
        raise _wrong("tag", "name a tag or a digest, not both")
    _checked("repository", parse_repository_name, wanted.repository)
    _checked("tag", parse_tag_name, wanted.tag)
    _checked("digest", parse_digest, wanted.digest)
    until = _checked("until", lambda text: parse_until(text, now=now), wanted.until)
    who = operator_of(call)
    async with transaction(call.store) as held:
        hold = await holds.add_hold(
            held,
            owner=wanted.owner or who.name,
            reason=wanted.reason,
            repository=wanted.repository,
            tag=wanted.tag,
            digest=wanted.digest,
            until=until,
            at=now,
            operator=who,
        )
    return Changed(body=hold_json(hold), status=201, headers={"Location": f"/api/v1/holds/{hold.id}"})


@command("DELETE", "/holds/{id}", result=HoldShown, refusals=(404,))
async def remove_hold(call: ApiCall[Query]) -> Changed:
    """Remove a hold. The answer is what it was."""
    require_operator(call)
    async with transaction(call.store) as held:
        hold = await holds.remove_hold(
            held, hold_id=call.path["id"], at=datetime.now(UTC), operator=operator_of(call)
        )
    if hold is None:
        raise not_found("there is no such hold")
    return Changed(body=hold_json(hold))


def _checked(name: str, parse: Any, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise _wrong(name, str(error)) from None


def _wrong(name: str, why: str) -> CallerError:
    return CallerError(f"{name}: {why}"[:500], status=422, code="invalid_member", parameter=name)

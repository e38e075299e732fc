"""What we did and of which it is uncertain whether it undid a push: the list, and a person's confirmation."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, command, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Query, Text, Texts
from indexer.api.problems import not_found
from indexer.api.responses import Changed, Items
from indexer.api.rights import knows_of, require_acting, require_kind
from indexer.api.v1.cleanup import LONGEST_REASON, WITHOUT_NUL, operator_of
from indexer.cleanup.confirming import NOT_UNCERTAIN, uncertain_json
from indexer.common.errors import CallerError
from indexer.inventory.own_actions import TagAction
from indexer.inventory.tag_protection import judge_deletion
from indexer.jobs.kinds import DELETE
from indexer.oci.digest import digest_from_bytes
from indexer.store import confirmations, tag_actions
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import Row, fetch_page
from indexer.store.listing.uncertain import UncertainFilter, listed_uncertain
from indexer.store.pool import transaction

SCOPE = "uncertain"
NOT_THERE = "there is no such action on record"


class UncertainQuery(ListQuery):
    """What is uncertain, oldest first."""

    repository: Texts | None = Field(default=None, description="In any of these repositories.")
    tag: Text | None = Field(default=None, description="Of this tag.")


class UncertainAction(Shown):
    """Something that we did; a push between `since` and `until` may have been undone by it."""

    id: uuid.UUID
    action: Literal["delete", "restore", "put_back", "unlink"] = Field(
        description="What we did: deleted the tag, restored it, put a push back, or deleted the manifest."
    )
    repository: str
    tag: str | None = Field(description="Null: the manifest itself.")
    digest: str = Field(description="What the tag pointed to before a deletion; else what it was pointed to.")
    because: str | None = Field(description="Why it is uncertain.")
    since: datetime | None = Field(description="When we looked last before our request.")
    until: datetime | None = Field(description="When the registry answered our request, or it was sent.")
    points_to: str | None = Field(
        description="What the inventory has of the tag now; null: it is not there, or this is about a manifest."
    )
    asked_by: str | None = Field(description="Null: erased from the log.")
    source: Literal["operator", "policy"]
    reason: str | None
    job: uuid.UUID | None


class Confirmation(BaseModel):
    """That no push was lost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[str, Field(max_length=LONGEST_REASON, pattern=WITHOUT_NUL)] | None = Field(
        default=None, description="How you know; it goes into the audit log."
    )


class Confirmed(Shown):
    """What was confirmed."""

    id: uuid.UUID
    repository: str
    tag: str | None
    outcome: Literal["confirmed"]


@operation("/cleanup/uncertain", query=UncertainQuery, result=Listed[UncertainAction], item=UncertainAction)
async def list_uncertain(call: ApiCall[UncertainQuery]) -> Items:
    """List what we did and of which it is not known whether it undid a push, oldest first.

    As long as anything in a repository is uncertain, no manifest in it is deleted.
    """
    wanted = UncertainFilter(repositories=call.query.repository, tag=call.query.tag)
    listing = listed_uncertain(granted=call.principal.repositories, wanted=wanted)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    shown = [_show(row) for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@command(
    "POST",
    "/cleanup/uncertain/{id}/confirm",
    body=Confirmation,
    result=Confirmed,
    refusals=(404, 409, 422),
)
async def confirm_uncertain(call: ApiCall[Query]) -> Changed:
    """Confirm that no push was lost. Then manifests of the repository are deleted again.

    Compare the tag with what was pushed first. 403: the token may not delete in the repository, or its patterns protect
    the tag. 409: it is not uncertain any more, or our request may still be on its way.
    """
    require_acting(call.principal, acting_is_on=call.acting_is_on)
    async with transaction(call.store) as held:
        action = _find(call, await tag_actions.find_actions(held, ids=[_number(call)]))
        done = await confirmations.confirm(
            held,
            action=action,
            at=datetime.now(UTC),
            operator=operator_of(call),
            reason=call.body.reason,
        )
    if not done:
        raise CallerError(NOT_UNCERTAIN, status=409, code="not_uncertain")
    body = {
        "id": str(action.id),
        "repository": action.repository,
        "tag": action.tag or None,
        "outcome": "confirmed",
    }
    return Changed(body=body)


def _number(call: ApiCall[Any]) -> uuid.UUID:
    try:
        return uuid.UUID(call.path["id"])
    except ValueError:
        raise not_found(NOT_THERE) from None


def _find(call: ApiCall[Any], found: list[TagAction]) -> TagAction:
    """Return the action if the caller may confirm it; raise a 404 or a 403.

    A confirmation lets manifests be deleted. So it takes what a deletion takes, of the tag too.
    """
    if not found or not knows_of(call.principal, found[0].repository):
        raise not_found(NOT_THERE)
    action = found[0]
    require_kind(call.principal, DELETE, [action.repository])
    patterns = call.principal.patterns_of(action.repository)
    if not action.tag and patterns.restricts_deletion:
        raise CallerError(
            "the token protects tags, and this manifest may have had any of them", status=403, code="denied"
        )
    denial = judge_deletion(patterns, [action.tag]) if action.tag else None
    if denial is not None:
        raise CallerError(denial.text, status=403, code="denied")
    return action


def _show(row: Row) -> dict[str, Any]:
    shown = uncertain_json(tag_actions.action_of(row))
    at = row["now_at"]
    return shown | {"points_to": None if at is None else digest_from_bytes(at)}

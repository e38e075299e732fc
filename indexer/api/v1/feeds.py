"""Feeds of the audit log and their dead letters: the entries that a receiver refused for good."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, command, operation
from indexer.api.pagination import MAX_LIMIT, ListQuery
from indexer.api.parameters import Query
from indexer.api.problems import not_found
from indexer.api.responses import Changed, Document, Items
from indexer.api.v1.cleanup import LONGEST_REASON, operator_of, require_all, require_operator
from indexer.api.v1.holds import Said
from indexer.api.v1.status.receivers import FeedShown, show_feed
from indexer.audit.cloudevents import event_id
from indexer.common.errors import CallerError
from indexer.common.rfc3339 import format_time
from indexer.inventory.changes import AuditAction
from indexer.store import feeds
from indexer.store.feeds import FeedState
from indexer.store.listing.audit import head_position
from indexer.store.listing.dead_letters import listed_dead_letters, listed_feeds
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import fetch_page
from indexer.store.operators import record_action
from indexer.store.pool import Connection, transaction
from indexer.store.text import storable

SCOPE = "feeds"
LETTERS = "dead letters"


class DeadLetterShown(Shown):
    """An entry of the log that the receiver of a feed refused for good."""

    id: str = Field(description="Of the event, as the receiver got it.")
    position: int = Field(description="Of the entry in the log. It names the dead letter within its feed.")
    action: str | None = Field(description="Of the entry; null, as its repository and tag: it left the log.")
    repository: str | None
    tag: str | None
    attempts: int = Field(
        description="How often it was sent by itself. Where `first_tried_at` is null: at least so often."
    )
    first_tried_at: datetime | None = Field(description="Null: it was not recorded then.")
    tried_at: datetime = Field(description="The last time.")
    last_error: str = Field(description="What the receiver answered last. It holds none of our secrets.")
    retry_requested: bool = Field(description="It will be tried again.")
    retry_at: datetime | None = Field(description="Not before this.")


Position = Annotated[int, Field(ge=1, le=2**63 - 1)]
Positions = Annotated[list[Position], Field(min_length=1, max_length=MAX_LIMIT)]


class RetryRequest(BaseModel):
    """Which dead letters to try again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    positions: Positions | None = Field(default=None, description="Null: all of them.")


class DiscardRequest(BaseModel):
    """Which dead letters to discard, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    positions: Positions
    reason: Said = Field(description="The audit log records it.")


class ReplayRequest(BaseModel):
    """Where a feed goes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    position: Position | None = Field(
        default=None, description="Of the first entry to deliver again; null: where the feed is."
    )


class Retried(Shown):
    """What will be tried again."""

    feed: str
    retried: int = Field(description="How many. Those that are no dead letters any more are not counted.")


class Discarded(Shown):
    """What was discarded."""

    feed: str
    positions: list[int] = Field(description="Without those that were no dead letters any more.")


@operation("/feeds", query=ListQuery, result=Listed[FeedShown], item=FeedShown)
async def list_feeds(call: ApiCall[ListQuery]) -> Items:
    """List every feed that was ever configured here, by name."""
    require_all(call)
    listing = listed_feeds()
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
        states = await feeds.list_feeds(held, names=[row["name"] for row in found.rows])
    by_name = {state.name: state for state in states}
    now = datetime.now(UTC)
    shown = [show_feed(by_name[row["name"]], now) for row in found.rows if row["name"] in by_name]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@operation("/feeds/{feed}", query=Query, result=FeedShown)
async def get_state_of_feed(call: ApiCall[Query]) -> Document:
    """Show one feed."""
    require_all(call)
    async with call.readers.reading() as held:
        return Document(body=show_feed(await _feed(held, call), datetime.now(UTC)))


@operation(
    "/feeds/{feed}/dead-letters", query=ListQuery, result=Listed[DeadLetterShown], item=DeadLetterShown
)
async def list_dead_letters(call: ApiCall[ListQuery]) -> Items:
    """List the dead letters of a feed, in the order of the log."""
    require_all(call)
    listing = listed_dead_letters(call.path["feed"])
    async with call.readers.reading() as held:
        await _feed(held, call)
        fresh = await freshness(held)
        log = await feeds.log_identity(held)
        found = await fetch_page(held, listing, call.cursors.page_of(call.query, LETTERS, listing.orders))
        count = await counted(held, call, listing)
    shown = [
        {
            "id": event_id(log, row["position"]),
            "position": row["position"],
            "action": row["action"],
            "repository": row["repository"],
            "tag": row["tag"],
            "attempts": row["tries"],
            "first_tried_at": format_time(row["first_tried_at"]),
            "tried_at": format_time(row["tried_at"]),
            "last_error": row["reason"],
            "retry_requested": row["retry_requested"],
            "retry_at": format_time(row["retry_at"]),
        }
        for row in found.rows
    ]
    return items_of(call, LETTERS, listing, found, items=shown, freshness=fresh, count=count)


@command("POST", "/feeds/{feed}/dead-letters/retry", body=RetryRequest, result=Retried, refusals=(404, 422))
async def retry_dead_letters(call: ApiCall[Query]) -> Changed:
    """Try dead letters again, after what is new. A feed that has stopped goes on."""
    require_operator(call)
    positions = call.body.positions
    async with transaction(call.store) as held:
        name = (await _feed(held, call)).name
        retried = await feeds.retry_dead_letters(held, name=name, positions=positions)
        if retried:
            detail = {"feed": name, "entries": retried, "positions": positions}
            await _record(held, call, AuditAction.OPERATOR_FEED_RETRIED, detail)
    return Changed(body={"feed": name, "retried": retried})


@command(
    "POST", "/feeds/{feed}/dead-letters/discard", body=DiscardRequest, result=Discarded, refusals=(404, 422)
)
async def discard_dead_letters(call: ApiCall[Query]) -> Changed:
    """Discard dead letters for good: the receiver never gets them. The entries stay in the audit log."""
    require_operator(call)
    wanted: DiscardRequest = call.body
    async with transaction(call.store) as held:
        name = (await _feed(held, call)).name
        discarded = await feeds.discard_dead_letters(held, name=name, positions=wanted.positions)
        if discarded:
            reason, _ = storable(wanted.reason.strip(), longest=LONGEST_REASON)
            detail = {"feed": name, "entries": len(discarded), "positions": discarded, "reason": reason}
            await _record(held, call, AuditAction.OPERATOR_FEED_DISCARDED, detail)
    return Changed(body={"feed": name, "positions": discarded})


@command("POST", "/feeds/{feed}/replay", body=ReplayRequest, result=FeedShown, refusals=(404, 422))
async def replay_feed(call: ApiCall[Query]) -> Changed:
    """Deliver again from a position on. Without one, a feed that has stopped goes on where it is."""
    require_operator(call)
    first: int | None = call.body.position
    async with transaction(call.store) as held:
        name = (await _feed(held, call)).name
        head = await head_position(held)
        if first is not None and first > head + 1:
            raise CallerError(
                f"position: the log has the positions 1 to {head}",
                status=422,
                code="invalid_member",
                parameter="position",
            )
        position = await feeds.replay_feed(held, name=name, after=None if first is None else first - 1)
        if position is not None:
            detail = {"feed": name, "from_position": position + 1}
            await _record(held, call, AuditAction.OPERATOR_FEED_REPLAYED, detail)
        return Changed(body=show_feed(await _feed(held, call), datetime.now(UTC)))


async def _feed(connection: Connection, call: ApiCall[Any]) -> FeedState:
    """Return the feed of the path; raise a 404 where there is none."""
    found = await feeds.list_feeds(connection, names=[call.path["feed"]])
    if not found:
        raise not_found("there is no such feed")
    return found[0]


async def _record(
    connection: Connection, call: ApiCall[Any], action: AuditAction, detail: dict[str, Any]
) -> None:
    await record_action(
        connection, action=action, operator=operator_of(call), at=datetime.now(UTC), detail=detail
    )

"""The sealed audit log as it grows: a stream of Server-Sent Events, or pages that may wait for new entries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import orjson
from pydantic import BeforeValidator, Field, WithJsonSchema

from indexer.api.auth import AUDIT
from indexer.api.models import Shown
from indexer.api.operations import ApiCall, RequestHeader, operation
from indexer.api.parameters import ALLOWED, whole_number, wrong_parameter
from indexer.api.responses import JSON, NDJSON, SSE, Document, Out, Stream, preferred
from indexer.api.v1.audit import AuditEntry, AuditFilterQuery, audit_filter
from indexer.audit.cloudevents import SEQUENCE_DIGITS, DeliveredEvent, Origin, cloud_event, event_id
from indexer.audit.entry_filter import fits
from indexer.audit.prove import leaf_at, leaves_of
from indexer.audit.serialize import show_entry
from indexer.background.loop import WakeEvent
from indexer.common.errors import CallerError
from indexer.common.values import parse_duration
from indexer.store.feeds import log_identity
from indexer.store.listing.audit import head_position
from indexer.store.listing.feeds import stream_entries

WINDOW = 20_000
"""Positions that one statement reads; a filter may leave none of them."""
WINDOWS = 5
"""Windows that a page reads; it may then be empty."""
BATCH = 200
LONGEST_WAIT = timedelta(seconds=60)
KEEP_ALIVE_SECONDS = 15.0
LONGEST_STREAM_SECONDS = 900.0
"""After that the client must connect again, with ``Last-Event-ID``, so that its token is verified again."""
RECONNECT_MILLISECONDS = 2000
LAST_EVENT_ID = "Last-Event-ID"
LEAF_DIGITS = 8
"""Hexadecimal digits of the leaf hash in a stream's id, by which a restored log is noticed."""

_BEGIN = {
    "type": "string",
    "pattern": "^(now|beginning|[1-9][0-9]{0,17})$",
    ALLOWED: "now, beginning or a position",
}
_WAIT = {"type": "string", "pattern": "^([0-9]{1,2})s$", ALLOWED: "0s to 60s"}


def _begin(value: object) -> object:
    return value if value in ("now", "beginning") else whole_number(value)


Begin = Annotated[
    Literal["now", "beginning"] | Annotated[int, Field(ge=1, le=2**63 - 1)],
    BeforeValidator(_begin),
    WithJsonSchema(_BEGIN),
]
Wait = Annotated[
    timedelta,
    Field(ge=timedelta(0), le=LONGEST_WAIT),
    BeforeValidator(parse_duration),
    WithJsonSchema(_WAIT),
]


class FeedQuery(AuditFilterQuery):
    """Sealed entries from a position on."""

    from_: Begin = Field(
        default="now", alias="from", description="Position of the first entry; `Last-Event-ID` overrides it."
    )
    limit: Annotated[int, Field(ge=1, le=1000), BeforeValidator(whole_number)] = Field(
        default=100, description="Events of a page, at most. A stream has no limit."
    )
    wait: Wait | None = Field(default=None, description="How long a page may wait for the first event.")


class CloudEvent(Shown):
    """An entry as a CloudEvent."""

    specversion: Literal["1.0"]
    id: str = Field(description="Made of log and position: the same in every delivery of the entry.")
    source: str
    type: str
    subject: str | None = None
    time: str
    sequence: str
    datacontenttype: Literal["application/json"]
    data: AuditEntry


class FeedPage(Shown):
    """Events, in the order of the log."""

    items: list[CloudEvent]
    next: int = Field(description="`from` of the following page.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntries:
    """Events that were read, up to the position ``reached``, of a log that ends at ``head``.

    ``leaf``: the leaf hash of the entry at ``reached``.
    """

    events: Sequence[DeliveredEvent]
    reached: int
    head: int
    leaf: bytes | None


@operation(
    "/feed",
    query=FeedQuery,
    result=FeedPage,
    media_types=(JSON, NDJSON, SSE),
    headers=(
        RequestHeader(
            name=LAST_EVENT_ID,
            description="Id of the last event that was received; the stream continues after it.",
            pattern="^[0-9a-f-]{36}/[0-9]{20}(/[0-9a-f]{8})?$",
        ),
    ),
)
async def get_feed(call: ApiCall[FeedQuery]) -> Document | Stream:
    """Follow the sealed log, from any position, as CloudEvents.

    With `Accept: text/event-stream` a stream, which the server ends after 15 minutes; to continue, connect again with
    `Last-Event-ID`. Otherwise a page; with `wait` the response waits for the first event. A filter may leave a page
    empty before the end of the log: continue from `next`.
    """
    call.principal.require(AUDIT)
    log, after = await _begins(call)
    origin = call.events.origin(log)
    wanted = preferred(call.headers.get("Accept", ""), (JSON, NDJSON, SSE))
    if wanted == SSE:
        return _stream(call, origin, after)
    found = await _page(call, origin, after)
    following = found.reached + 1
    if wanted == NDJSON:
        return _lines(found.events, following)
    items = [orjson.Fragment(event.body) for event in found.events]
    return Document(body={"items": items, "next": following})


async def _begins(call: ApiCall[FeedQuery]) -> tuple[UUID, int]:
    """Return the log's identity, and the position after which the caller begins."""
    async with call.readers.reading() as held:
        log, head = await log_identity(held), await head_position(held)
        last = call.headers.get(LAST_EVENT_ID)
        if last:
            position, leaf = _read_event_id(last, log=log, head=head)
            if leaf is not None and leaf != _leaf_digits(await leaf_at(held, position)):
                raise _lost()
            return log, position
    match call.query.from_:
        case "now":
            return log, head
        case "beginning":
            return log, 0
        case position:
            return log, _within(position - 1, head, name="from")


def _read_event_id(last: str, *, log: UUID, head: int) -> tuple[int, str | None]:
    """Return the position of an id, and the digits of the entry's leaf hash that a stream adds; None: it has none."""
    whose, _, rest = last.partition("/")
    sequence, _, leaf = rest.partition("/")
    if len(sequence) != SEQUENCE_DIGITS or not (sequence.isascii() and sequence.isdecimal()):
        raise wrong_parameter(LAST_EVENT_ID, "not the id of an event", allowed="the id of an event")
    if whose != str(log):
        raise CallerError(
            f"{LAST_EVENT_ID} is of another log; start again with `from`", status=409, code="another_log"
        )
    if leaf and int(sequence) > head:
        raise _lost()
    return _within(int(sequence), head, name=LAST_EVENT_ID), leaf or None


def _lost() -> CallerError:
    return CallerError(
        f"{LAST_EVENT_ID} is of an entry that is not in this log any more: the database was restored to an earlier "
        "state; start again with `from`",
        status=409,
        code="another_log",
    )


def _within(position: int, head: int, *, name: str) -> int:
    if position > head:
        raise wrong_parameter(name, f"the log ends at {head}", allowed=f"at most {head + 1}")
    return position


async def _next(call: ApiCall[FeedQuery], origin: Origin, after: int, limit: int) -> FeedEntries:
    """Return what comes after a position: from the entries that all streams share, or a window of the database."""
    recent = await call.streams.recent.after(after)
    if recent is None:
        return await _read(call, origin, after, limit)
    wanted = audit_filter(call.query)
    events = [event for event in recent.events if fits(event.entry, wanted)][:limit]
    if len(events) == limit:
        return FeedEntries(events=events, reached=events[-1].position, head=recent.head, leaf=events[-1].leaf)
    return FeedEntries(events=events, reached=recent.head, head=recent.head, leaf=recent.leaf)


async def _read(call: ApiCall[FeedQuery], origin: Origin, after: int, limit: int) -> FeedEntries:
    """Read one window after a position from the database."""
    async with call.readers.reading() as held:
        head = await head_position(held)
        until = min(after + WINDOW, head)
        if until <= after:
            return FeedEntries(events=(), reached=after, head=head, leaf=await leaf_at(held, after))
        rows = await stream_entries(
            held, wanted=audit_filter(call.query), after=after, until=until, limit=limit
        )
        reached = rows[-1]["position"] if len(rows) == limit else until
        leaves = await leaves_of(held, first=after + 1, last=reached)
    events = [cloud_event(show_entry(row), origin, leaf=leaves[row["position"] - after - 1]) for row in rows]
    return FeedEntries(events=events, reached=reached, head=head, leaf=leaves[-1])


async def _page(call: ApiCall[FeedQuery], origin: Origin, after: int) -> FeedEntries:
    found = await _search(call, origin, after)
    if found.events or not call.query.wait:
        return found
    until = time.monotonic() + call.query.wait.total_seconds()
    with call.streams.slot() as woken:
        while not found.events and not call.streams.closing and (left := until - time.monotonic()) > 0:
            if found.reached >= found.head:
                await woken.wait(min(left, KEEP_ALIVE_SECONDS))
            found = await _search(call, origin, found.reached)
    return found


async def _search(call: ApiCall[FeedQuery], origin: Origin, after: int) -> FeedEntries:
    """Read windows until one has an event, or the log ends."""
    for _ in range(WINDOWS):
        found = await _next(call, origin, after, call.query.limit)
        if found.events or found.reached >= found.head:
            break
        after = found.reached
    return found


def _lines(events: Sequence[DeliveredEvent], following: int) -> Stream:
    async def write(out: Out) -> None:
        if events:
            await out(b"".join(event.body + b"\n" for event in events))

    return Stream(media_type=NDJSON, write=write, headers={"Link": f'<?from={following}>; rel="next"'})


def _stream(call: ApiCall[FeedQuery], origin: Origin, after: int) -> Stream:
    async def write(out: Out) -> None:
        with call.streams.slot() as woken:
            await _follow(call, origin, after, woken, out)

    headers = {"X-Accel-Buffering": "no"}  # or nginx would buffer events
    return Stream(media_type=f"{SSE}; charset=utf-8", write=write, headers=headers)


async def _follow(call: ApiCall[FeedQuery], origin: Origin, after: int, woken: WakeEvent, out: Out) -> None:
    ends = time.monotonic() + LONGEST_STREAM_SECONDS
    async with call.readers.reading() as held:
        leaf = await leaf_at(held, after)
    await out(f"retry: {RECONNECT_MILLISECONDS}\n{_mark(origin, after, leaf)}\n\n".encode())
    while not call.streams.closing and time.monotonic() < ends:
        found = await _next(call, origin, after, BATCH)
        for event in found.events:
            mark = _mark(origin, event.position, event.leaf)
            await out(f"{mark}\ndata: ".encode() + event.body + b"\n\n")
        after = found.reached
        if after < found.head:
            continue
        await woken.wait(KEEP_ALIVE_SECONDS)
        if not found.events and not call.streams.closing:
            # A comment keeps the connection open; the id covers what the filter left out. Neither is an event.
            await out(f": \n{_mark(origin, after, found.leaf)}\n\n".encode())


def _mark(origin: Origin, position: int, leaf: bytes | None) -> str:
    """Return the line ``id:`` of a position: the event's id, and digits of its leaf hash, see ``LEAF_DIGITS``."""
    digits = _leaf_digits(leaf)
    return f"id: {event_id(origin.log, position)}" + (f"/{digits}" if digits else "")


def _leaf_digits(leaf: bytes | None) -> str:
    return "" if leaf is None else leaf.hex()[:LEAF_DIGITS]

"""What an endpoint returns, and its HTTP response: JSON, NDJSON or CSV, entity tags, links to other pages.

The entity tag of a document is strong, over the bytes of its body. That of a list is weak: it covers everything but
``as_of``, which changes while the list stays the same, so that an unchanged list is a 304.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web
from pydantic import BaseModel

from indexer.api import long_bodies
from indexer.api.long_bodies import sized
from indexer.api.tables import columns_of, to_csv
from indexer.common.rfc3339 import format_time
from indexer.store.listing.freshness import Freshness

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
CSV_UTF8 = f"{CSV}; charset=utf-8"
SSE = "text/event-stream"
TEXT = "text/plain"

COMPRESSED_FROM_BYTES = 1024
"""A shorter body fits into one packet without gzip."""

LONGEST_IF_NONE_MATCH = 8 * 1024
"""Of ``If-None-Match``: 200 entity tags of ours. A longer one is ignored: parsing 1 MB took 0.6 s (measured)."""

_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding, Authorization"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One JSON object."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The answer of a command: one JSON object, None: no body. It has no entity tag, and is not kept."""

    body: Mapping[str, Any] | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A page of a list; ``encoded`` is each item as JSON.

    ``more`` are further members of the body. ``fixed`` are values of parameters in the links to other pages, whatever
    the request had: an age becomes the instant that it meant. ``other_names``: other names of those parameters, which
    the links leave out.
    """

    items: Sequence[Mapping[str, Any]]
    encoded: Sequence[bytes]
    next: str | None
    previous: str | None
    freshness: Freshness
    count: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, str | None] = field(default_factory=dict)
    other_names: Mapping[str, str] = field(default_factory=dict)


Out = Callable[[bytes], Awaitable[None]]
"""Sends the next piece of a body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A body that is sent piece by piece."""

    media_type: str
    write: Callable[[Out], Awaitable[object]]
    filename: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Document | Changed | Items | Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The model of a list's items, and the requested members; None: all."""

    item: type[BaseModel] | None = None
    fields: tuple[str, ...] | None = None

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the CSV form."""
        columns = () if self.item is None else columns_of(self.item)
        if self.fields is None:
            return columns
        return [column for name in self.fields for column in columns if column.split(".")[0] == name]

    def chosen(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an item with the requested members only."""
        return item if self.fields is None else {name: item[name] for name in self.fields if name in item}


async def respond(request: web.Request, answer: Answer, shape: Shape) -> web.StreamResponse:
    """Return the response; a stream is sent before this returns."""
    match answer:
        case Document():
            return _document(request, answer)
        case Changed():
            return _changed(answer)
        case Items():
            return _items(request, answer, shape)
        case Stream():
            return await _stream(request, answer)


def _document(request: web.Request, answer: Document) -> web.Response:
    body = _encode(answer.body)
    return _tagged(request, body, _etag(body), JSON, weak=False)


def _changed(answer: Changed) -> web.Response:
    headers = {"Cache-Control": "no-store", **answer.headers}
    if answer.body is None:
        return web.Response(status=answer.status, headers=headers)
    body = _encode(answer.body)
    return web.Response(status=answer.status, body=body, headers={**headers, "Content-Type": JSON})


def _items(request: web.Request, answer: Items, shape: Shape) -> web.Response:
    wanted = preferred(request.headers.get("Accept", ""), (JSON, NDJSON, CSV))
    links = _links(request, answer)
    if wanted == CSV:
        body = to_csv(answer.items, shape.columns)
        return _tagged(request, body, _etag(body + repr(links).encode()), CSV_UTF8, weak=True, links=links)
    items = answer.encoded
    if shape.fields is not None:
        items = [_encode(shape.chosen(item)) for item in answer.items]
    # Encoded once, for the body and for its entity tag.
    encoded = orjson.Fragment(b"[" + b",".join(items) + b"]")
    lasting: dict[str, Any] = {"items": encoded, "next": answer.next, "previous": answer.previous}
    if answer.count is not None:
        lasting["count"] = answer.count
    lasting |= answer.more
    if wanted == NDJSON:
        body = b"".join(item + b"\n" for item in items)
        return _tagged(request, body, _etag(body + repr(links).encode()), NDJSON, weak=True, links=links)
    reconciled_at = format_time(answer.freshness.last_reconciled_at)
    freshness = {
        "last_reconciled_at": reconciled_at,
        "walked_at": reconciled_at,
        "pulls_known": answer.freshness.pulls_known,
    }
    etag = _etag(_encode([lasting, freshness]))
    index = {"as_of": format_time(answer.freshness.as_of), **freshness}
    return _tagged(request, _encode(lasting | {"index": index}), etag, JSON, weak=True, links=links)


def _tagged(
    request: web.Request, body: bytes, etag: str, media_type: str, *, weak: bool, links: str | None = None
) -> web.Response:
    compressed = len(body) >= COMPRESSED_FROM_BYTES and accepts_gzip(
        request.headers.get("Accept-Encoding", "")
    )
    # A strong tag covers the bytes that are sent, so not those before compression.
    headers = {**_HEADERS, "ETag": f'W/"{etag}"' if weak or compressed else f'"{etag}"'}
    if links:
        headers["Link"] = links
    if _has(request, etag):
        return web.Response(status=304, headers=headers)
    response = web.Response(body=sized(body), headers={**headers, "Content-Type": media_type})
    if compressed:
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def _stream(request: web.Request, answer: Stream) -> web.StreamResponse:
    headers = {**_HEADERS, "Content-Type": answer.media_type, **answer.headers}
    if answer.filename is not None:
        headers["Content-Disposition"] = f'attachment; filename="{answer.filename}"'
    # Not compressed: each piece must be readable when it arrives, also if the stream breaks after it.
    response = web.StreamResponse(headers=headers)

    async def out(data: bytes) -> None:
        if (
            not response.prepared
        ):  # only now: an error before the first byte can still be answered as a problem
            await response.prepare(request)
        try:
            async with asyncio.timeout(long_bodies.WRITE_WITHIN_SECONDS):
                await response.write(data)
        except TimeoutError as error:
            raise ConnectionResetError("the client does not read") from error

    try:
        if request.method != "HEAD":
            await answer.write(out)
    except Exception:
        # After a 200 only a closed connection, without the last chunk, shows the client that the body is incomplete.
        if response.prepared and request.transport is not None:
            request.transport.abort()
        raise
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


def _encode(value: object) -> bytes:
    return orjson.dumps(value)


def _etag(body: bytes) -> str:
    # Takes half of the time of blake2b on processors with instructions for it (measured).
    return hashlib.sha256(body).hexdigest()[:32]


def _has(request: web.Request, etag: str) -> bool:
    """Return whether the client has this representation already (RFC 9110 section 13.1.2: compared weakly)."""
    given = request.headers.getall("If-None-Match", ())
    if not given or sum(map(len, given)) > LONGEST_IF_NONE_MATCH:
        return False
    try:
        known = request.if_none_match
    except ValueError:
        return False
    return known is not None and any(entry.value in (etag, "*") for entry in known)


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Return the media type to send: the first one in ``Accept`` that is offered, else the first that is offered."""
    for part in accept.split(","):
        media_type, _, parameters = part.partition(";")
        refused = parameters.replace(" ", "").startswith("q=0") and not parameters.strip("q=0. ")
        if not refused and media_type.strip().lower() in offered:
            return media_type.strip().lower()
    return offered[0]


def accepts_gzip(header: str) -> bool:
    """Return whether a client accepts gzip (RFC 9110 section 12.5.3): named, or by ``*``, with a weight above 0."""
    weights: dict[str, bool] = {}
    for part in header.lower().split(","):
        coding, _, parameters = part.partition(";")
        refused = parameters.replace(" ", "").startswith("q=0") and not parameters.strip("q=0. ")
        weights[coding.strip()] = not refused
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def _links(request: web.Request, answer: Items) -> str | None:
    """Return the Link header (RFC 8288): relative URLs with the caller's own parameters and the cursor of a page."""
    replaced = {"after", "before", *answer.fixed}
    names = answer.other_names
    kept = [(name, value) for name, value in request.query.items() if names.get(name, name) not in replaced]
    kept += [(name, value) for name, value in answer.fixed.items() if value is not None]
    pages = (("next", "after", answer.next), ("prev", "before", answer.previous))
    links = [
        f'<{request.rel_url.raw_path}?{urlencode([*kept, (parameter, cursor)])}>; rel="{relation}"'
        for relation, parameter, cursor in pages
        if cursor is not None
    ]
    return ", ".join(links) or None

"""Turning pages: opaque cursors, exclusive, both ways.

A cursor is base64url of a short JSON list: the list and sort it belongs to, whether it includes its own
place, and the sort values of that place. It holds nothing a caller could not see in the list itself, so it
needs no signature; a forged one can only ask for a place that is not there. Callers must treat it as opaque
all the same.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import orjson
from pydantic import BeforeValidator, Field

from indexer.api.parameters import Query, Texts, whole_number
from indexer.errors import CallerError
from indexer.rfc3339 import clamp
from indexer.store.listing.keyset import Order, Position
from indexer.store.listing.walk import Page

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_CURSOR = 2000

_NO_CURSOR = "this is no cursor of this list"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGERS = {"integer": 2**31, "bigint": 2**63}

CursorText = Annotated[str, Field(min_length=1, max_length=MAX_CURSOR, pattern=r"^[A-Za-z0-9_-]+$")]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(whole_number)]


class ListQuery(Query):
    """What every list takes."""

    limit: Limit = Field(default=DEFAULT_LIMIT, description="How many items at most.")
    after: CursorText | None = Field(default=None, description="Go on after this place: `next` of a page.")
    before: CursorText | None = Field(
        default=None, description="Go back before this place: `previous` of a page."
    )
    fields: Texts | None = Field(
        default=None, description="Show these members of each item only: of JSON, NDJSON and CSV."
    )
    count: Literal["exact", "estimate"] | None = Field(
        default=None, description="Add `count`. Exact is expensive; an estimate may be wrong by some factor."
    )


def page_of(query: ListQuery, scope: str, orders: Sequence[Order]) -> Page:
    """Return the page a caller wants of the list ``scope``; raise ``CallerError`` for a bad cursor."""
    if query.after is not None and query.before is not None:
        raise CallerError(
            "after and before exclude each other",
            code="invalid_parameter",
            parameter="before",
            allowed="one of after, before",
        )
    if query.after is not None:
        return Page(limit=query.limit, position=_read("after", query.after, scope, orders))
    if query.before is not None:
        position = _read("before", query.before, scope, orders)
        return Page(limit=query.limit, position=position, backwards=True)
    return Page(limit=query.limit)


def cursor_of(position: Position | None, scope: str, orders: Sequence[Order]) -> str | None:
    """Return the cursor of a place in the list ``scope``."""
    if position is None:
        return None
    values = [_encode(value) for value in position.values]
    text = orjson.dumps([_label(scope, orders), int(position.inclusive), *values])
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def _label(scope: str, orders: Sequence[Order]) -> str:
    return f"{scope}:{','.join(('-' if o.descending else '') + o.column.name for o in orders)}"


def _read(parameter: str, cursor: str, scope: str, orders: Sequence[Order]) -> Position:
    try:
        return _position(cursor, scope, orders)
    except ValueError as error:
        raise CallerError(
            f"{parameter}: {error}",
            code="invalid_cursor",
            parameter=parameter,
            allowed="next or previous of a page of this list, with the same sort",
        ) from None


def _position(cursor: str, scope: str, orders: Sequence[Order]) -> Position:
    label, inclusive, *values = _parts(cursor)
    if label != _label(scope, orders):
        raise ValueError("the cursor belongs to another list or another sort")
    if inclusive not in (0, 1) or len(values) != len(orders):
        raise ValueError(_NO_CURSOR)
    decoded = tuple(_decode(order, value) for order, value in zip(orders, values, strict=True))
    return Position(decoded, inclusive=bool(inclusive))


def _parts(cursor: str) -> list[object]:
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        parts = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        parts = None
    if not isinstance(parts, list) or len(parts) < len(("label", "inclusive", "a value")):
        raise ValueError(_NO_CURSOR)
    return parts


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    if isinstance(value, bytes):
        return value.hex()
    return value


def _decode(order: Order, value: object) -> object:
    kind = order.column.type
    if value is None and order.column.absent is not None:
        return None
    if kind == "timestamptz" and type(value) is int:
        return _instant(value)
    if kind == "bytea" and isinstance(value, str):
        return bytes.fromhex(value)
    if kind in _INTEGERS and type(value) is int and -_INTEGERS[kind] <= value < _INTEGERS[kind]:
        return value
    if kind == "text" and isinstance(value, str) and "\x00" not in value:
        return value
    raise ValueError(_NO_CURSOR)


def _instant(microseconds: int) -> datetime:
    try:
        return clamp(_EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        raise ValueError(_NO_CURSOR) from None

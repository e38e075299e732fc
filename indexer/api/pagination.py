"""Sealed cursors of lists: exclusive, in both directions.

A cursor contains the sort values of a position in a list, and whether it includes that position, encrypted and
authenticated (AES-SIV, RFC 5297) with a secret that all processes share. It is bound to the list, its sort, its filters
and the caller's grants, by AES-SIV's associated data. So a caller can neither read nor make a cursor, nor use it for
another request. One position always has the same cursor, since the entity tag of a page covers its cursors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import BeforeValidator, Field

from indexer.api.parameters import Query, Texts, whole_number
from indexer.common.errors import CallerError, StoreError
from indexer.common.rfc3339 import clamp
from indexer.store.cursors import cursor_secret
from indexer.store.listing.keyset import Order, Position
from indexer.store.listing.page_query import Page
from indexer.store.reading import Readers

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_CURSOR = 2000

KEY_SECONDS = 60.0
"""How long the key is cached: it changes when the database is created anew while the server runs."""

_NO_CURSOR = "this is no cursor of this list, sort, filters and grants"
_OLD_CURSOR = "the cursor is of an earlier version, which is not accepted any more"
_OLD_FORM = b'["'
_PADDED_TO = 32
"""Bytes: cursors are padded to a multiple, so that their length reveals no more of the values."""
_NO_FILTERS = {"limit", "after", "before", "count", "fields", "sort"}
"""Parameters that are no filters. A cursor is bound to the sort by its label."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGERS = {"integer": 2**31, "bigint": 2**63}

CursorText = Annotated[str, Field(min_length=1, max_length=MAX_CURSOR, pattern=r"^[A-Za-z0-9_-]+$")]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(whole_number)]


class ListQuery(Query):
    """Parameters of every list."""

    limit: Limit = Field(default=DEFAULT_LIMIT, description="Number of items, at most.")
    after: CursorText | None = Field(default=None, description="The following page: `next` of this one.")
    before: CursorText | None = Field(default=None, description="The page before: `previous` of this one.")
    fields: Texts | None = Field(
        default=None, description="Only these members of each item, in JSON, NDJSON and CSV."
    )
    count: Literal["exact", "estimate"] | None = Field(
        default=None,
        description="Add `count`. `exact` is expensive; `estimate` may be wrong by some factor. For a token that may "
        "not read everything, an estimate is a count that ends at 100,000.",
    )


class CursorKeys:
    """The key of cursors, from the database, cached for ``KEY_SECONDS``."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._key: AESSIV | None = None
        self._read_at = float("-inf")

    async def get(self) -> AESSIV:
        """Return the key; raise ``StoreError`` where it cannot be read and none is cached."""
        now = time.monotonic()
        if self._key is None or now - self._read_at > KEY_SECONDS:
            try:
                async with self._readers.reading() as held:
                    self._key = key_of(await cursor_secret(held))
            except StoreError:
                if self._key is None:
                    raise
            self._read_at = now
        return self._key


def key_of(secret: bytes) -> AESSIV:
    """Return the key that is derived from the secret."""
    return AESSIV(hashlib.sha512(b"cursors of lists" + secret).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursors:
    """The cursors of one request; ``question`` returns what they are bound to beside list and sort."""

    key: AESSIV
    question: Callable[[], bytes]

    def page_of(self, query: ListQuery, scope: str, orders: Sequence[Order]) -> Page:
        """Return the requested page of the list ``scope``; raise ``CallerError`` for a bad cursor."""
        if query.after is not None and query.before is not None:
            raise CallerError(
                "after and before exclude each other",
                code="invalid_parameter",
                parameter="before",
                allowed="one of after, before",
            )
        if query.after is not None:
            return Page(limit=query.limit, position=self._read("after", query.after, scope, orders))
        if query.before is not None:
            position = self._read("before", query.before, scope, orders)
            return Page(limit=query.limit, position=position, backwards=True)
        return Page(limit=query.limit)

    def cursor_of(self, position: Position | None, scope: str, orders: Sequence[Order]) -> str | None:
        """Return the cursor of a position in the list ``scope``; None without a position."""
        if position is None:
            return None
        plain = orjson.dumps([int(position.inclusive), *(_encode(value) for value in position.values)])
        padded = plain.ljust(-(-len(plain) // _PADDED_TO) * _PADDED_TO)
        sealed = self.key.encrypt(padded, [_label(scope, orders), self.question()])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def _read(self, parameter: str, cursor: str, scope: str, orders: Sequence[Order]) -> Position:
        try:
            return _position(self._opened(cursor, scope, orders), orders)
        except ValueError as error:
            raise CallerError(
                f"{parameter}: {error}",
                code="invalid_cursor",
                parameter=parameter,
                allowed="next or previous of a page of this list, with the same sort, filters and grants; "
                "without a cursor the list begins at its first page",
            ) from None

    def _opened(self, cursor: str, scope: str, orders: Sequence[Order]) -> list[object]:
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raise ValueError(_NO_CURSOR) from None
        try:
            parts = orjson.loads(self.key.decrypt(sealed, [_label(scope, orders), self.question()]))
        except (InvalidTag, ValueError):
            # Only now: of the cursors that are valid, one in 65,536 begins with these bytes, too.
            raise ValueError(_OLD_CURSOR if sealed.startswith(_OLD_FORM) else _NO_CURSOR) from None
        if not isinstance(parts, list):
            raise ValueError(_NO_CURSOR)
        return parts


def question_of(
    given: Iterable[tuple[str, str]], path: Mapping[str, str], grants: Iterable[str] | None
) -> bytes:
    """Return a hash of what distinguishes requests for the same list: filters, path and grants.

    ``given`` are the parameters as they were sent: an age is another instant on every page. ``grants``: the
    repositories that the caller may read; None: all, or the list is of a single one.
    """
    filters = sorted(list(each) for each in given if each[0] not in _NO_FILTERS)
    narrowed = None if grants is None else hashlib.sha256("\n".join(sorted(grants)).encode()).hexdigest()
    return hashlib.sha256(orjson.dumps([filters, sorted(path.items()), narrowed])).digest()


def _label(scope: str, orders: Sequence[Order]) -> bytes:
    sort = ",".join(("-" if order.descending else "") + order.column.name for order in orders)
    return f"{scope}:{sort}".encode()


def _position(parts: list[object], orders: Sequence[Order]) -> Position:
    inclusive, *values = parts
    if inclusive not in (0, 1) or len(values) != len(orders):
        raise ValueError(_NO_CURSOR)
    decoded = tuple(_decode(order, value) for order, value in zip(orders, values, strict=True))
    return Position(decoded, inclusive=bool(inclusive))


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, uuid.UUID):
        return str(value)
    return value


def _decode(order: Order, value: object) -> object:
    kind = order.column.type
    if value is None and order.column.absent is not None:
        return None
    if kind == "timestamptz" and type(value) is int:
        return _instant(value)
    if kind == "bytea" and isinstance(value, str):
        return bytes.fromhex(value)
    if kind == "uuid" and isinstance(value, str):
        return uuid.UUID(value)
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

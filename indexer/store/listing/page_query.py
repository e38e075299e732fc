"""Fetches a page: segments one after the other, until it is full or enough entries were scanned.

The statement is a *late lookup*: sort and filters inside, on an index alone if it has the columns, and the rows of the
page joined at the end. A plain index scan would read each row before it tests a filter (5 times slower where nothing
matches, measured with 500,000 tags).

A list may be too long to be searched to its end in one request. Then a page scans at most ``bound`` entries. It may be
short or empty, and still have a next page: the caller continues from the last entry scanned. If the index does not have
the key that breaks ties, tied entries are scanned together, and the last of them may exceed the bound: sorting 100,000
entries 32 at a time took longer than scanning them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import orjson

from indexer.store.listing.keyset import (
    KeyPart,
    Order,
    Position,
    Segment,
    behind_ties,
    indexed,
    segments,
)
from indexer.store.listing.statement import Condition, SqlStatement
from indexer.store.pool import Connection

Row = Any
"""A driver's record: columns by name."""

MATCH_CHUNK = 2000
"""Entries fetched at a time where they are matched here. RE2 takes 2 µs for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a caller wants: at most ``limit`` rows after ``position``, or before it if ``backwards``."""

    limit: int
    position: Position | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRows:
    """Rows in the list's order, and where the next and the previous page begin; None: there is none.

    ``keys``: the sort keys of each row, for :func:`place`.
    """

    rows: Sequence[Row]
    next: Position | None
    previous: Position | None
    keys: Sequence[Row] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """A test of the text in the column ``sql`` that is made here and not in SQL: a regular expression of the caller."""

    sql: str
    matches: Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """One list: where its rows come from, what belongs to it, its order, its filters.

    - ``source``: returns the FROM clause for a part of the list, with alias ``t``.
    - ``identity``: the columns, with their types, that find a row again.
    - ``outer``: what is selected of a row, from ``joins``, which start from ``w``: the identity of the page's rows,
      under the same names.
    - ``bound``: at most so many entries are scanned for a page; None: no limit.
    - ``direct``: joins from the source itself, for a list without filters, where a late lookup gains nothing.
    - ``each``: repositories of which each gives its own first rows, to be merged; for a few hundred at most.
    """

    source: Callable[[KeyPart], str]
    scope: tuple[Condition, ...]
    orders: tuple[Order, ...]
    identity: tuple[tuple[str, str], ...]
    outer: str
    joins: str
    filters: tuple[Condition, ...] = ()
    matcher: Matcher | None = None
    bound: int | None = None
    direct: str | None = None
    each: tuple[int, ...] | None = None


async def fetch_page(connection: Connection, listing: PageQuery, page: Page) -> PageRows:
    """Return one page."""
    orders = tuple(o.reverse() for o in listing.orders) if page.backwards else listing.orders
    listing = replace(listing, orders=orders)
    fetch = _fetch if listing.matcher is None else _fetch_matching
    return _found(page, await fetch(connection, listing, page))


async def count(connection: Connection, listing: PageQuery) -> int:
    """Count the whole list, filters included. Expensive: only done if a caller asks for it."""
    if listing.matcher is not None:
        unbound = replace(listing, bound=None)
        return sum([len(chunk.hits) async for chunk in _chunks(connection, unbound, None)])
    statement = SqlStatement()
    text = f"SELECT count(*) FROM {_all_of(listing, statement)}"
    return int(await connection.fetchval(text, *statement.values))


async def count_to(connection: Connection, listing: PageQuery, *, most: int) -> int:
    """Count the list, filters included, up to ``most``."""
    if listing.matcher is not None:
        hits = 0
        async for chunk in _chunks(connection, replace(listing, bound=None), None):
            hits += len(chunk.hits)
            if hits >= most:
                return most
        return hits
    statement = SqlStatement()
    inner = f"SELECT FROM {_all_of(listing, statement)} LIMIT {statement.bind(most)}"
    return int(await connection.fetchval(f"SELECT count(*) FROM ({inner}) AS counted", *statement.values))


async def estimate(connection: Connection, listing: PageQuery) -> int:
    """Return how many rows the planner expects: cheap, and wrong by some factor if there are filters."""
    statement = SqlStatement()
    text = f"EXPLAIN (FORMAT JSON) SELECT FROM {_all_of(listing, statement)}"
    plan = orjson.loads(await connection.fetchval(text, *statement.values))
    return int(plan[0]["Plan"]["Plan Rows"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """Rows in the order they were read; where they begin, and where to continue."""

    rows: Sequence[Row]
    keys: Sequence[Row]
    begin: Position | None
    end: Position | None


def _found(page: Page, read: _Read) -> PageRows:
    begin = read.begin if page.position is not None else None
    if page.position is not None and begin is None:
        # An empty page: the other side begins where this one would, with the row that this one left out.
        begin = Position(page.position.values, inclusive=not page.position.inclusive)
    if page.backwards:
        return PageRows(rows=read.rows[::-1], next=begin, previous=read.end, keys=read.keys[::-1])
    return PageRows(rows=read.rows, next=read.end, previous=begin, keys=read.keys)


def place(listing: PageQuery, found: PageRows, number: int) -> Position:
    """Return the position of a row of a page, by its number from 0."""
    return _position(listing, found.keys[number])


async def _fetch(connection: Connection, listing: PageQuery, page: Page) -> _Read:
    async with AsyncExitStack() as stack:
        if listing.bound is not None:
            # A second statement finds where the scan stopped. It must see the same entries.
            await stack.enter_async_context(
                connection.transaction(isolation="repeatable_read", readonly=True)
            )
        return await _fetch_segments(connection, listing, page)


async def _fetch_segments(connection: Connection, listing: PageQuery, page: Page) -> _Read:
    rows: list[Row] = []
    stopped: Position | None = None
    for segment in segments(listing.orders, page.position):
        statement = SqlStatement()
        text = _page_statement(statement, listing, segment, page.limit + 1 - len(rows))
        rows += await connection.fetch(text, *statement.values)
        if len(rows) > page.limit:
            break
        stopped = await _stopped(connection, listing, segment)
        if stopped is not None:
            break
    kept = rows[: page.limit]
    end = _position(listing, kept[-1]) if len(rows) > page.limit else stopped
    return _Read(rows=kept, keys=kept, begin=_position(listing, kept[0]) if kept else None, end=end)


async def _stopped(connection: Connection, listing: PageQuery, segment: Segment) -> Position | None:
    """Return the last entry that a bounded scan of a segment reads; None if it reaches the segment's end."""
    if listing.bound is None:
        return None
    statement = SqlStatement()
    text = _boundary_statement(statement, listing, segment, listing.bound)
    last = await connection.fetchrow(text, *statement.values)
    return None if last is None else behind_ties(listing.orders, tuple(last.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    hits: list[Row]
    scanned: int
    end: Position | None


async def _chunks(
    connection: Connection, listing: PageQuery, position: Position | None
) -> AsyncIterator[_Chunk]:
    """Scan the keys of a list in chunks and keep those whose text matches."""
    assert listing.matcher is not None  # noqa: S101 - the callers checked; tells mypy
    matches = listing.matcher.matches
    while True:
        rows: list[Row] = []
        for segment in segments(listing.orders, position):
            statement = SqlStatement()
            text = _keys_statement(statement, listing, segment, MATCH_CHUNK - len(rows))
            rows += await connection.fetch(text, *statement.values)
            if len(rows) >= MATCH_CHUNK:
                break
        position = _position(listing, rows[-1]) if len(rows) >= MATCH_CHUNK else None
        yield _Chunk(hits=[row for row in rows if matches(row["matched"])], scanned=len(rows), end=position)
        if position is None:
            return


async def _fetch_matching(connection: Connection, listing: PageQuery, page: Page) -> _Read:
    hits: list[Row] = []
    scanned, end = 0, None
    async for chunk in _chunks(connection, listing, page.position):
        hits += chunk.hits
        scanned += chunk.scanned
        end = chunk.end
        if len(hits) > page.limit or (listing.bound is not None and scanned >= listing.bound):
            break
    kept = hits[: page.limit]
    rows, keys = await _details(connection, listing, kept)
    return _Read(
        rows=rows,
        keys=keys,
        begin=_position(listing, kept[0]) if kept else None,
        end=_position(listing, kept[-1]) if len(hits) > page.limit else end,
    )


async def _details(
    connection: Connection, listing: PageQuery, keys: Sequence[Row]
) -> tuple[Sequence[Row], Sequence[Row]]:
    """Return the rows of the keys, in their order, and their keys, without rows that were deleted meanwhile."""
    if not keys:
        return [], []
    names = [name for name, _ in listing.identity]
    arrays = ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(listing.identity, start=1))
    columns = ", ".join(f"w.{name} AS id_{name}" for name in names)
    rows = await connection.fetch(
        f"SELECT {listing.outer}, {columns} FROM unnest({arrays}) AS w ({', '.join(names)}) {listing.joins}",
        *([key[f"id_{name}"] for key in keys] for name in names),
    )
    by_identity = {tuple(row[f"id_{name}"] for name in names): row for row in rows}
    order = [(key, tuple(key[f"id_{name}"] for name in names)) for key in keys]
    there = [(key, identity) for key, identity in order if identity in by_identity]
    return [by_identity[identity] for _, identity in there], [key for key, _ in there]


def _page_statement(statement: SqlStatement, listing: PageQuery, segment: Segment, limit: int) -> str:
    if listing.direct is not None and not (listing.filters or listing.bound or listing.each):
        return _direct_statement(statement, listing, segment, limit)
    columns = [order.column.sql for order in listing.orders]
    names = _names(listing)
    # Each column once: of two names for one column the planner knows the order of only one, and would sort again.
    inside = {name: f"t.{name}" for name, _ in listing.identity} | dict(zip(names, columns, strict=True))
    selected = ", ".join(f"{column} AS {name}" for name, column in inside.items())
    rows = _rows(statement, listing, segment, limit)
    order = segment.order_by(listing.orders, columns)
    inner = f"SELECT {selected} FROM {rows} ORDER BY {order} LIMIT {statement.bind(limit)}"
    keys = _keys(listing.orders, [f"w.{name}" for name in names])
    outer_order = segment.order_by(listing.orders, [f"w.{name}" for name in names])
    return f"SELECT {listing.outer}, {keys} FROM ({inner}) AS w {listing.joins} ORDER BY {outer_order}"


def _direct_statement(statement: SqlStatement, listing: PageQuery, segment: Segment, limit: int) -> str:
    columns = [order.column.sql for order in listing.orders]
    keys = _keys(listing.orders, columns)
    where = statement.where(*listing.scope, *segment.conditions)
    return (
        f"SELECT {listing.outer}, {keys} FROM {listing.source(segment.part)} {listing.direct} {where} "
        f"ORDER BY {segment.order_by(listing.orders, columns)} LIMIT {statement.bind(limit)}"
    )


def _keys(orders: Sequence[Order], columns: Sequence[str]) -> str:
    """Return what is selected for a position: the sort keys, from these columns."""
    keys = zip(orders, columns, strict=True)
    return ", ".join(f"{order.column.selected(column)} AS k{n}" for n, (order, column) in enumerate(keys))


def _names(listing: PageQuery) -> list[str]:
    """Return the names of the page's sort keys within the statement."""
    identity = {f"t.{name}": name for name, _ in listing.identity}
    return [identity.get(order.column.sql, f"k{n}") for n, order in enumerate(listing.orders)]


def _rows(statement: SqlStatement, listing: PageQuery, segment: Segment, limit: int) -> str:
    """Return FROM and WHERE of a segment's rows: all, up to the bound, or per repository."""
    source = listing.source(segment.part)
    within = (*listing.scope, *segment.conditions)
    order = segment.order_by(listing.orders, [order.column.sql for order in listing.orders])
    if listing.each is not None:
        ids = f"unnest({statement.bind(list(listing.each))}::integer[]) AS each (id)"
        where = statement.where(Condition("t.repository_id = each.id"), *within, *listing.filters)
        newest = f"SELECT t.* FROM {source} {where} ORDER BY {order} LIMIT {statement.bind(limit)}"
        return f"{ids} CROSS JOIN LATERAL ({newest}) AS t"
    if listing.bound is not None:
        keys = indexed(listing.orders)
        order = segment.order_by(keys, [order.column.sql for order in keys])
        scanned = f"SELECT t.* FROM {source} {statement.where(*within)} ORDER BY {order}"
        scanned += f" FETCH FIRST {statement.bind(listing.bound)} ROWS WITH TIES"
        return f"({scanned}) AS t {statement.where(*listing.filters)}"
    return f"{source} {statement.where(*within, *listing.filters)}"


def _keys_statement(statement: SqlStatement, listing: PageQuery, segment: Segment, limit: int) -> str:
    """Select what a position needs, what finds the row again, and the text to match."""
    assert listing.matcher is not None  # noqa: S101 - the caller checked; tells mypy
    columns = [order.column.sql for order in listing.orders]
    keys = _keys(listing.orders, columns)
    identity = ", ".join(f"t.{name} AS id_{name}" for name, _ in listing.identity)
    order = segment.order_by(listing.orders, columns)
    rows = _rows(statement, replace(listing, bound=None), segment, limit)
    select = f"SELECT {identity}, {keys}, {listing.matcher.sql} AS matched FROM {rows}"
    return f"{select} ORDER BY {order} LIMIT {statement.bind(limit)}"


def _boundary_statement(statement: SqlStatement, listing: PageQuery, segment: Segment, bound: int) -> str:
    """Select the position of the last entry that a scan of ``bound`` entries reads, without filters."""
    orders = indexed(listing.orders)
    columns = [order.column.sql for order in orders]
    keys = _keys(orders, columns)
    where = statement.where(*listing.scope, *segment.conditions)
    order = segment.order_by(orders, columns)
    select = f"SELECT {keys} FROM {listing.source(segment.part)} {where}"
    return f"{select} ORDER BY {order} OFFSET {statement.bind(bound - 1)} LIMIT 1"


def _all_of(listing: PageQuery, statement: SqlStatement) -> str:
    each = () if listing.each is None else (Condition("t.repository_id = ANY ({})", (list(listing.each),)),)
    return f"{listing.source(KeyPart.ALL)} {statement.where(*each, *listing.scope, *listing.filters)}"


def _position(listing: PageQuery, row: Row) -> Position:
    return Position(tuple(order.column.value(row[f"k{n}"]) for n, order in enumerate(listing.orders)))

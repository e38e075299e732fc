"""Order, and how to continue from a position in it: sort keys, positions, and the segments a page is read in.

A page is everything *after a position*, in order. If all sort keys have one direction, that is one row comparison,
``(a, b) > ($1, $2)``, which one index serves at any depth, ties included. Otherwise the rest of the list is a short
sequence of *segments*, each of which an index serves: for ``-size, name`` first the rows of the same size with a later
name, then the smaller ones. Unknown values come last in either direction. They are a segment of their own, since the
index has them first.

Segments are read one after the other until the page is full. Usually one is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from indexer.store.instants import read_instant
from indexer.store.listing.statement import Condition


class KeyPart(Enum):
    """Which rows a segment has, by its first key: all, those with a known value, or those without."""

    ALL = "all"
    KNOWN = "known"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a list can be sorted by.

    - ``name``: what the caller calls it. ``sql``: the column. ``type``: PostgreSQL's type.
    - ``absent``: the lowest value of the type, where it stands for "not known".
    - ``apart``: rows without a value have no row in the joined table. They are found in another way than those with
      one, so the two are never read in one scan.
    - ``beyond``: values below and above all others, of a key that only breaks ties and is not in the index.
    """

    name: str
    sql: str
    type: str
    absent: str | None = None
    apart: bool = False
    beyond: tuple[object, object] | None = None

    def selected(self, column: str) -> str:
        """Return how ``column``, which has this key, is selected: an instant as text, since few are parsed."""
        return f"{column}::text" if self.type == "timestamptz" else column

    def value(self, selected: Any) -> object:
        """Return a selected value as a position has it: None where absent."""
        if self.type == "timestamptz":
            return read_instant(selected)
        return selected if self.absent is None else selected or None


@dataclass(frozen=True, slots=True)
class Order:
    """A column and its direction. ``backwards``: the page is read backwards, with absent values first."""

    column: Column
    descending: bool = False
    backwards: bool = False

    @property
    def splits(self) -> bool:
        """True if the index has absent values at the wrong end, or does not have them."""
        forward_descending = self.descending != self.backwards
        return self.column.absent is not None and (self.column.apart or not forward_descending)

    @property
    def parts(self) -> tuple[KeyPart, ...]:
        """The parts of the list in the order they are read."""
        if not self.splits:
            return (KeyPart.ALL,)
        return (KeyPart.ABSENT, KeyPart.KNOWN) if self.backwards else (KeyPart.KNOWN, KeyPart.ABSENT)

    def reverse(self) -> Order:
        """Return the order to read a page backwards."""
        return Order(self.column, not self.descending, not self.backwards)

    def sql(self, column: str, part: KeyPart) -> str:
        """Return the ORDER BY of this key, under the name ``column``, within a part."""
        direction = "DESC" if self.descending else "ASC"
        if not (self.splits and part is KeyPart.ALL):
            return f"{column} {direction}"
        absent_last = "DESC" if self.backwards else "ASC"
        return f"({column} = {self.column.absent}) {absent_last}, {column} {direction}"


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a list: the sort values of a row, each None where absent.

    A page begins after it; ``inclusive``: with the row itself.
    """

    values: tuple[object, ...]
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the list that one statement reads: which rows, of which ``KeyPart``, and which keys order them.

    The keys before ``start`` are the same in all its rows. ``first`` is the part of the key at ``start``.
    """

    conditions: tuple[Condition, ...]
    part: KeyPart
    start: int
    first: KeyPart

    def order_by(self, orders: Sequence[Order], columns: Sequence[str]) -> str:
        """Return the ORDER BY, with the keys under the names ``columns``."""
        rest = list(zip(orders, columns, strict=True))[self.start :]
        (leading, column), *others = rest
        return ", ".join(
            [leading.sql(column, self.first), *(order.sql(name, KeyPart.ALL) for order, name in others)]
        )


def segments(orders: Sequence[Order], position: Position | None) -> Iterator[Segment]:
    """Yield the segments of everything after ``position`` (None: from the beginning), in order."""
    if position is None:
        for part in orders[0].parts:
            yield _segment(orders, _class(orders[0], part), part, 0, part)
        return
    runs = _runs(orders)
    here = _part_of(orders[0], position.values[0])
    for number in range(len(runs) - 1, -1, -1):
        start = sum(len(run) for run in runs[:number])
        pairs = zip(orders[:start], position.values[:start], strict=True)
        equal = tuple(_equals(order, value) for order, value in pairs)
        values = position.values[start : start + len(runs[number])]
        inclusive = position.inclusive and number == len(runs) - 1
        for part, conditions in _after(runs[number], values, inclusive=inclusive):
            yield _segment(orders, (*equal, *conditions), here if start else part, start, part)


def _segment(
    orders: Sequence[Order], conditions: tuple[Condition, ...], part: KeyPart, start: int, first: KeyPart
) -> Segment:
    if first is KeyPart.ABSENT and start + 1 < len(orders):  # the same in all rows, and so no order
        return Segment(conditions, part, start + 1, KeyPart.ALL)
    return Segment(conditions, part, start, first)


def _runs(orders: Sequence[Order]) -> list[list[Order]]:
    """Group keys that one row comparison covers: of one direction, and only the first may be split into parts."""
    runs: list[list[Order]] = []
    for order in orders:
        if runs and not order.splits and order.descending == runs[-1][0].descending:
            runs[-1].append(order)
        else:
            runs.append([order])
    return runs


def _after(
    run: Sequence[Order], values: Sequence[object], *, inclusive: bool
) -> Iterator[tuple[KeyPart, tuple[Condition, ...]]]:
    """Yield the parts, with their conditions, that follow ``values`` within a run of keys."""
    first = run[0]
    if not first.splits:
        yield KeyPart.ALL, (_compare(run, values, inclusive=inclusive),)
        return
    here = _part_of(first, values[0])
    for part in first.parts[first.parts.index(here) :]:
        if part is not here:
            yield part, _class(first, part)
        elif part is KeyPart.KNOWN:
            yield part, (*_class(first, part), _compare(run, values, inclusive=inclusive))
        elif len(run) > 1:
            yield part, (*_class(first, part), _compare(run[1:], values[1:], inclusive=inclusive))
        elif inclusive:
            yield part, _class(first, part)


def _part_of(order: Order, value: object) -> KeyPart:
    if not order.splits:
        return KeyPart.ALL
    return KeyPart.ABSENT if value is None else KeyPart.KNOWN


def _class(order: Order, part: KeyPart) -> tuple[Condition, ...]:
    if part is KeyPart.ALL:
        return ()
    comparison = ">" if part is KeyPart.KNOWN else "="
    return (Condition(f"{order.column.sql} {comparison} {order.column.absent}"),)


def _equals(order: Order, value: object) -> Condition:
    if value is None:
        return Condition(f"{order.column.sql} = {order.column.absent}")
    return Condition(f"{order.column.sql} = {{}}::{order.column.type}", (value,))


def _compare(run: Sequence[Order], values: Sequence[object], *, inclusive: bool) -> Condition:
    if len(run) > 1 and run[-1].column.beyond is not None:
        return _compare_tied(run, values, inclusive=inclusive)
    comparison = ("<" if run[0].descending else ">") + ("=" if inclusive else "")
    places = [
        f"{order.column.absent}" if value is None else f"{{}}::{order.column.type}"
        for order, value in zip(run, values, strict=True)
    ]
    columns = ", ".join(order.column.sql for order in run)
    bound = tuple(value for value in values if value is not None)
    return Condition(f"({columns}) {comparison} ({', '.join(places)})", bound)


def _compare_tied(run: Sequence[Order], values: Sequence[object], *, inclusive: bool) -> Condition:
    """Match what follows by the keys that the index has, and leave out tied rows before the position.

    A row comparison says the same, but is planned at half the speed, since the index has only a part of it.
    """
    *leading, last = run
    up_to = _compare(leading, values[:-1], inclusive=True)
    tied = [_equals(order, value) for order, value in zip(leading, values[:-1], strict=True)]
    comparison = (">" if last.descending else "<") + ("" if inclusive else "=")
    before = Condition(f"{last.column.sql} {comparison} {{}}::{last.column.type}", (values[-1],))
    parts = (*tied, before)
    return Condition(
        f"{up_to.text} AND NOT ({' AND '.join(part.text for part in parts)})",
        (*up_to.values, *(value for part in parts for value in part.values)),
    )


def indexed(orders: Sequence[Order]) -> Sequence[Order]:
    """Return the keys that an index has: all but one that only breaks ties."""
    return [order for order in orders if order.column.beyond is None]


def behind_ties(orders: Sequence[Order], row: Sequence[object]) -> Position:
    """Return the position after all rows that are tied with ``row``, which has the keys of the index, in order."""
    kept = iter(row)
    return Position(
        tuple(
            order.column.value(next(kept))
            if order.column.beyond is None
            else order.column.beyond[0 if order.descending else 1]
            for order in orders
        )
    )


def orders_of(
    columns: Mapping[str, Column], sort: Sequence[tuple[str, bool]], *, ties: Sequence[str]
) -> tuple[Order, ...]:
    """Return the order that a caller asks for: names of sort keys, each with True for descending.

    ``ties`` are the keys that make the order total. They follow in the direction of the last key. Keys after a total
    order change nothing and are left out.
    """
    chosen: list[Order] = []
    for name, descending in sort:
        if all(order.column.name != name for order in chosen):
            chosen.append(Order(columns[name], descending))
        if set(ties) <= {order.column.name for order in chosen}:
            return tuple(chosen)
    last = chosen[-1].descending if chosen else False
    named = {order.column.name for order in chosen}
    return (*chosen, *(Order(columns[name], last) for name in ties if name not in named))

"""SQL with values that are bound, never formatted in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """A part of a WHERE clause: each ``{}`` in ``text`` stands for one of ``values``, in order.

    ``text`` is written in this package. What comes from a caller is only in ``values``.
    """

    text: str
    values: tuple[object, ...] = ()


NOTHING = Condition("false")
"""Matches no row: a filter names a digest, an actor or a kind that is not on record."""


class SqlStatement:
    """Collects the values of one statement and hands out their ``$n``."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def bind(self, value: object) -> str:
        """Bind a value and return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}"

    def text(self, condition: Condition) -> str:
        """Return a condition as SQL."""
        pieces = condition.text.split("{}")
        bound = [self.bind(value) for value in condition.values]
        return "".join(piece + place for piece, place in zip(pieces, [*bound, ""], strict=True))

    def where(self, *conditions: Condition) -> str:
        """Return ``WHERE a AND b``, or an empty text without conditions."""
        return "WHERE " + " AND ".join(self.text(c) for c in conditions) if conditions else ""


def look_up(table: str, alias: str, *keys: str) -> str:
    """Return a join that finds the row of ``table`` that ``w`` names: one index lookup for each row of the page.

    With a plain join the planner may use ``w``'s columns for a third table of the statement, use half of the primary
    key, and read a whole repository for each row (measured: 700,000 pages of the database). It cannot do so with a
    LIMIT.
    """
    same = " AND ".join(f"{alias}.{key} = w.{key}" for key in keys)
    return f"JOIN LATERAL (SELECT * FROM {table} AS {alias} WHERE {same} LIMIT 1) AS {alias} ON true"


def starts_with(column: str, prefix: str) -> tuple[Condition, ...]:
    """Match a prefix as a range, for which any plan can use an index; with ``LIKE`` and ``^@`` some do not (measured).

    Names are ASCII under ``COLLATE "C"``: the upper bound is the prefix with its last character raised by one.
    """
    if not prefix.isascii():
        return (NOTHING,)
    bound = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return Condition(f"{column} >= {{}}", (prefix,)), Condition(f"{column} < {{}}", (bound,))


def contains(column: str, text: str) -> Condition:
    """Match a substring; nothing in it needs escaping."""
    return Condition(f"strpos({column}, {{}}) > 0", (text,))


def matches_glob(column: str, pattern: str) -> tuple[Condition, ...]:
    """Match ``*`` (any characters) and ``?`` (one character); the literal beginning becomes a range."""
    literal = pattern.split("*", 1)[0].split("?", 1)[0]
    while "**" in pattern:
        pattern = pattern.replace("**", "*")
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    like = Condition(f"{column} LIKE {{}}", (escaped.replace("*", "%").replace("?", "_"),))
    return (*starts_with(column, literal), like) if literal else (like,)

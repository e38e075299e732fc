"""Where a list of tags comes from: table ``tag``, and the tables of times that are kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.store.listing.keyset import KeyPart, Order
from indexer.store.listing.tag_filter import TagFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeTable:
    """A time that is not a column of ``tag``: its table only has rows of the tags that have such a time."""

    column: str
    table: str
    alias: str

    @property
    def rows(self) -> str:
        """Return the tag's row of the table, from FROM on."""
        a = self.alias
        return f"FROM {self.table} AS {a} WHERE {a}.repository_id = t.repository_id AND {a}.name = t.name"

    @property
    def joined(self) -> str:
        """Return what joins the table, to be put after ``tag AS t``."""
        a = self.alias
        return f" LEFT JOIN {self.table} AS {a} ON {a}.repository_id = t.repository_id AND {a}.name = t.name"

    @property
    def value(self) -> str:
        """Return what selects the time where the table is joined."""
        return f", coalesce({self.alias}.{self.column}, '-infinity') AS {self.column}"


TIME_TABLES = (
    TimeTable(column="last_pulled_at", table="tag_pull", alias="p"),
    TimeTable(column="last_checked_at", table="tag_check", alias="k"),
)
_OF_TAG = (
    "t.manifest_id, t.size_bytes, t.published_at, t.image_created, t.first_seen_at, t.verified_at, t.facet_id, "
    "t.pushed_by, t.broken_reason, t.semver_key"
)


def source(orders: Sequence[Order], wanted: TagFilter, part: KeyPart) -> str:
    """Return where tags come from. Times in other tables are joined only if they are asked for.

    If such a time is the first key, the known part comes in the order of its own table, the absent part without its
    rows.
    """
    leading = None if part is KeyPart.ALL else _leading(orders)
    values, joins = _others(orders, wanted, leading)
    if leading is None:
        return f"(SELECT t.*{values} FROM tag AS t{joins}) AS t" if joins else "tag AS t"
    if part is KeyPart.ABSENT:
        return (
            f"(SELECT t.*, '-infinity'::timestamptz AS {leading.column}{values} FROM tag AS t{joins} "
            f"WHERE NOT EXISTS (SELECT {leading.rows})) AS t"
        )
    a = leading.alias
    return (
        f"(SELECT {a}.repository_id, {a}.name, {a}.{leading.column}, {_OF_TAG}{values} FROM {leading.table} AS {a} "
        f"JOIN tag AS t ON t.repository_id = {a}.repository_id AND t.name = {a}.name{joins}) AS t"
    )


def source_everywhere(orders: Sequence[Order], wanted: TagFilter, part: KeyPart) -> str:
    """Return the same of tags across repositories by when they were pulled: its absent part has all tags.

    A filter leaves out those that were pulled, so that a scan of a bounded number of tags ends where it should.
    """
    leading = _leading(orders)
    if part is not KeyPart.ABSENT or leading is None:
        return f"(SELECT t.*, false AS elsewhere FROM {source(orders, wanted, part)}) AS t"
    values, joins = _others(orders, wanted, leading)
    return (
        f"(SELECT t.*, '-infinity'::timestamptz AS {leading.column}, EXISTS (SELECT {leading.rows}) AS elsewhere"
        f"{values} FROM tag AS t{joins}) AS t"
    )


def _leading(orders: Sequence[Order]) -> TimeTable | None:
    """Return the table of the first sort key, if it is a time in another table."""
    return next((each for each in TIME_TABLES if each.column == orders[0].column.name), None)


def _others(orders: Sequence[Order], wanted: TagFilter, leading: TimeTable | None) -> tuple[str, str]:
    """Return what selects and joins the times that are asked for, without the leading one."""
    asked = wanted.time_tables | {order.column.name for order in orders}
    others = [each for each in TIME_TABLES if each is not leading and each.column in asked]
    return "".join(each.value for each in others), "".join(each.joined for each in others)

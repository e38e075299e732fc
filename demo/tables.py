"""What is shown, laid out for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from demo import asking

if TYPE_CHECKING:
    from rich.console import Console

    from demo.asking import Json, Shown

DIGEST_SHOWN = 12
KIBIBYTE = 1024


def show(console: Console, shown: Shown) -> None:
    """Print all of it."""
    for title, path, table in (
        ("Every tag, newest first", asking.ALL_TAGS, _tags(shown.tags)),
        ("Tags of shop/web that run on arm64", asking.ON_ARM, _tags(shown.on_arm)),
        ("What shop/web:latest pointed to", asking.ITS_HISTORY, _history(shown.history)),
        ("Audit log, newest first", asking.AUDIT, _audit(shown.audit)),
        ("Drift that the reconcile found and repaired", asking.DRIFT, _drift(shown.drift)),
    ):
        console.print()
        console.print(f"[bold]{title}[/]   [dim]GET {path}[/]", soft_wrap=True)
        console.print(table)


def _tags(rows: list[Json]) -> Table:
    table = _table("tag", "digest", "kind", "platforms", ">size", "published", "how known", "by", ">pulls")
    for row in rows:
        name = f"{row['repository']}:{row['name']}" if "repository" in row else row["name"]
        table.add_row(
            name,
            _digest(row["digest"]),
            row["kind"],
            ", ".join(row["platforms"]),
            _size(row["size_bytes"]),
            _time(row["published_at"]),
            row["published_at_source"],
            row["pushed_by"] or "",
            str(row["pull_count"] or ""),
        )
    return table


def _history(rows: list[Json]) -> Table:
    table = _table("digest", "from", "to", "by")
    for row in rows:
        until = _time(row["to"]) if row["to"] else "now"
        table.add_row(_digest(row["digest"]), _time(row["from"]), until, row["actor"] or "")
    return table


def _audit(rows: list[Json]) -> Table:
    table = _table(">position", "occurred", "action", "what", "digest", "before", "who", "how known")
    for row in rows:
        table.add_row(
            str(row["position"]),
            _time(row["occurred_at"]),
            row["action"],
            f"{row['repository']}:{row['tag']}" if row["tag"] else row["repository"] or "",
            _digest(row["digest"]),
            _moved_from(row),
            (row["actor"] or {}).get("name", ""),
            row["source"],
        )
    return table


def _drift(rows: list[Json]) -> Table:
    table = _table("kind", "tag", "on record", "in the registry", "likely cause", "repaired")
    for row in rows:
        table.add_row(
            row["kind"],
            f"{row['repository']}:{row['tag']}",
            _digest(row["expected"]),
            _digest(row["found"]),
            row["cause"],
            _time(row["repaired_at"]),
        )
    return table


def _table(*columns: str) -> Table:
    """Make an empty table; ``>`` before a column's name sets it to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold cyan")
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=True
        )
    return table


def _digest(text: str | None) -> str:
    return "-" if text is None else text.partition(":")[2][:DIGEST_SHOWN]


def _moved_from(row: Json) -> str:
    """Where a tag pointed before; a deleted one pointed to what the entry is about."""
    return _digest(row["previous_digest"]) if row["action"] == "tag.moved" else ""


def _time(text: str) -> str:
    """Give the time of day, with the date only where it is not today's."""
    at = datetime.fromisoformat(text)
    if at.date() == datetime.now(UTC).date():
        return at.strftime("%H:%M:%S.%f")[:-3]
    return at.strftime("%Y-%m-%d %H:%M")


def _size(count: int) -> str:
    return f"{count / KIBIBYTE:.1f} KiB"

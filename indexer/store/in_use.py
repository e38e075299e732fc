"""What sources report as in use: for each the whole set it reported last.

A set that shrank by more than half does not count until it is confirmed. Until then the one before it protects, and
what the small one names, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from indexer.policies.facts import InUseReport
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("in_use")

LOCK = 0x696E5F75  # "in_u"
SHRINKS_TO = 0.5
"""A set that has less than this share of the one before it must be confirmed."""

COUNTED, SUSPECTED = False, True
"""The two sets of a source."""

Image = tuple[str, str]
"""A repository ('': in any), and a tag or digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a source reported last.

    ``counted_at``: when the set came that counts; ``suspected_at``: since when its reports have been too small to
    count, None where they are not. It is silent after ``valid_until``.
    """

    source: str
    reported_at: datetime
    counted_at: datetime
    valid_until: datetime
    suspected_at: datetime | None
    images: int
    suspected_images: int | None


async def take_report(
    connection: Connection,
    *,
    source: str,
    images: Iterable[Image],
    at: datetime,
    valid_until: datetime,
    confirm: bool,
) -> Source:
    """Replace a source's set, in the caller's transaction; one that shrank too much is kept beside it."""
    await connection.execute(SQL["lock_source"], LOCK, source)
    wanted = sorted(set(images))
    before = await find_source(connection, source=source)
    suspected = before is not None and not confirm and len(wanted) < before.images * SHRINKS_TO
    await connection.execute(SQL["drop_images"], source, SUSPECTED)
    if suspected:
        await connection.execute(SQL["suspect_source"], source, at, valid_until, len(wanted))
    else:
        await connection.execute(SQL["put_source"], source, at, valid_until, len(wanted))
        await connection.execute(SQL["drop_images"], source, COUNTED)
    await connection.execute(
        SQL["add_images"], source, suspected, [each[0] for each in wanted], [each[1] for each in wanted]
    )
    found = await find_source(connection, source=source)
    assert found is not None  # noqa: S101 - just written; tells mypy
    return found


async def find_source(connection: Connection, *, source: str) -> Source | None:
    """Return what a source reported last, None if it never did."""
    row = await connection.fetchrow(SQL["source"], source)
    return None if row is None else Source(**dict(row))


async def list_sources(connection: Connection) -> list[Source]:
    """Return every source that ever reported."""
    return [Source(**dict(row)) for row in await connection.fetch(SQL["sources"])]


def silent(reported: Iterable[Source], *, expected: Iterable[str], now: datetime) -> list[str]:
    """Return the sources whose set ran out, and those expected ones that never reported."""
    speaking = {each.source: each.valid_until > now for each in reported}
    return sorted(name for name in {*speaking, *expected} if not speaking.get(name, False))


async def list_images(connection: Connection, *, source: str) -> list[Image]:
    """Return the set of a source that counts."""
    return [(row["repository"], row["reference"]) for row in await connection.fetch(SQL["images_of"], source)]


async def reports(connection: Connection) -> list[InUseReport]:
    """Return what policies are evaluated with; what waits for confirmation is protected, too."""
    digests: dict[str, set[str]] = defaultdict(set)
    images: dict[str, set[Image]] = defaultdict(set)
    for row in await connection.fetch(SQL["images"]):
        if row["repository"]:
            images[row["source"]].add((row["repository"], row["reference"]))
        else:
            digests[row["source"]].add(row["reference"])
    return [
        InUseReport(
            source=each.source,
            valid_until=each.valid_until,
            digests=frozenset(digests[each.source]),
            images=frozenset(images[each.source]),
        )
        for each in await list_sources(connection)
    ]


async def names(connection: Connection, *, repository: str, tag: str | None, digest: str) -> bool:
    """Tell whether any source names a tag or a digest of a repository, itself."""
    found: bool = await connection.fetchval(
        SQL["names"], repository, [digest] if tag is None else [digest, tag]
    )
    return found

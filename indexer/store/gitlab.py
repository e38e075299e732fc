"""What GitLab's contract needs of the inventory: pages of tags by name or publish time, sizes, what is below a path.

A page is one statement on one index. A second one, on the same index, finds out whether there are rows on its other
side, since GitLab's pages say so for both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from indexer.oci.digest import Digest, digest_from_bytes
from indexer.store.listing.page_query import Row
from indexer.store.listing.statement import Condition, SqlStatement, contains
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("gitlab")

MOST_REFERRERS = 10_000
"""Referrers shown on one page of tags, all tags together."""

DEEPEST = 5
MOST_REFERENCES = 1000
"""Of one index: nested indexes could otherwise unfold without end."""

_COLUMNS = "t.name, m.digest, t.facet_id, t.size_bytes, t.published_at, t.alive_since, m.config_digest"
_MANIFEST = "LEFT JOIN manifest AS m ON m.id = t.manifest_id"

Key = Literal["name", "published_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRow:
    """A repository."""

    id: int
    name: str
    created_at: datetime
    last_published_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place among tags: after a name, or after a publish time and name."""

    name: str
    published_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsWanted:
    """A page of tags. ``before``: the rows before ``place``, in the same order. ``name``: a substring."""

    repository_id: int
    limit: int
    key: Key = "name"
    descending: bool = False
    place: Place | None = None
    before: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsFound:
    """The rows in order, and whether there are others before and after them."""

    rows: Sequence[Row]
    has_previous: bool
    has_next: bool


@dataclass(frozen=True, slots=True)
class ReferrerOfTag:
    """An artifact whose subject is a manifest."""

    digest: Digest
    artifact_type: str


async def find_repository(connection: Connection, *, name: str) -> RepositoryRow | None:
    """Return a repository."""
    row = await connection.fetchrow(SQL["repository"], name)
    return None if row is None else RepositoryRow(**row)


async def namespace_exists(connection: Connection, *, name: str) -> bool:
    """Tell whether there is a repository at ``name`` or below it."""
    return bool(await connection.fetchval(SQL["namespace_exists"], name))


async def size_of(connection: Connection, *, name: str, descendants: bool) -> int:
    """Return the bytes of the distinct layers below the tags of a repository, or of all at and below it."""
    return int(await connection.fetchval(SQL["size_of"], name, descendants))


async def estimated_size(connection: Connection, *, name: str, descendants: bool) -> int:
    """Return the same from maintained sums: of all manifests, tagged or not; layers in two repositories count twice."""
    return int(await connection.fetchval(SQL["estimated_size"], name, descendants))


async def find_tag(connection: Connection, *, repository_id: int, name: str) -> Row | None:
    """Return one live tag."""
    return await connection.fetchrow(SQL["tag"], repository_id, name)


async def list_descendants(connection: Connection, *, repository_id: int, manifest_id: int) -> Sequence[Row]:
    """Return what an index refers to, and what that refers to, as far as the repository has it.

    ``facet_id`` is null for a manifest that the repository does not have.
    """
    return await connection.fetch(SQL["descendants"], manifest_id, DEEPEST, MOST_REFERENCES, repository_id)


async def list_referrers(
    connection: Connection,
    *,
    repository_id: int,
    digests: Sequence[bytes],
    artifact_types: Sequence[str] | None,
) -> dict[bytes, list[ReferrerOfTag]]:
    """Return the referrers of manifests, by the packed digest they refer to."""
    types = None if artifact_types is None else list(artifact_types)
    rows = await connection.fetch(SQL["referrers"], repository_id, list(digests), types, MOST_REFERRERS)
    found: dict[bytes, list[ReferrerOfTag]] = {}
    for row in rows:
        referrer = ReferrerOfTag(digest_from_bytes(row["digest"]), row["artifact_type"])
        found.setdefault(row["subject_digest"], []).append(referrer)
    return found


async def list_repositories_under(
    connection: Connection, *, path: str, after: str, limit: int
) -> Sequence[Row]:
    """Return repositories with tags at ``path`` or below it, by name."""
    return await connection.fetch(SQL["repositories_under"], path, after, limit)


async def list_tags(connection: Connection, wanted: TagsWanted) -> TagsFound:
    """Return one page of a repository's tags."""
    statement, text = page_statement(wanted)
    rows = await connection.fetch(text, *statement.values)
    kept = rows[: wanted.limit]
    is_more_beyond = len(rows) > wanted.limit
    is_more_behind = False
    if kept and wanted.place is not None:
        statement, text = _behind_statement(wanted, kept[0])
        is_more_behind = bool(await connection.fetchval(text, *statement.values))
    if wanted.before:
        return TagsFound(rows=kept[::-1], has_previous=is_more_beyond, has_next=is_more_behind)
    return TagsFound(rows=kept, has_previous=is_more_behind, has_next=is_more_beyond)


def page_statement(wanted: TagsWanted) -> tuple[SqlStatement, str]:
    """Return the statement of a page: one row more than asked for, in the order of reading.

    With a filter the names are tested within the index, and only the rows of the page are fetched (the late lookup of
    ``listing.page_query``). Without one the index leads to the rows at once.
    """
    statement = SqlStatement()
    where = statement.where(*_scope(wanted), *_beyond(wanted))
    page = f"{where} ORDER BY {_order(wanted, 't')} LIMIT {statement.bind(wanted.limit + 1)}"
    if not wanted.name:
        return statement, f"SELECT {_COLUMNS} FROM tag AS t {_MANIFEST} {page}"
    columns = ", ".join(f"t.{column}" for column in _keys(wanted))
    text = (
        f"SELECT {_COLUMNS} FROM (SELECT {columns} FROM tag AS t {page}) AS w "
        f"JOIN tag AS t ON t.repository_id = {statement.bind(wanted.repository_id)} AND t.name = w.name "
        f"{_MANIFEST} ORDER BY {_order(wanted, 'w')}"
    )
    return statement, text


def _behind_statement(wanted: TagsWanted, first: Row) -> tuple[SqlStatement, str]:
    """Return the statement that tells whether there is a row on the other side of the one that was read first."""
    statement = SqlStatement()
    place = Place(name=first["name"], published_at=first["published_at"])
    where = statement.where(*_scope(wanted), _compare(wanted, place, reverse=True))
    return statement, f"SELECT EXISTS (SELECT FROM tag AS t {where})"


def _scope(wanted: TagsWanted) -> tuple[Condition, ...]:
    repository = Condition("t.repository_id = {}", (wanted.repository_id,))
    return (repository, contains("t.name", wanted.name)) if wanted.name else (repository,)


def _beyond(wanted: TagsWanted) -> tuple[Condition, ...]:
    """Match rows after the place, in the order of reading.

    A plain name with publish order means the names after it, ordered by publish time (contract section 1.5).
    """
    if wanted.place is None:
        return ()
    if wanted.key == "published_at" and wanted.place.published_at is None:
        return (Condition(f"t.name {'<' if _reads_down(wanted) else '>'} {{}}", (wanted.place.name,)),)
    return (_compare(wanted, wanted.place),)


def _compare(wanted: TagsWanted, place: Place, *, reverse: bool = False) -> Condition:
    comparison = "<" if _reads_down(wanted) != reverse else ">"
    if wanted.key == "name":
        return Condition(f"t.name {comparison} {{}}", (place.name,))
    return Condition(
        f"(t.published_at, t.name) {comparison} ({{}}::timestamptz, {{}}::text)",
        (place.published_at, place.name),
    )


def _order(wanted: TagsWanted, alias: str) -> str:
    direction = "DESC" if _reads_down(wanted) else "ASC"
    return ", ".join(f"{alias}.{column} {direction}" for column in _keys(wanted))


def _keys(wanted: TagsWanted) -> tuple[str, ...]:
    return ("name",) if wanted.key == "name" else ("published_at", "name")


def _reads_down(wanted: TagsWanted) -> bool:
    """Tell whether rows are read in descending order: a page before a place is read backwards and then reversed."""
    return wanted.descending != wanted.before

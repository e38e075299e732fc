"""Manifests: those of a repository, and one with everything it refers to and everything that refers to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store.listing.freshness import RepositoryRef
from indexer.store.listing.interned import SQL as IDS
from indexer.store.listing.interned import FacetRow, Interned
from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import Page, PageQuery, PageRows, Row, fetch_page
from indexer.store.listing.statement import NOTHING, Condition, look_up
from indexer.store.listing.tags import SEARCHED_TO_THE_END, STEP
from indexer.store.listing.tags import SQL as TAGS
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_manifests")

MANY = 1000
"""Of one manifest at most so many tags, layers, children, referrers and parents are shown."""
TAGS_OF_EACH = 100
"""At most so many tags of each manifest of a list are shown: a page has a thousand manifests."""
TEXT_BYTES = 1024 * 1024
"""Annotations of a manifest are shown up to so many bytes, and so are labels. A larger set is left out."""
REFERRERS_TEXT_BYTES = 256 * 1024
"""Annotations of all its referrers together, the newest first."""

COLUMNS: Mapping[str, Column] = {
    "pushed_at": Column(name="pushed_at", sql="t.pushed_at", type="timestamptz"),
    "manifest": Column(name="manifest", sql="t.manifest_id", type="bigint"),
}

_OUTER = (
    "m.digest, m.facet_id, m.size_bytes, m.total_bytes, m.image_created, m.content, m.unread, m.config_digest, "
    "m.subject_digest, h.pushed_at, h.pushed_by, h.last_pulled_at, h.pull_count, h.last_checked_at, "
    "ARRAY(SELECT g.name FROM tag AS g WHERE g.manifest_id = w.manifest_id AND "
    f"g.repository_id = w.repository_id ORDER BY g.name LIMIT {TAGS_OF_EACH}) AS tags"
)
_JOINS = (
    f"{look_up('repository_manifest', 'h', 'repository_id', 'manifest_id')} "
    "JOIN manifest AS m ON m.id = w.manifest_id"
)

_TAGGED = (
    "EXISTS (SELECT FROM tag AS g WHERE g.manifest_id = t.manifest_id AND g.repository_id = t.repository_id)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFilter:
    """Which manifests a caller wants; None: any."""

    tagged: bool | None = None
    media_types: Sequence[str] | None = None
    artifact_types: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    platforms: Sequence[str] | None = None
    subject: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPage:
    """Rows of a page, and the lookup values that they refer to."""

    found: PageRows
    facets: Mapping[int, FacetRow]
    actors: Mapping[int | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestContent:
    """One manifest of a repository. ``left_out``: the members that are not complete, since they would be too large."""

    manifest: Row
    layers: Sequence[Row]
    children: Sequence[Row]
    parents: Sequence[Row]
    referrers: Sequence[Row]
    tags: Sequence[str]
    facets: Mapping[int, FacetRow]
    pushed_by: str | None
    left_out: Sequence[str]


async def manifests_of_repository(
    connection: Connection, *, repository: RepositoryRef, descending: bool, wanted: ManifestFilter
) -> PageQuery:
    """Return the list of a repository's manifests, by when they were pushed."""
    searches = wanted != ManifestFilter()
    return PageQuery(
        source=_source,
        scope=(Condition("t.repository_id = {}", (repository.id,)),),
        orders=orders_of(COLUMNS, [("pushed_at", descending)], ties=["manifest"]),
        identity=(("repository_id", "integer"), ("manifest_id", "bigint")),
        outer=_OUTER,
        joins=_JOINS,
        filters=await _conditions(connection, wanted),
        bound=STEP if searches and repository.tag_count > SEARCHED_TO_THE_END else None,
    )


async def fetch_manifests(
    connection: Connection, interned: Interned, listing: PageQuery, page: Page
) -> ManifestPage:
    """Return one page of manifests."""
    found = await fetch_page(connection, listing, page)
    return ManifestPage(
        found=found,
        facets=await interned.facets(connection, (row["facet_id"] for row in found.rows)),
        actors=await interned.actors(connection, (row["pushed_by"] for row in found.rows)),
    )


async def find_manifest_id(connection: Connection, *, repository_id: int, digest: Digest) -> int | None:
    """Return the id of a manifest, if the repository has it."""
    number: int | None = await connection.fetchval(
        SQL["manifest_id_of_repository"], repository_id, digest_to_bytes(digest)
    )
    return number


async def manifest_content(
    connection: Connection, interned: Interned, *, repository_id: int, manifest_id: int
) -> ManifestContent | None:
    """Return a manifest with its content, and what in the repository refers to it."""
    row = await connection.fetchrow(SQL["manifest"], repository_id, manifest_id, TEXT_BYTES)
    if row is None:
        return None
    more = MANY + 1
    layers = await connection.fetch(SQL["layers"], manifest_id, more)
    children = await connection.fetch(SQL["children"], manifest_id, repository_id, more)
    parents = await connection.fetch(SQL["parents"], repository_id, manifest_id, more)
    referrers = await connection.fetch(
        SQL["referrers"], repository_id, row["digest"], more, REFERRERS_TEXT_BYTES
    )
    tags = await connection.fetch(TAGS["names_of_manifest"], repository_id, manifest_id, more)
    facet_ids = [row["facet_id"], *_known(children), *(r["facet_id"] for r in referrers)]
    return ManifestContent(
        manifest=row,
        layers=layers[:MANY],
        children=children[:MANY],
        parents=parents[:MANY],
        referrers=referrers[:MANY],
        tags=[tag["name"] for tag in tags[:MANY]],
        facets=await interned.facets(connection, facet_ids),
        pushed_by=(await interned.actors(connection, [row["pushed_by"]]))[row["pushed_by"]],
        left_out=[
            name
            for name, beyond in (
                ("annotations", row["annotations_left_out"]),
                ("labels", row["labels_left_out"]),
                ("layers", len(layers) > MANY),
                ("children", len(children) > MANY),
                ("parents", len(parents) > MANY),
                ("tags", len(tags) > MANY),
                ("referrers", len(referrers) > MANY),
                ("referrers.annotations", any(referrer["left_out"] for referrer in referrers)),
            )
            if beyond
        ],
    )


def _known(children: Sequence[Row]) -> list[int]:
    return [child["facet_id"] for child in children if child["facet_id"] is not None]


def _source(_part: KeyPart) -> str:
    return "(SELECT h.* FROM repository_manifest AS h WHERE h.deleted_at IS NULL) AS t"


async def _conditions(connection: Connection, wanted: ManifestFilter) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    if wanted.tagged is not None:
        conditions += (Condition(_TAGGED if wanted.tagged else f"NOT {_TAGGED}"),)
    asked = (wanted.media_types, wanted.artifact_types, wanted.kinds, wanted.platforms)
    if asked != (None, None, None, None):
        ids = [row["id"] for row in await connection.fetch(IDS["facets_like"], *asked)]
        holds = "(SELECT m.facet_id FROM manifest AS m WHERE m.id = t.manifest_id) = ANY ({}::integer[])"
        conditions += (Condition(holds, (ids,)) if ids else NOTHING,)
    if wanted.subject is not None:
        of_subject = "t.manifest_id IN (SELECT m.id FROM manifest AS m WHERE m.subject_digest = {})"
        conditions += (Condition(of_subject, (digest_to_bytes(wanted.subject),)),)
    return conditions

"""What manifests were read to be: written once per digest, then repeated on the tags that are sorted by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store import manifests
from indexer.store.instants import or_never
from indexer.store.lookups import Facet, Lookups
from indexer.store.pool import Connection, Pool, transaction
from indexer.store.queries import load

SQL = load("manifests")

EARLIEST_BELIEVED_CREATION = datetime(2013, 3, 1, tzinfo=UTC)
"""Images did not exist before; reproducible builds claim 1970 or 1980."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBlob:
    """A config or layer, by its descriptor."""

    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadChild:
    """A child of an index, by its descriptor; ``platform`` is '' where the index names none."""

    digest: Digest
    size_bytes: int
    media_type: str
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadManifest:
    """A manifest or index whose bytes, and whose image config, were read."""

    digest: Digest
    size_bytes: int
    media_type: str
    artifact_type: str = ""
    kind: str
    image_created: datetime | None = None
    config: ReadBlob | None = None
    layers: Sequence[ReadBlob] = ()
    children: Sequence[ReadChild] = ()
    subject: Digest | None = None
    platforms: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


async def store_manifest(pool: Pool, lookups: Lookups, read: ReadManifest, *, now: datetime) -> None:
    """Write what a manifest was read to be, and everything that repeats it: its tags, its indexes, their tags.

    Two transactions, since the indexes may be held by other repositories, whose locks come first. Safe to
    repeat.
    """
    media_types = {blob.media_type for blob in read.layers}
    if read.config is not None:
        media_types.add(read.config.media_type)
    media_type_ids = await lookups.media_types(media_types)
    child_facets = [Facet(media_type=child.media_type) for child in read.children]
    own = Facet(
        media_type=read.media_type,
        artifact_type=read.artifact_type,
        kind=read.kind,
        platforms=tuple(sorted(set(read.platforms))),
    )
    facet_ids = await lookups.facets([own, *child_facets])
    async with transaction(pool) as held:
        known = await manifests.find_manifests(held, digests=[read.digest])
        await _lock_holders(held, [row.id for row in known.values()])
        rows = await manifests.add_manifests(
            held,
            heard={
                child.digest: (child.size_bytes, facet_ids[facet])
                for child, facet in zip(read.children, child_facets, strict=True)
            }
            | {read.digest: (read.size_bytes, facet_ids[own])},
        )
        number = rows[read.digest].id
        await _write_blobs(held, read, number, media_type_ids)
        await held.execute(SQL["drop_children"], number)
        if read.children:
            await held.execute(
                SQL["add_children"],
                number,
                [rows[child.digest].id for child in read.children],
                [child.platform for child in read.children],
            )
        await _write_manifest(held, read, media_type_ids=media_type_ids, facet_id=facet_ids[own], now=now)
        if read.children:
            await held.execute(SQL["sum_children"], [number])
            await _refresh_platforms(held, lookups, [number])
        await describe_tags(held, manifest_ids=[number])
    await _tell_indexes(pool, lookups, [number])


async def mark_unreadable(connection: Connection, *, digest: Digest, now: datetime) -> None:
    """Remember that a manifest could not be read anywhere."""
    await connection.execute(SQL["mark_unreadable"], digest_to_bytes(digest), now)


async def describe_tags(connection: Connection, *, manifest_ids: Sequence[int]) -> None:
    """Give the tags of manifests what was read of them."""
    await connection.execute(SQL["describe_tags"], list(manifest_ids), EARLIEST_BELIEVED_CREATION)


async def _write_blobs(
    connection: Connection, read: ReadManifest, number: int, media_type_ids: Mapping[str, int]
) -> None:
    sizes = {blob.digest: blob.size_bytes for blob in read.layers}
    if read.config is not None:
        sizes[read.config.digest] = read.config.size_bytes
    if not sizes:
        return
    blob_ids = await manifests.add_blobs(connection, sizes=sizes)
    await connection.execute(SQL["drop_layers"], number)
    await connection.execute(
        SQL["add_layers"],
        number,
        [blob_ids[layer.digest] for layer in read.layers],
        [media_type_ids[layer.media_type] for layer in read.layers],
    )


async def _write_manifest(
    connection: Connection,
    read: ReadManifest,
    *,
    media_type_ids: Mapping[str, int],
    facet_id: int,
    now: datetime,
) -> None:
    config = read.config
    own_bytes = read.size_bytes + sum(layer.size_bytes for layer in read.layers)
    own_bytes += config.size_bytes if config is not None else 0
    await connection.execute(
        SQL["read_manifest"],
        digest_to_bytes(read.digest),
        read.size_bytes,
        0 if read.children else own_bytes,
        or_never(read.image_created),
        facet_id,
        media_type_ids[config.media_type] if config is not None else None,
        digest_to_bytes(config.digest) if config is not None else None,
        digest_to_bytes(read.subject) if read.subject is not None else None,
        dict(read.annotations) or None,
        dict(read.labels) or None,
        now,
    )


async def _tell_indexes(pool: Pool, lookups: Lookups, changed: Sequence[int]) -> None:
    """Carry a manifest's size, creation time and platform up to the indexes that name it, and on to theirs."""
    seen = set(changed)
    while changed:
        async with transaction(pool) as held:
            rows = await held.fetch(SQL["find_parents"], list(changed))
            parents = sorted({row["manifest_id"] for row in rows} - seen)
            if not parents:
                return
            await _lock_holders(held, parents)
            await held.execute(SQL["sum_children"], parents)
            await _refresh_platforms(held, lookups, parents)
            await describe_tags(held, manifest_ids=parents)
        seen |= set(parents)
        changed = parents


async def _lock_holders(connection: Connection, manifest_ids: Sequence[int]) -> None:
    if manifest_ids:
        rows = await connection.fetch(SQL["repositories_holding"], list(manifest_ids))
        await connection.execute(SQL["lock_repositories_by_id"], [row["repository_id"] for row in rows])


async def _refresh_platforms(connection: Connection, lookups: Lookups, indexes: Sequence[int]) -> None:
    """An index that names no platforms has those of its children's configs."""
    for number in indexes:
        facet = await connection.fetchrow(SQL["facet_of_manifest"], number)
        rows = await connection.fetch(SQL["platforms_of_children"], number)
        platforms = tuple(sorted({row["platform"] for row in rows if row["platform"]}))
        if facet is None or tuple(facet["platforms"]) == platforms:
            continue
        now_is = Facet(
            media_type=facet["media_type"],
            artifact_type=facet["artifact_type"],
            kind=facet["kind"],
            platforms=platforms,
        )
        ids = await lookups.facets([now_is])
        await connection.execute(SQL["set_facet"], number, ids[now_is])

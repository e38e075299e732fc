"""The content of manifests that were read: written once per digest, then copied to the tags that are sorted by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexer.oci.descriptor import MAX_SIZE_BYTES
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.media_types import MANIFESTS
from indexer.store import manifests
from indexer.store.instants import or_never
from indexer.store.lookups import Facet, Lookups
from indexer.store.pool import Connection, Pool, transaction
from indexer.store.queries import load, sparse

SQL = load("manifests")

EARLIEST_BELIEVED_CREATION = datetime(2013, 3, 1, tzinfo=UTC)
"""There were no images before. Reproducible builds say 1970 or 1980."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBlob:
    """A config or layer, as its descriptor says."""

    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadChild:
    """A child of an index, as its descriptor says; ``platform`` and ``os_version`` are '' where the index has none."""

    digest: Digest
    size_bytes: int
    media_type: str
    platform: str
    os_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadManifest:
    """A manifest or index whose bytes, and whose image config, were read.

    - ``readable``: false where nothing could be read but its media type.
    - ``unread``: the parts that could not be read.
    - ``os_version``: of the operating system, as the image's config says; '': it does not.
    - ``sized``: whether the sizes of config and layers are all known.
    """

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
    os_version: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    readable: bool = True
    unread: Sequence[str] = ()
    sized: bool = True

    @property
    def content(self) -> str:
        """The value of ``manifest.content``."""
        if not self.readable:
            return "unreadable"
        return "partly-read" if self.unread else "read"


async def store_manifests(
    pool: Pool, lookups: Lookups, reads: Iterable[ReadManifest], *, now: datetime
) -> None:
    """Write the content of manifests, and everything that copies it: their tags, the indexes above, and their tags.

    In several transactions, since the indexes may be in other repositories, which must be locked first. Safe to repeat.
    """
    by_digest = _fullest(reads)
    if not by_digest:
        return
    ids = await _Ids.find(lookups, by_digest.values())
    async with transaction(pool) as held:
        known = await manifests.find_manifests(held, digests=by_digest)
        await _lock_repositories_of(held, [row.id for row in known.values()])
        # What an index says of its children stays with the index: whoever pushed it may have written anything.
        announced = {child.digest: (0, ids.unknown) for read in by_digest.values() for child in read.children}
        announced |= {
            read.digest: (read.size_bytes, ids.facets[own_facet(read)]) for read in by_digest.values()
        }
        rows = await manifests.add_manifests(held, announced=announced)
        numbered = {
            rows[digest].id: read
            for digest, read in by_digest.items()
            if not (rows[digest].content == "read" and read.content != "read")
        }
        await _write_layers(held, numbered, ids.media_types)
        await _write_children(
            held, numbered, {digest: row.id for digest, row in rows.items()}, ids.media_types
        )
        await _write_manifests(held, numbered, ids, now=now)
        await _sum_up(held, lookups, [number for number, read in numbered.items() if read.children])
        await describe_tags(held, manifest_ids=sorted(numbered))
    await _update_indexes(pool, lookups, list(numbered))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ids:
    """The ids of the lookup rows that manifests refer to."""

    media_types: Mapping[str, int]
    facets: Mapping[Facet, int]
    unknown: int

    @classmethod
    async def find(cls, lookups: Lookups, reads: Iterable[ReadManifest]) -> _Ids:
        media_types: set[str] = set()
        nothing = Facet(media_type="")
        facets = {nothing}
        for read in reads:
            media_types.update(layer.media_type for layer in read.layers)
            if read.config is not None:
                media_types.add(read.config.media_type)
            media_types.update(child.media_type for child in read.children)
            facets.add(own_facet(read))
        numbered = await lookups.facets(list(facets))
        return cls(
            media_types=await lookups.media_types(media_types), facets=numbered, unknown=numbered[nothing]
        )


def own_facet(read: ReadManifest) -> Facet:
    """Return what a manifest is, as lists filter by it."""
    return Facet(
        media_type=read.media_type,
        artifact_type=read.artifact_type,
        kind=read.kind,
        platforms=tuple(sorted(set(read.platforms))),
    )


def _fullest(reads: Iterable[ReadManifest]) -> dict[Digest, ReadManifest]:
    """Return one reading per digest, sorted, the fullest: of two repositories one may lack the config."""
    fullest: dict[Digest, ReadManifest] = {}
    for read in sorted(reads, key=lambda read: read.digest):
        other = fullest.get(read.digest)
        if other is None or len(read.unread) < len(other.unread):
            fullest[read.digest] = read
    return fullest


async def mark_unreadable(connection: Connection, *, digest: Digest, now: datetime) -> None:
    """Record that a manifest could not be read in any repository."""
    await connection.execute(SQL["mark_unreadable"], digest_to_bytes(digest), now)


async def describe_tags(connection: Connection, *, manifest_ids: Sequence[int]) -> None:
    """Copy what was read of manifests to their tags."""
    if manifest_ids:
        await connection.execute(SQL["describe_tags"], list(manifest_ids), EARLIEST_BELIEVED_CREATION)


async def _write_layers(
    connection: Connection, numbered: Mapping[int, ReadManifest], media_type_ids: Mapping[str, int]
) -> None:
    await connection.execute(SQL["drop_layers"], list(numbered))
    # A config is found by its manifest: it needs no row of its own unless an event announces it.
    named = {layer.digest for read in numbered.values() for layer in read.layers}
    if not named:
        return
    # The sizes are what this manifest says: they stay with it, and do not become those of the blob.
    blob_ids = await manifests.add_blobs(connection, sizes=dict.fromkeys(named, 0))
    rows = [
        (number, position, blob_ids[layer.digest], media_type_ids[layer.media_type], layer.size_bytes)
        for number, read in numbered.items()
        for position, layer in enumerate(read.layers)
    ]
    if rows:
        await connection.execute(SQL["add_layers"], *map(list, zip(*rows, strict=True)))


async def _write_children(
    connection: Connection,
    numbered: Mapping[int, ReadManifest],
    ids: Mapping[Digest, int],
    media_type_ids: Mapping[str, int],
) -> None:
    await connection.execute(SQL["drop_children"], list(numbered))
    rows = [
        (
            number,
            position,
            ids[child.digest],
            child.platform,
            child.os_version or None,
            child.size_bytes,
            media_type_ids[child.media_type],
        )
        for number, read in numbered.items()
        for position, child in enumerate(read.children)
    ]
    if rows:
        await connection.execute(SQL["add_children"], *map(list, zip(*rows, strict=True)))


async def _write_manifests(
    connection: Connection, numbered: Mapping[int, ReadManifest], ids: _Ids, *, now: datetime
) -> None:
    reads = list(numbered.values())
    configs = [read.config for read in reads]
    await connection.execute(
        SQL["read_manifests"],
        list(numbered),
        [read.size_bytes for read in reads],
        [_own_bytes(read) for read in reads],
        [or_never(read.image_created) for read in reads],
        [ids.facets[own_facet(read)] for read in reads],
        [ids.media_types[config.media_type] if config is not None else None for config in configs],
        [digest_to_bytes(config.digest) if config is not None else None for config in configs],
        sparse([digest_to_bytes(read.subject) if read.subject is not None else None for read in reads]),
        sparse([dict(read.annotations) or None for read in reads]),
        sparse([dict(read.labels) or None for read in reads]),
        now,
        [config.size_bytes if config is not None else None for config in configs],
        [read.content for read in reads],
        sparse(["\n".join(read.unread) or None for read in reads]),
        sparse([read.os_version or None for read in reads]),
    )


def _own_bytes(read: ReadManifest) -> int:
    """Return the bytes of manifest, config and layers, each digest once; of an index 0, until its children are summed.

    0 too where a size is not known. A sum that is too large for a column becomes the largest value of one.
    """
    if read.children or not read.readable or not read.sized:
        return 0
    sizes: dict[Digest, int] = {}
    for blob in _blobs(read):
        sizes[blob.digest] = max(blob.size_bytes, sizes.get(blob.digest, 0))
    return min(read.size_bytes + sum(sizes.values()), MAX_SIZE_BYTES)


def _blobs(read: ReadManifest) -> Sequence[ReadBlob]:
    return read.layers if read.config is None else [*read.layers, read.config]


async def _update_indexes(pool: Pool, lookups: Lookups, changed: Sequence[int]) -> None:
    """Sum up the indexes that have the changed manifests as children, then the indexes above these, and so on.

    It ends, since no index can contain its own digest.
    """
    while changed:
        async with transaction(pool) as held:
            rows = await held.fetch(SQL["find_parents"], list(changed))
            parents = sorted(row["manifest_id"] for row in rows)
            await _lock_repositories_of(held, parents)
            await _sum_up(held, lookups, parents)
            await describe_tags(held, manifest_ids=parents)
        changed = parents


async def _sum_up(connection: Connection, lookups: Lookups, indexes: Sequence[int]) -> None:
    """Compute size, creation time and platforms of indexes from their children."""
    if indexes:
        await connection.execute(SQL["sum_children"], list(indexes), sorted(MANIFESTS))
        await _refresh_platforms(connection, lookups, indexes)


async def _lock_repositories_of(connection: Connection, manifest_ids: Sequence[int]) -> None:
    if manifest_ids:
        rows = await connection.fetch(SQL["repositories_holding"], list(manifest_ids))
        await connection.execute(SQL["lock_repositories_by_id"], [row["repository_id"] for row in rows])


async def _refresh_platforms(connection: Connection, lookups: Lookups, indexes: Sequence[int]) -> None:
    """Give an index that names no platforms those of its children's configs."""
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

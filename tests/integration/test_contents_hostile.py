"""Manifests, indexes and configs that say impossible or foreign things: what is stored of them, and what is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.common.errors import RegistryError, RegistryMisbehaved
from indexer.inventory.changes import WorkKind
from indexer.oci import media_types
from indexer.oci.descriptor import MAX_SIZE_BYTES
from indexer.oci.digest import Digest, digest_of, digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.oci.referrers import fallback_tag
from indexer.store import gitlab, work_items
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.listing import manifests as listing
from indexer.store.listing.interned import Interned
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from indexer.store.referrers import ReferrersWanted, referrers_of
from indexer.store.work_items import WorkKey
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.resolve.loop import CONFIG_ATTEMPTS, Resolver
from reconciler.sizes.loop import Measurer
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState

APP, OTHER = RepositoryName("team/app"), RepositoryName("vault/secret")
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = json.dumps(
    {
        "os": "linux",
        "architecture": "amd64",
        "created": "2024-01-02T03:04:05Z",
        "config": {"Labels": {"a": "b"}},
    }
).encode()


def described(content: bytes, media_type: str = LAYER, **changed: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **changed}


def image(
    layers: list[dict[str, Any]], *, config: bytes = CONFIG, config_size: int = -1, **members: Any
) -> bytes:
    described_config = described(config, media_types.OCI_CONFIG)
    if config_size >= 0:
        described_config["size"] = config_size
    return json.dumps({"schemaVersion": 2, "config": described_config, "layers": layers, **members}).encode()


def index_of(*children: dict[str, Any], **members: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(children), **members}).encode()


def hold(
    state: RegistryState,
    repository: str,
    content: bytes,
    tag: str,
    *,
    index: bool = False,
    config: bytes = CONFIG,
) -> Digest:
    """Push a manifest's bytes as they are, and its config."""
    state.push_blob(repository, config)
    kind = media_types.OCI_INDEX if index else media_types.OCI_MANIFEST
    return state.push(repository, content, media_type=kind, tag=tag)


async def walk(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    settings = RunSettings(mode=RunMode.ONCE, concurrency=4, brake_share=1.0, reread_after=timedelta(0))
    assert RunOutcome.COMPLETE is (await ReconcileRun(pool, lookups, registry, settings).run()).outcome


async def read_all(pool: Pool, lookups: Lookups, registry: DirectRegistry) -> None:
    """Walk, read and measure until nothing is to be done at once."""
    await walk(pool, lookups, registry)
    resolver = Resolver(pool, lookups, registry, concurrency=4)
    while (await resolver.run_once()).items:
        pass
    await pool.execute("UPDATE work_item SET due_at = now() WHERE kind = 'measure'")
    await Measurer(pool).run_once()


async def content_of(pool: Pool, repository: str, digest: Digest) -> listing.ManifestContent:
    async with pool.acquire() as held:
        number = await held.fetchval("SELECT id FROM repository WHERE name = $1", repository)
        manifest = await listing.find_manifest_id(held, repository_id=number, digest=digest)
        assert manifest is not None
        found = await listing.manifest_content(held, Interned(), repository_id=number, manifest_id=manifest)
        assert found is not None
        return found


async def measured(pool: Pool) -> dict[str, int]:
    return {
        row["name"]: row["size_bytes"] for row in await pool.fetch("SELECT name, size_bytes FROM repository")
    }


async def failing(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT key FROM work_item WHERE attempts > 0 OR kind = 'resolve'")
    return [row["key"] for row in rows]


def filled(value: Any) -> Any:
    """The same document with the largest size there is for every whole number."""
    if isinstance(value, dict):
        return {key: each if key == "schemaVersion" else filled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each) for each in value]
    return MAX_SIZE_BYTES if isinstance(value, int) else value


async def test_sizes__beyond_64_bits_are_the_largest_there_is(pool: Pool, lookups: Lookups) -> None:
    """Of a manifest, of an index of such, of a repository and of all below a path; none of them is an error."""
    state = RegistryState()
    registry = DirectRegistry(state)
    names = ("one", "two")
    images = [
        json.dumps(filled(json.loads(image([described(f"{name} {n}".encode()) for n in range(3)])))).encode()
        for name in names
    ]
    for name, content in zip(names, images, strict=True):
        hold(state, APP, content, name)
        hold(state, OTHER, content, name)
    children = [described(content, media_types.OCI_MANIFEST, size=MAX_SIZE_BYTES) for content in images]
    hold(state, APP, index_of(*children), "index", index=True)
    await read_all(pool, lookups, registry)

    assert [] == await failing(pool)
    rows = await pool.fetch("SELECT name, size_bytes FROM tag WHERE name <> 'index' OR size_bytes > 0")
    assert {MAX_SIZE_BYTES} == {row["size_bytes"] for row in rows}
    assert len(rows) == 5
    assert {APP: MAX_SIZE_BYTES, OTHER: MAX_SIZE_BYTES} == await measured(pool)
    async with pool.acquire() as held:
        for below in (False, True):
            assert MAX_SIZE_BYTES == await gitlab.size_of(held, name=APP, descendants=below)
            assert MAX_SIZE_BYTES == await gitlab.size_of(
                held, name="team" if below else APP, descendants=below
            )
            assert MAX_SIZE_BYTES == await gitlab.estimated_size(held, name=APP, descendants=below)


async def test_sizes__one_repository_claims_nothing_for_another(pool: Pool, lookups: Lookups) -> None:
    """Whoever claims a size first shows it of the own image alone; what the registry says in an event goes before."""
    state = RegistryState()
    layer = b"eleven byte"
    hold(state, "evil", image([described(layer, size=5 * 10**12)]), "v1")
    registry = DirectRegistry(state)
    await read_all(pool, lookups, registry)
    good = hold(state, APP, image([described(layer)]), "v1")
    await read_all(pool, lookups, registry)

    (shown,) = (await content_of(pool, APP, good)).layers
    assert len(layer) == shown["size_bytes"]
    sizes = await measured(pool)
    assert sizes[APP] < 1000 < 5 * 10**12 < sizes["evil"]
    async with pool.acquire() as held:
        assert len(layer) == await gitlab.size_of(held, name=APP, descendants=False)
    await pool.execute("UPDATE blob SET size_bytes = 7 WHERE size_bytes = 0")  # as from an event
    await pool.execute("UPDATE work_item SET due_at = now()")
    async with pool.acquire() as held:
        assert 7 == await gitlab.size_of(held, name="evil", descendants=False)


async def test_sizes__a_digest_named_twice_is_stored_once(pool: Pool, lookups: Lookups) -> None:
    """As the registry stores it, and as GitLab counts."""
    state = RegistryState()
    content = image([described(b"layer"), described(b"layer"), described(CONFIG)])
    hold(state, APP, content, "v1")
    await read_all(pool, lookups, DirectRegistry(state))

    total = len(content) + len(CONFIG) + len(b"layer")
    assert total == await pool.fetchval("SELECT size_bytes FROM tag")
    assert {APP: total} == await measured(pool)


@pytest.mark.parametrize(
    ("content", "unread", "size_known"),
    [
        (image([described(b"a", size=-1), described(b"b")]), ["layers[0].size"], False),
        (image([described(b"a")], subject="x"), ["subject"], True),
        (image([described(b"a")], artifactType=7), ["artifactType"], True),
        (image([described(b"a", "x" * 256)]), ["layers[0].mediaType"], True),
        (image([described(b"a")], artifactType="x" * 256), ["artifactType"], True),
    ],
)
async def test_partly_read__says_which_parts(
    pool: Pool, lookups: Lookups, content: bytes, unread: list[str], size_known: bool
) -> None:
    """An ordinary image but for them: its config, layers and platform are there; an unknown size is no size."""
    state = RegistryState()
    digest = hold(state, APP, content, "v1")
    await read_all(pool, lookups, DirectRegistry(state))

    found = await content_of(pool, APP, digest)
    assert ("partly-read", unread) == (found.manifest["content"], found.manifest["unread"])
    assert {"a": "b"} == found.manifest["labels"]
    (facet,) = found.facets.values()
    assert ("linux/amd64",) == tuple(facet.platforms)
    assert found.manifest["subject_digest"] is None
    assert found.layers
    assert size_known == bool(found.manifest["total_bytes"])
    assert [] == await failing(pool)


async def test_unreadable__has_no_size(pool: Pool, lookups: Lookups) -> None:
    """What is no JSON is listed with its digest and the size of its own bytes; what it points to is not known."""
    state = RegistryState()
    digest = hold(state, APP, b"{", "v1")
    await read_all(pool, lookups, DirectRegistry(state))

    found = (await content_of(pool, APP, digest)).manifest
    assert ("unreadable", 1, 0) == (found["content"], found["size_bytes"], found["total_bytes"])


async def test_annotations__are_kept_whole(pool: Pool, lookups: Lookups) -> None:
    """Values of any length, and keys that differ only far behind; a NUL is written out, half a surrogate replaced."""
    state = RegistryState()
    annotations = {"k" * 300 + "1": "h" * 500_000, "k" * 300 + "2": "a\x00b", "s": "\ud800"}
    digest = hold(state, APP, image([], annotations=annotations), "v1")
    await read_all(pool, lookups, DirectRegistry(state))

    found = (await content_of(pool, APP, digest)).manifest
    expected = annotations | {"k" * 300 + "2": "a\\u0000b", "s": "\ufffd"}
    assert ("read", expected) == (found["content"], found["annotations"])


class Damaged(DirectRegistry):
    """A registry that cannot serve blobs just now."""

    wrong: RegistryError | None = None

    async def get_blob(self, repository: RepositoryName, digest: Digest, *, limit: int) -> bytes | None:
        if self.wrong is not None:
            raise self.wrong
        return await super().get_blob(repository, digest, limit=limit)


async def test_config__larger_than_its_descriptor_says(pool: Pool, lookups: Lookups) -> None:
    """No registry compares the two: it is read all the same."""
    state = RegistryState()
    for size in (0, len(CONFIG) - 1, len(CONFIG) + 1):
        hold(state, APP, image([], config_size=size), f"v{size}")
    await read_all(pool, lookups, DirectRegistry(state))

    rows = await pool.fetch("SELECT content, labels FROM manifest")
    assert [("read", {"a": "b"})] * 3 == [(row["content"], row["labels"]) for row in rows]


async def test_config__that_cannot_be_served_takes_nothing_from_its_manifest(
    pool: Pool, lookups: Lookups
) -> None:
    """The manifest is stored at once and says so; the config is tried again, and read once it is served."""
    state = RegistryState()
    content = image([described(b"layer")])
    digest = hold(state, APP, content, "v1")
    registry = Damaged(state)
    registry.wrong = RegistryMisbehaved("the bytes do not hash to the digest")
    await read_all(pool, lookups, registry)

    found = await content_of(pool, APP, digest)
    assert ("partly-read", ["config.blob"]) == (found.manifest["content"], found.manifest["unread"])
    assert len(content) + len(CONFIG) + len(b"layer") == found.manifest["total_bytes"]
    assert [digest] == await failing(pool)
    registry.wrong = None
    await pool.execute("UPDATE work_item SET due_at = now()")
    await read_all(pool, lookups, registry)
    found = await content_of(pool, APP, digest)
    assert ("read", None, {"a": "b"}) == tuple(found.manifest[key] for key in ("content", "unread", "labels"))
    assert [] == await failing(pool)


async def test_config__is_not_tried_for_ever(pool: Pool, lookups: Lookups) -> None:
    """After so many tries the mark is all that is left of it."""
    state = RegistryState()
    hold(state, APP, image([]), "v1")
    registry = Damaged(state)
    registry.wrong = RegistryMisbehaved("403")
    await read_all(pool, lookups, registry)
    resolver = Resolver(pool, lookups, registry, concurrency=1)
    tries = 1
    while await failing(pool):
        await pool.execute("UPDATE work_item SET due_at = now()")
        await resolver.run_once()
        tries += 1
    assert CONFIG_ATTEMPTS == tries
    assert "partly-read" == await pool.fetchval("SELECT content FROM manifest")


async def test_config__missing_elsewhere_takes_nothing_away(pool: Pool, lookups: Lookups) -> None:
    """Content is the same everywhere: what was read in one repository is not forgotten for another that lacks it."""
    state = RegistryState()
    content = image([])
    digest = hold(state, APP, content, "v1")
    await read_all(pool, lookups, DirectRegistry(state))
    state.push(OTHER, content, media_type=media_types.OCI_MANIFEST, tag="v1")
    await walk(pool, lookups, DirectRegistry(state))
    async with pool.acquire() as held:
        number = await held.fetchval("SELECT id FROM repository WHERE name = $1", OTHER)
        key = WorkKey(kind=WorkKind.RESOLVE, repository_id=number, key=digest)
        now = datetime.now(UTC)
        await work_items.enqueue(held, keys=[key], now=now, due_at=now)
    assert 1 == (await Resolver(pool, lookups, DirectRegistry(state), concurrency=1).run_once()).items

    row = await pool.fetchrow("SELECT content, labels FROM manifest")
    assert row is not None
    assert ("read", {"a": "b"}) == tuple(row)


async def test_index__shows_nothing_of_what_its_repository_does_not_hold(
    pool: Pool, lookups: Lookups
) -> None:
    """Neither size, platforms, kind nor config of a foreign manifest, nor whether anybody has it."""
    state = RegistryState()
    secret = image(
        [described(b"secret layer")], annotations={"secret": "yes"}, artifactType="application/secret"
    )
    hold(state, OTHER, secret, "v1")
    nothing = b"nobody has it"
    named = [described(each, media_types.OCI_MANIFEST, size=11) for each in (secret, nothing)]
    index = hold(state, APP, index_of(*named), "index", index=True)
    tag = fallback_tag(digest_of(b"subject"))
    hold(state, APP, index_of(*named, annotations={"b": "c"}), tag, index=True)
    registry = DirectRegistry(state)
    await read_all(pool, lookups, registry)
    await pool.execute("DELETE FROM work_item WHERE kind = 'resolve'")

    found = await content_of(pool, APP, index)
    known, unknown = ({k: v for k, v in dict(child).items() if k != "digest"} for child in found.children)
    assert known == unknown
    assert (False, 11, 0, None) == tuple(
        known[key] for key in ("held", "size_bytes", "total_bytes", "facet_id")
    )
    assert 0 == found.manifest["total_bytes"]
    assert () == tuple(found.facets[found.manifest["facet_id"]].platforms)
    async with pool.acquire() as held:
        number = await held.fetchval("SELECT id FROM repository WHERE name = $1", APP)
        rows = await gitlab.list_descendants(held, repository_id=number, manifest_id=found.manifest["id"])
        assert [(11, None, None, None)] * 2 == [
            (row["size_bytes"], row["facet_id"], row["config_digest"], row["config_media_type"])
            for row in rows
        ]
        assert 0 == await gitlab.size_of(held, name=APP, descendants=False)
        assert 0 == await gitlab.size_of(held, name="team", descendants=True)
        wanted = ReferrersWanted(repository=APP, subject=digest_of(b"subject"))
        referrers = await referrers_of(held, wanted, limit=10, annotation_bytes=10**6)
    assert [(11, media_types.OCI_MANIFEST, "", {})] * 2 == [
        (each.size_bytes, each.media_type, each.artifact_type, each.annotations) for each in referrers
    ]


async def test_index__of_a_build_cache_asks_for_no_blob_as_a_manifest(pool: Pool, lookups: Lookups) -> None:
    """Its size is what its descriptors say, nothing of it waits, and the registry is not bothered."""
    state = RegistryState()
    cache = described(b"cache", "application/vnd.buildkit.cacheconfig.v0")
    index = hold(state, APP, index_of(described(b"layer"), cache, described(b"layer")), "cache", index=True)
    registry = DirectRegistry(state)
    await read_all(pool, lookups, registry)

    assert [] == await failing(pool)
    asked = {call[2] for call in registry.asked if call[0] == "get_manifest"}
    assert {index} == asked
    found = await content_of(pool, APP, index)
    assert len(b"layer") + len(b"cache") == found.manifest["total_bytes"]
    assert [5, 5, 5] == [child["size_bytes"] for child in found.children]


async def test_index__of_two_builds_of_windows(pool: Pool, lookups: Lookups) -> None:
    """They differ in the version of the system alone."""
    state = RegistryState()
    children = []
    for build in ("10.0.17763.1", "10.0.20348.2"):
        content = image([described(build.encode())])
        hold(state, APP, content, build)
        platform = {"os": "windows", "architecture": "amd64", "os.version": build}
        children.append(described(content, media_types.OCI_MANIFEST, platform=platform))
    index = hold(state, APP, index_of(*children), "index", index=True)
    await read_all(pool, lookups, DirectRegistry(state))

    shown = [
        (child["platform"], child["os_version"]) for child in (await content_of(pool, APP, index)).children
    ]
    assert [("windows/amd64", "10.0.17763.1"), ("windows/amd64", "10.0.20348.2")] == shown


async def test_image__of_a_build_of_windows(pool: Pool, lookups: Lookups) -> None:
    """The version of the system is kept as the image's own config says it; its config needs no row among the blobs."""
    state = RegistryState()
    config = json.dumps({"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.2"}).encode()
    state.listeners.clear()
    image_digest = hold(state, APP, image([described(b"layer")], config=config), "v1", config=config)
    await read_all(pool, lookups, DirectRegistry(state))

    shown = (await content_of(pool, APP, image_digest)).manifest
    assert ("10.0.20348.2", digest_to_bytes(digest_of(config))) == (
        shown["os_version"],
        shown["config_digest"],
    )
    assert [digest_to_bytes(digest_of(b"layer"))] == [
        row["digest"] for row in await pool.fetch("SELECT digest FROM blob")
    ]


async def test_created__at_the_end_of_time_is_an_instant(pool: Pool, lookups: Lookups) -> None:
    """The driver's infinity means "not known" in our columns; an image cannot say that it was made then."""
    state = RegistryState()
    for number, created in enumerate(["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z", None]):
        config = json.dumps({"created": created}).encode()
        hold(state, APP, image([], config=config), f"v{number}", config=config)
    await read_all(pool, lookups, DirectRegistry(state))

    rows = await pool.fetch("SELECT image_created::text AS at FROM tag ORDER BY name")
    assert ["9999-12-31 23:59:59.999998+00", "-infinity", "-infinity"] == [row["at"] for row in rows]
    assert 0 == await pool.fetchval("SELECT count(*) FROM tag WHERE image_created = 'infinity'")
    assert datetime.now(UTC) > await pool.fetchval("SELECT max(published_at) FROM tag")

"""Nothing is reported or done before it is certain whose storage it is."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from indexer.common.errors import RegistryUnavailable, StorageRefused
from indexer.oci.digest import Digest, digest_of
from indexer.store.pool import Pool, connection
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from reconciler.storage import canary
from reconciler.storage.canary import REPOSITORY, ProvenBy, proven
from reconciler.storage.files import FileStorage
from reconciler.storage.layout import Blob, TagCurrent, path_of
from reconciler.storage.objects import open_storage
from reconciler.storage.whereabouts import VARIABLE
from tests.fixtures.rows import TagRow, put_repository
from tests.fixtures.storages import WritingRegistry, lay, lay_blob

if TYPE_CHECKING:
    from tests.fixtures.registries import StartRegistry
    from tools.s3_server import Bucket

SHORT = 0.3
LINK = path_of(TagCurrent(REPOSITORY, canary.TAG))


def _registry(root: Path, **more: Any) -> Any:
    return WritingRegistry(root, **more)


async def test_canary__found_again_and_again(pool: Pool, tmp_path: Path) -> None:
    """Each proof pushes another canary than the last, and the storage holds no more than its few."""
    registry, storage = _registry(tmp_path), FileStorage(tmp_path)
    links = set()
    for _ in range(2 * canary.VARIANTS):
        proof = await proven(storage, registry, pool)
        assert (proof.by, proof.is_proven) == (ProvenBy.CANARY, True)
        link = storage.read(LINK, 100)
        assert link is not None
        links.add(link)
    revisions = storage.list_names(f"repositories/{REPOSITORY}/_manifests/revisions/sha256")
    assert 1 < len(links) <= len(revisions) <= canary.VARIANTS


@pytest.mark.parametrize("other", ["empty", "another", "copy"])
@pytest.mark.parametrize("unproven", [False, True])
async def test_canary__not_there(pool: Pool, tmp_path: Path, other: str, *, unproven: bool) -> None:
    """An empty mount, another registry's storage and an old copy are refused, whatever the operator says."""
    real, wrong = tmp_path / "real", tmp_path / "wrong"
    real.mkdir()
    registry = _registry(real)
    await proven(FileStorage(real), registry, pool)
    if other == "copy":
        shutil.copytree(real, wrong)
    elif other == "another":
        wrong.mkdir()
        await proven(FileStorage(wrong), _registry(wrong), pool)
    else:
        wrong.mkdir()
    before = sorted(wrong.rglob("*"))
    says = "nothing lies below" if other == "empty" else "is not the storage of the registry"
    with pytest.raises(StorageRefused, match=says) as refused:
        await proven(FileStorage(wrong), registry, pool, unproven=unproven, patience_seconds=SHORT)
    assert "nothing was done" in str(refused.value)
    assert before == sorted(wrong.rglob("*"))


@pytest.mark.parametrize("part", ["revision", "blob"])
async def test_canary__half_there(pool: Pool, tmp_path: Path, part: str) -> None:
    """A storage where only the links arrive, or the bytes are others, proves nothing."""

    class Half(WritingRegistry):
        async def put_manifest(self, *args: Any, **more: Any) -> Digest:
            digest = await super().put_manifest(*args, **more)
            if part == "blob":
                lay(self.root, Blob(digest), b"other")
            else:
                shutil.rmtree(
                    self.root / "docker/registry/v2/repositories" / REPOSITORY / "_manifests/revisions"
                )
            return digest

    with pytest.raises(StorageRefused, match="is not the storage of the registry"):
        await proven(FileStorage(tmp_path), cast("Any", Half(tmp_path)), pool, patience_seconds=SHORT)


async def test_canary__another_verb_pushes_meanwhile(pool: Pool, tmp_path: Path) -> None:
    """A canary of another verb that takes the tag meanwhile is no refusal: it is tried again."""

    class Raced(WritingRegistry):
        async def put_manifest(self, repository: Any, reference: Any, content: bytes, **more: Any) -> Digest:
            digest = await super().put_manifest(repository, reference, content, **more)
            if self.pushes == 1:
                other = next(canary.canary(n) for n in range(64) if canary.canary(n) != content)
                await super().put_manifest(repository, reference, other, **more)
            return digest

    registry = Raced(tmp_path)
    proof = await proven(FileStorage(tmp_path), cast("Any", registry), pool, patience_seconds=SHORT)
    assert (ProvenBy.CANARY, 3) == (proof.by, registry.pushes)


async def test_registry__away(pool: Pool, tmp_path: Path) -> None:
    """A registry that does not answer proves nothing and refutes nothing: it is tried later."""
    async with RegistryClient(TransportSettings(base_url="http://127.0.0.1:1")) as client:
        with pytest.raises(RegistryUnavailable):
            await proven(FileStorage(tmp_path), client, pool)


@pytest.mark.parametrize("needs_canary", [False, True])
async def test_read_only__nothing_announced(pool: Pool, tmp_path: Path, *, needs_canary: bool) -> None:
    """A registry that takes no writes proves nothing by itself; the operator may say so, but not to act."""
    registry, storage = _registry(tmp_path, read_only=True), FileStorage(tmp_path)
    says = "permission to push" if needs_canary else "--unproven-storage"
    with pytest.raises(StorageRefused, match=says):
        await proven(storage, registry, pool, needs_canary=needs_canary)
    if needs_canary:
        with pytest.raises(StorageRefused, match=says):
            await proven(storage, registry, pool, needs_canary=True, unproven=True)
    else:
        proof = await proven(storage, registry, pool, unproven=True)
        assert (False, True) == (proof.is_proven, proof.text.startswith("NOT PROVEN"))


@pytest.mark.parametrize(
    ("age", "damage", "outcome"),
    [
        (timedelta(hours=1), None, ProvenBy.DIGESTS),
        (timedelta(days=2), None, "--unproven-storage"),
        (timedelta(hours=1), b"", "right bytes"),
        (timedelta(hours=1), b"other bytes", "right bytes"),
    ],
)
async def test_read_only__by_what_was_announced(
    pool: Pool, tmp_path: Path, age: timedelta, damage: bytes | None, outcome: str
) -> None:
    """The newest announced manifests prove it, if all lie there as they were and one is young."""
    contents = [b"manifest %d" % number for number in range(3)]
    for content in contents:
        lay_blob(tmp_path, content)
    if damage is not None:
        lay(tmp_path, Blob(digest_of(contents[1])), damage)
    await _put_tags(pool, [digest_of(content) for content in contents], datetime.now(UTC) - age)
    registry, storage = _registry(tmp_path, read_only=True), FileStorage(tmp_path)
    if outcome == ProvenBy.DIGESTS:
        assert outcome == (await proven(storage, registry, pool)).by
        return
    with pytest.raises(StorageRefused, match=outcome):
        await proven(storage, registry, pool)


async def _put_tags(pool: Pool, digests: list[Digest], at: datetime) -> None:
    """Put tags on record as events announced them."""
    tags = [
        TagRow(name=f"v{number}", exact_digest=digest, published_at=at)
        for number, digest in enumerate(digests)
    ]
    async with connection(pool) as held:
        await put_repository(held, "team/app", tags)


async def test_real_registry__on_a_disk(
    pool: Pool, start_registry: StartRegistry, registry_version: int, tmp_path: Path
) -> None:
    """A real registry's own configuration leads to its storage, and a canary proves it; another's is refused."""
    mine, other = start_registry(registry_version), start_registry(registry_version)
    async with (
        RegistryClient(TransportSettings(base_url=mine.url)) as client,
        RegistryClient(TransportSettings(base_url=other.url)) as others,
    ):
        storage = FileStorage(mine.storage_dir)
        assert ProvenBy.CANARY is (await proven(storage, client, pool, needs_canary=True)).by
        await proven(FileStorage(other.storage_dir), others, pool)
        with pytest.raises(StorageRefused, match="is not the storage of the registry"):
            await proven(storage, others, pool, patience_seconds=SHORT)


async def test_real_registry__on_s3(
    pool: Pool, start_registry: StartRegistry, registry_version: int, s3: Bucket, s3_server: Any
) -> None:
    """The same in a bucket; an empty bucket and a missing one are told apart."""
    registry = start_registry(registry_version, extra=s3.storage())
    environ = {VARIABLE: "s3"} | {
        f"{VARIABLE}_S3_{name.upper()}": str(value) for name, value in s3.storage()["storage"]["s3"].items()
    }
    storage = open_of(environ)
    assert storage.is_empty()
    async with RegistryClient(TransportSettings(base_url=registry.url)) as client:
        assert ProvenBy.CANARY is (await proven(storage, client, pool, needs_canary=True)).by
        entries = {entry.path: entry for chunk in storage.list("") for entry in chunk}
        assert (71, False) == (entries[LINK].size_bytes, storage.is_empty())
        link = storage.read(LINK, 100)
        assert link is not None
        digest = Digest(link.decode())
        content = storage.read(path_of(Blob(digest)), 10_000)
        assert content is not None
        assert digest == digest_of(content)
        assert content[:11] == storage.read(path_of(Blob(digest)), 10)
        stream = storage.read_stream(path_of(Blob(digest)))
        assert stream is not None
        assert content == b"".join(stream)
        assert None is storage.read("none", 1) is storage.read_stream("none") is storage.stat("none")
        assert entries[LINK] == storage.stat(LINK)
        assert ["canary"] == storage.list_names(f"repositories/{REPOSITORY}/_manifests/tags")
        many = dict(storage.read_many([LINK, "none", *entries], 100))
        assert (link, None) == (many[LINK], many["none"])
        assert len(entries) + 1 == len(many)
        other = s3_server.bucket("another")
        empty = open_of(environ | {f"{VARIABLE}_S3_BUCKET": other.name})
        with pytest.raises(StorageRefused, match="nothing lies below"):
            await proven(empty, client, pool, patience_seconds=SHORT)
        missing = open_of(environ | {f"{VARIABLE}_S3_BUCKET": "there-is-none"})
        with pytest.raises(StorageRefused, match="no bucket 'there-is-none'"):
            await proven(missing, client, pool, patience_seconds=SHORT)


def open_of(environ: dict[str, str]) -> Any:
    """Open a storage as the settings ``RECONCILER_REGISTRY_CONFIG`` and the registry's variables say."""
    from indexer.settings import Settings  # noqa: PLC0415

    return open_storage(Settings(reconciler_registry_config=Path("/dev/null")), environ)

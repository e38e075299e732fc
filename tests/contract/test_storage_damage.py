"""What a real registry writes is sound, and of what is damaged in it exactly that is named which it cannot serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from indexer.settings import Settings
from reconciler.storage.examine import Examined, examine
from reconciler.storage.files import FileStorage
from reconciler.storage.layout import ROOT
from reconciler.storage.objects import Storage, WritableStorage, open_storage
from reconciler.storage.observe import Reader
from reconciler.storage.repair import plan_rewrite
from reconciler.storage.whereabouts import VARIABLE
from tools.sample_images import ACCEPT, Pusher, artifact, docker_image, multi_platform, oci_image

if TYPE_CHECKING:
    from tests.fixtures.registries import StartRegistry
    from tools.azure_server import Container
    from tools.registry_server import RegistryServer
    from tools.s3_server import Bucket

KINDS = (
    "removed",
    *(pytest.param(kind, marks=pytest.mark.full) for kind in ("emptied", "truncated", "exchanged")),
)


def check(storage: Storage, *, checking: bool = True) -> Examined:
    """Check a storage with all its bytes."""
    return examine(Reader(storage), now=datetime.now(UTC), checking=checking, content=checking)


def fill(pusher: Pusher) -> None:
    """Push what a registry has: an image, an index, a signature, an image that was replaced, a mounted layer."""
    image = oci_image("one")
    pusher.push("team/app", image, "v1")
    pusher.push("team/app", oci_image("two"), "latest")
    pusher.push("team/app", docker_image("three"), "latest")
    pusher.push("team/app", multi_platform("four"), "multi")
    pusher.push("team/app", artifact("signature", subject=image))
    pusher.push_blob("team/other", image.blobs[0])
    for blob in image.blobs[1:]:
        pusher.mount_blob("team/other", blob, "team/app")
    pusher.push("team/other", image, "v1")


def broken_tags(pusher: Pusher) -> set[str]:
    """Return the tags of which the registry does not serve everything, byte for byte."""
    return {
        f"{repository}:{tag}"
        for repository, tags in {"team/app": ("v1", "latest", "multi"), "team/other": ("v1",)}.items()
        for tag in tags
        if not pulls(pusher, repository, tag)
    }


def pulls(pusher: Pusher, repository: str, reference: str) -> bool:
    """Tell whether a manifest and all that it needs is served with the right bytes."""
    answer = pusher.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": ACCEPT})
    if answer.status != 200 or (":" in reference and digest(answer.body) != reference):
        return False
    if answer.headers.get("docker-content-digest") != digest(answer.body):
        return False
    document: dict[str, Any] = json.loads(answer.body)
    if "manifests" in document:
        return all(pulls(pusher, repository, each["digest"]) for each in document["manifests"])
    return all(
        served(pusher, repository, each["digest"]) for each in [document["config"], *document["layers"]]
    )


def served(pusher: Pusher, repository: str, blob: str) -> bool:
    """Tell whether a blob is served with the right bytes."""
    answer = pusher.request("GET", f"/v2/{repository}/blobs/{blob}")
    return answer.status == 200 and digest(answer.body) == blob


def digest(content: bytes) -> str:
    """Return the digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def damages(root: Path, kind: str) -> Iterator[Path]:
    """Do one damage to each file in turn, and undo it before the next."""
    files = sorted(each for each in root.rglob("*") if each.is_file())
    for path in files:
        content = path.read_bytes()
        if kind == "removed":
            path.unlink()
        elif kind == "emptied":
            path.write_bytes(b"")
        elif kind == "truncated":
            path.write_bytes(content[: len(content) // 2])
        else:
            others = (each.read_bytes() for each in files if each != path and each.name == path.name)
            path.write_bytes(next(other for other in others if other != content))
        yield path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_damage__of_each_file_in_turn(
    start_registry: StartRegistry, registry_version: int, kind: str
) -> None:
    """Each link and each blob of a real registry damaged in turn: named is exactly what it cannot serve."""
    registry = start_registry(registry_version)
    with pushing(registry) as pusher:
        fill(pusher)
        storage = FileStorage(registry.storage_dir)
        assert not broken_tags(pusher)
        assert [] == list(check(storage).findings)
        tried = 0
        for path in damages(registry.storage_dir / ROOT, kind):
            if "/_uploads/" in str(path):
                continue
            found = check(storage)
            named = {f"{each.repository}:{tag}" for each in found.damaged for tag in each.tags}
            assert named == broken_tags(pusher), (path, [each.text for each in found.findings])
            tried += 1
        assert tried > 40


def pushing(registry: RegistryServer) -> Pusher:
    """A client that pushes."""
    return Pusher(registry.url)


def test_a_sound_registry_on_s3(start_registry: StartRegistry, registry_version: int, s3: Bucket) -> None:
    """The same in a bucket: sound as the registry wrote it, and a blob that is gone is named with its tags."""
    registry = start_registry(registry_version, extra=s3.storage())
    with pushing(registry) as pusher:
        fill(pusher)
        storage = bucket_of(s3)
        found = check(storage)
        assert [] == list(found.findings)
        keys = s3.list_keys("")
        assert found.totals.stored_blobs == sum(key.endswith("/data") and "/blobs/" in key for key in keys)
        layer = oci_image("one").blobs[-1].digest
        encoded = layer.removeprefix("sha256:")
        (key,) = [each for each in keys if f"/blobs/sha256/{encoded[:2]}/{encoded}/" in each]
        s3.delete_object(key)
        assert key not in s3.list_keys("")
        found = check(storage)
        assert {(each.code, each.repository, each.tags) for each in found.damaged} == {
            ("blob.missing", "team/app", ("v1",)),
            ("blob.missing", "team/other", ("v1",)),
        }


@pytest.mark.full
@pytest.mark.parametrize("where", ["s3", "azure"])
def test_a_repair_in_a_bucket(
    start_registry: StartRegistry, where: str, request: pytest.FixtureRequest
) -> None:
    """A spoiled link in a bucket is written again, and the registry serves what it did not."""
    bucket: Bucket | Container = request.getfixturevalue(where)
    registry = start_registry(3, extra=bucket.storage())
    with pushing(registry) as pusher:
        fill(pusher)
        storage = bucket_of(bucket)
        assert [] == list(check(storage).findings)
        path = f"repositories/team/app/_layers/{oci_image('one').blobs[-1].digest.replace(':', '/')}/link"
        assert storage.replace(path, b"", "0" * 16)
        assert not storage.replace(f"{path}.none", b"", "0" * 16)
        assert broken_tags(pusher) == {"team/app:v1"}
        (finding,) = check(storage).findings
        planned = plan_rewrite(storage, finding)
        assert planned is not None
        assert (planned.path, planned.before) == (path, b"")
        storage.replace(path, planned.digest.encode(), "0" * 16)
        assert not broken_tags(pusher)
        assert [] == list(check(storage).findings)


def bucket_of(bucket: Bucket | Container) -> WritableStorage:
    """Open the storage of a registry in a bucket, as its own variables say where it is."""
    storage = bucket.storage()["storage"]
    ((driver, parameters),) = [
        (name, value) for name, value in storage.items() if value is not None and name != "redirect"
    ]
    environ = {VARIABLE: driver} | {
        f"{VARIABLE}_{driver.upper()}_{name.upper()}": json.dumps(value) for name, value in parameters.items()
    }
    return open_storage(Settings(reconciler_registry_config=Path("/dev/null")), environ)


def test_bytes__against_the_files_and_the_registrys_own_collection(
    start_registry: StartRegistry, registry_version: int
) -> None:
    """What is called unreferenced is what the registry's own collection frees, to the byte; the rest it keeps."""
    registry = start_registry(registry_version)
    with pushing(registry) as pusher:
        fill(pusher)
        pusher.push_blob("team/app", oci_image("never pushed").blobs[0])
        pusher.delete("team/app", multi_platform("four").digest)
    storage = FileStorage(registry.storage_dir)
    before = check(storage, checking=False)
    assert before.totals.unreferenced_bytes > 0
    assert before.totals.stored_bytes == on_disk(registry.storage_dir)
    registry.stop()
    registry.garbage_collect()
    after = check(storage, checking=False)
    assert after.totals.unreferenced_bytes == 0
    assert after.totals.stored_bytes == on_disk(registry.storage_dir) == before.totals.referenced_bytes


def on_disk(directory: Path) -> int:
    """Return the bytes of all blobs, by the file system."""
    return sum(each.stat().st_size for each in (directory / ROOT / "blobs").rglob("data"))

"""Each hazard of the registry's own collection, brought about on real registries: what a client then gets.

``test_hazard__…`` settles what was only read in Distribution's source. Where it comes out differently with a release
the test says so by its parameters.
"""

from __future__ import annotations

import http.client
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from indexer.oci.reference import RepositoryName
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.fixtures.collectors import collector_of
from tests.fixtures.storage import blob_of, repository_of, revision_of
from tools.registry_server import RegistryFailedError
from tools.sample_images import ACCEPT, Blob, Image, Pusher, as_json, index, oci_image

if TYPE_CHECKING:
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer
    from tools.s3_server import Bucket

A, B, C = oci_image("a"), oci_image("b"), oci_image("c")
UNTAGGED = "--delete-untagged"
ONLY_3 = pytest.mark.parametrize("version", [pytest.param(3, id="3.x")])
BOTH = pytest.mark.parametrize("version", [pytest.param(2, id="2.8"), pytest.param(3, id="3.x")])
CACHED = {"storage": {"cache": {"blobdescriptor": "inmemory"}}}
SCHEMA1 = Blob(
    "application/vnd.docker.distribution.manifest.v1+json",
    json.dumps(
        {
            "schemaVersion": 1,
            "name": "old",
            "tag": "v1",
            "architecture": "amd64",
            "fsLayers": [{"blobSum": A.blobs[1].digest}],
            "history": [{"v1Compatibility": "{}"}],
        },
        indent=3,
    ).encode(),
)


def pull(registry: RegistryServer, repository: str, image: Image) -> list[str]:
    """Fetch a manifest and everything that it refers to, byte by byte; return what did not come."""
    failed: list[str] = []
    with Pusher(registry.url) as client:
        answer = client.request(
            "GET", f"/v2/{repository}/manifests/{image.digest}", headers={"Accept": ACCEPT}
        )
        if answer.status != 200 or answer.body != image.manifest.data:
            failed.append("manifest")
        for blob in image.blobs:
            status, body = fetch(registry, f"/v2/{repository}/blobs/{blob.digest}")
            if status != 200 or body != blob.data:
                failed.append(blob.digest)
    for child in image.children:
        failed += pull(registry, repository, child)
    return failed


def fetch(registry: RegistryServer, path: str) -> tuple[int, bytes | None]:
    """GET; return status and body, None where fewer bytes came than were promised."""
    connection = http.client.HTTPConnection(urlsplit(registry.url).netloc, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        except http.client.IncompleteRead:
            return answer.status, None
    finally:
        connection.close()


def head(registry: RegistryServer, path: str) -> int:
    with Pusher(registry.url) as client:
        return client.request("HEAD", path, headers={"Accept": ACCEPT}).status


def put(registry: RegistryServer, repository: str, image: Image, tag: str) -> int:
    """PUT a manifest alone; return the status."""
    with Pusher(registry.url) as client:
        path = f"/v2/{repository}/manifests/{tag}"
        return client.request(
            "PUT", path, body=image.manifest.data, headers={"Content-Type": image.media_type}
        ).status


@BOTH
async def test_find_major(start_registry: StartRegistry, version: int) -> None:
    """A listing of a repository tells 2.8 from 3.x; one of a repository that is not there need not."""
    registry = start_registry(version)
    name = RepositoryName("app")
    async with RegistryClient(TransportSettings(base_url=registry.url)) as client:
        assert await client.find_major(name) in {None, version}
        with Pusher(registry.url) as pusher:
            pusher.push("app", A, "v1")
        assert await client.find_major(name) == version


@ONLY_3
def test_hazard__h5_zombies(start_registry: StartRegistry, version: int) -> None:
    """H5: an untagged manifest that a later repository keeps is served, its blobs are 404, an index on it is broken."""
    registry = start_registry(version)
    with Pusher(registry.url) as client:
        client.push("a", A, "keep")
        client.push("a", C)
        client.push("b", C, "v1")

    registry.garbage_collect(UNTAGGED)

    assert pull(registry, "a", C) == [blob.digest for blob in C.blobs]
    assert pull(registry, "b", C) == []
    assert put(registry, "a", index([C]), "multi") == 201
    assert pull(registry, "a", index([C])) == [blob.digest for blob in C.blobs]


@ONLY_3
def test_hazard__h6_damage_spreads(start_registry: StartRegistry, version: int) -> None:
    """H6: a child that one repository lacks costs another, whose index is tagged and whole, that child's layers."""
    registry = start_registry(version)
    multi = index([B, C])
    with Pusher(registry.url) as client:
        client.push("a", multi, "v1")
        client.push("b", multi, "v1")
        client.delete("a", C.digest)
    assert pull(registry, "b", multi) == []

    registry.garbage_collect(UNTAGGED)

    assert pull(registry, "b", multi) == [blob.digest for blob in C.blobs]


@BOTH
@pytest.mark.full
def test_hazard__h7_a_deletion_meanwhile(
    start_registry: StartRegistry, s3: Bucket, tmp_path: Path, version: int
) -> None:
    """H7: a manifest that is deleted while its repository is read ends that reading; tagged images after it lose all.

    3.x reads the links of a page of 1000 keys after it has listed them: any of them may have gone meanwhile. 2.8 lists
    directory by directory; only the link that it is about to read matters.
    """
    registry = start_registry(version, extra=s3.storage())
    images = sorted((oci_image(f"image {number}") for number in range(6)), key=lambda each: each.digest)
    with Pusher(registry.url) as client:
        for number, image in enumerate(images):
            client.push("app", image, f"v{number}")
    keys = [
        f"content/docker/registry/v2/repositories/app/_manifests/revisions/{each.digest.replace(':', '/')}/link"
        for each in images
    ]
    collector = collector_of("2.8" if version == 2 else "3.1")
    with deleting(s3, keys[2], when_read=keys[0] if version == 3 else keys[2]) as url:
        storage = s3.storage()["storage"]
        section = {"s3": {**storage["s3"], "regionendpoint": url}, "redirect": storage["redirect"]}
        ran = collector.run(tmp_path / "config", storage=section)

    assert (ran.code, ran.errors) == (0, "")
    assert [pull(registry, "app", image) == [] for image in images] == [True, True, *[False] * 4]


@contextmanager
def deleting(s3: Bucket, key: str, *, when_read: str) -> Iterator[str]:
    """Stand between a collection and its S3, and delete a key just before another (or that one) is read first."""
    upstream = urlsplit(s3.server.url).netloc
    gone: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.partition("?")[0] == f"/{s3.name}/{when_read}" and not gone:
                gone.append(key)
                s3.delete_object(key)
            self._forward()

        def do_DELETE(self) -> None:
            self._forward()

        do_HEAD = do_POST = do_PUT = do_DELETE  # noqa: N815 - names of http.server

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(upstream, timeout=60)
            try:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            self.send_response_only(answer.status)
            length = (
                answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            )
            for name, value in answer.headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
    assert gone == [key]
    assert s3.list_keys(key) == []


@BOTH
@pytest.mark.full
def test_hazard__h8_already_there(start_registry: StartRegistry, version: int) -> None:
    """H8: an unreferenced blob that a pusher finds already there, or uploads again, is swept under the new manifest."""
    registry = start_registry(version)
    with Pusher(registry.url) as client:
        client.push("other", A, "v1")
        for blob in C.blobs:
            client.push_blob("app", blob)
    before = [blob_of(registry, blob.digest).stat().st_mtime_ns for blob in C.blobs]
    said = registry.garbage_collect("--dry-run")  # the mark of a collection that is under way
    assert all(f"blob eligible for deletion: {blob.digest}" in said for blob in C.blobs)
    with Pusher(registry.url) as client:
        assert all(head(registry, f"/v2/app/blobs/{blob.digest}") == 200 for blob in C.blobs)
        for blob in C.blobs:
            upload_again(client, "app", blob)
    assert [blob_of(registry, blob.digest).stat().st_mtime_ns for blob in C.blobs] == before
    assert put(registry, "app", C, "v1") == 201
    for blob in C.blobs:  # its sweep
        shutil.rmtree(blob_of(registry, blob.digest).parent)

    assert pull(registry, "app", C) == [blob.digest for blob in C.blobs]


def upload_again(client: Pusher, repository: str, blob: Blob) -> None:
    started = client.request("POST", f"/v2/{repository}/blobs/uploads/")
    place = urlsplit(started.headers["location"])
    answer = client.request(
        "PUT", f"{place.path}?{place.query}&digest={blob.digest}", body=blob.data, headers={}
    )
    assert answer.status == 201


@BOTH
@pytest.mark.full
def test_hazard__h8_layer_links(start_registry: StartRegistry, version: int) -> None:
    """H8: a push that has mounted a base layer loses its link to it in 3.x, and then its manifest is refused."""
    registry = start_registry(version)
    with Pusher(registry.url) as client:
        client.push("base", C, "v1")
        client.push("app", A, "v1")
        for blob in C.blobs:
            client.mount_blob("app", blob, "base")

    registry.garbage_collect()

    statuses = {head(registry, f"/v2/app/blobs/{blob.digest}") for blob in C.blobs}
    assert statuses == ({404} if version == 3 else {200})
    assert put(registry, "app", C, "v2") == (400 if version == 3 else 201)


@BOTH
def test_hazard__h9_a_stale_cache(start_registry: StartRegistry, version: int) -> None:
    """H9: a cache says of a swept blob that it is there: HEAD 200, a push succeeds, GET fails; a restart heals."""
    registry = start_registry(version, extra=CACHED)
    with Pusher(registry.url) as client:
        client.push("app", A, "v1")
        client.push("app", C, "v2")
        assert all(head(registry, f"/v2/app/blobs/{blob.digest}") == 200 for blob in C.blobs)
        client.delete("app", C.digest)

    registry.garbage_collect()

    assert all(not blob_of(registry, blob.digest).exists() for blob in C.blobs)
    stale = [blob for blob in C.blobs if head(registry, f"/v2/app/blobs/{blob.digest}") == 200]
    assert stale == list(C.blobs)
    assert put(registry, "app", C, "v3") == 201
    answers = [fetch(registry, f"/v2/app/blobs/{blob.digest}") for blob in C.blobs]
    assert all(body != blob.data for (_, body), blob in zip(answers, C.blobs, strict=True))
    assert {status for status, _ in answers} == {200}
    registry.restart()
    assert {head(registry, f"/v2/app/blobs/{blob.digest}") for blob in C.blobs} == {404}


@BOTH
@pytest.mark.full
@pytest.mark.parametrize("content", ["", "sha256:0123", "whole\n"])
def test_hazard__h10_links(start_registry: StartRegistry, version: int, content: str) -> None:
    """H10: an empty link, one that was cut off and one with a line's end end a collection; nothing is deleted."""
    registry = start_registry(version)
    with Pusher(registry.url) as client:
        client.push("app", A, "v1")
        client.push_blob("app", C.blobs[0])
    link = revision_of(registry, "app", A.digest) / "link"
    link.write_text(f"{A.digest}\n" if content == "whole\n" else content, encoding="ascii")

    with pytest.raises(RegistryFailedError, match="invalid checksum digest"):
        registry.garbage_collect()
    assert blob_of(registry, C.blobs[0].digest).exists()


@BOTH
@pytest.mark.full
def test_hazard__h11_schema1(start_registry: StartRegistry, version: int) -> None:
    """H11: a schema 1 manifest that an older registry has stored ends every collection of 3.x; 2.8 reads it."""
    registry = start_registry(version)
    with Pusher(registry.url) as client:
        client.push("app", A, "v1")
        client.push_blob("app", C.blobs[0])
    link = revision_of(registry, "app", SCHEMA1.digest) / "link"
    link.parent.mkdir(parents=True)
    link.write_text(SCHEMA1.digest, encoding="ascii")
    data = blob_of(registry, SCHEMA1.digest)
    data.parent.mkdir(parents=True)
    data.write_bytes(SCHEMA1.data)

    if version == 3:
        with pytest.raises(RegistryFailedError, match="unrecognized manifest schema version 1"):
            registry.garbage_collect()
        assert blob_of(registry, C.blobs[0].digest).exists()
    else:
        registry.garbage_collect()
        assert not blob_of(registry, C.blobs[0].digest).exists()


@BOTH
def test_hazard__h12_and_h16_without_layers(start_registry: StartRegistry, version: int) -> None:
    """H12: without _layers a collection of 3.x fails. H16: to 2.8 it is no repository, and all it has is swept."""
    registry = start_registry(version)
    with Pusher(registry.url) as client:
        client.push("app", A, "v1")
        client.push("other", B, "v1")
    shutil.rmtree(repository_of(registry, "app") / "_layers")

    if version == 3:
        with pytest.raises(RegistryFailedError, match="_layers"):
            registry.garbage_collect()
        assert blob_of(registry, A.digest).exists()
    else:
        registry.garbage_collect()
        assert not blob_of(registry, A.digest).exists()
        assert pull(registry, "other", B) == []


@BOTH
@pytest.mark.full
def test_hazard__h13_declared_sizes(start_registry: StartRegistry, version: int) -> None:
    """H13: a manifest may declare any size of what it refers to: only that it is there is checked."""
    registry = start_registry(version)
    document: dict[str, Any] = json.loads(A.manifest.data)
    document["layers"][0]["size"] = 1
    lying = Image(as_json(A.media_type, document), A.blobs)
    with Pusher(registry.url) as client:
        for blob in A.blobs:
            client.push_blob("app", blob)

    assert put(registry, "app", lying, "v1") == 201


@BOTH
@pytest.mark.full
def test_hazard__a_truncated_read(start_registry: StartRegistry, version: int) -> None:
    """A blob that is cut off on disk is answered 200, by HEAD and by GET, with other bytes: only the bytes prove it."""
    registry = start_registry(version)
    with Pusher(registry.url) as client:
        client.push("app", A, "v1")
    layer = A.blobs[1]
    blob_of(registry, layer.digest).write_bytes(layer.data[:-1])

    assert head(registry, f"/v2/app/blobs/{layer.digest}") == 200
    status, body = fetch(registry, f"/v2/app/blobs/{layer.digest}")
    assert status == 200
    assert body != layer.data

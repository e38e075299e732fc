"""Small real images, and a client that pushes and deletes them: just what a demo and tests need.

Images are made from their arguments alone, so the same call gives the same digests. They are whole: layers
are tar archives that unpack, configs name their diff ids, so other clients can copy and pull them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import ssl
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes with a media type: a config, a layer, or a manifest."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """Name of the content."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def descriptor(self, **more: Any) -> dict[str, Any]:
        """Point at it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest with everything it points at: blobs, or the children of an index."""

    manifest: Blob
    blobs: tuple[Blob, ...] = ()
    children: tuple[Image, ...] = ()
    platform: str = ""

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return self.manifest.digest

    @property
    def media_type(self) -> str:
        """Media type of the manifest."""
        return self.manifest.media_type

    @property
    def size_bytes(self) -> int:
        """Manifest, config and layers; for an index the sum over its children."""
        if self.children:
            return sum(child.size_bytes for child in self.children)
        return self.manifest.size + sum(blob.size for blob in self.blobs)


def oci_image(
    seed: str,
    *,
    platform: str = "linux/amd64",
    created: str | None = "2026-01-02T03:04:05Z",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    layer_sizes: Sequence[int] = (1024, 256),
) -> Image:
    """Make an OCI image whose content depends on ``seed``."""
    layers = [layer(f"{seed}/{number}", size, OCI_LAYER) for number, size in enumerate(layer_sizes)]
    config = image_config(OCI_CONFIG, platform, created, labels, layers)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [each.descriptor() for each in layers],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return Image(as_json(OCI_MANIFEST, document), (config, *layers), platform=platform)


def with_config_of_its_own(base: Image, *, created: str) -> Image:
    """Make an OCI image of the layers of another: what a build makes that changes nothing but its time."""
    config, *layers = base.blobs
    made = as_json(OCI_CONFIG, json.loads(config.data) | {"created": created})
    manifest = json.loads(base.manifest.data) | {"config": made.descriptor()}
    return Image(as_json(OCI_MANIFEST, manifest), (made, *layers), platform=base.platform)


def docker_image(
    seed: str,
    *,
    platform: str = "linux/amd64",
    created: str | None = "2026-01-02T03:04:05Z",
    labels: Mapping[str, str] | None = None,
    layer_sizes: Sequence[int] = (1024, 256),
) -> Image:
    """Make a Docker schema 2 image."""
    layers = [layer(f"{seed}/{number}", size, DOCKER_LAYER) for number, size in enumerate(layer_sizes)]
    config = image_config(DOCKER_CONFIG, platform, created, labels, layers)
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": config.descriptor(),
        "layers": [each.descriptor() for each in layers],
    }
    return Image(as_json(DOCKER_MANIFEST, document), (config, *layers), platform=platform)


def index(
    children: Sequence[Image],
    *,
    media_type: str = OCI_INDEX,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Make an image index (or, by its media type, a Docker manifest list) over images."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [
            child.manifest.descriptor(platform=platform_object(child.platform)) for child in children
        ],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return Image(as_json(media_type, document), children=tuple(children))


def multi_platform(seed: str, platforms: Sequence[str] = ("linux/amd64", "linux/arm64")) -> Image:
    """Make an index with one OCI image for each platform."""
    return index([oci_image(f"{seed}/{platform}", platform=platform) for platform in platforms])


def artifact(
    seed: str,
    *,
    artifact_type: str = "application/vnd.example.sbom.v1+json",
    subject: Image | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Make an OCI artifact, attached to ``subject`` where one is given."""
    empty = Blob(OCI_EMPTY, b"{}")
    content = as_json(artifact_type, {"made from": seed})
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": empty.descriptor(),
        "layers": [content.descriptor()],
        **({"subject": subject.manifest.descriptor()} if subject else {}),
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return Image(as_json(OCI_MANIFEST, document), (empty, content))


def layer(seed: str, size: int, media_type: str) -> Blob:
    """Make a layer with one file of ``size`` bytes that do not compress."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo(f"content-{hashlib.sha256(seed.encode()).hexdigest()[:12]}")
        entry.size = size
        tar.addfile(entry, io.BytesIO(hashlib.shake_256(seed.encode()).digest(size)))
    return Blob(media_type, gzip.compress(archive.getvalue(), mtime=0))


def image_config(
    media_type: str,
    platform: str,
    created: str | None,
    labels: Mapping[str, str] | None,
    layers: Sequence[Blob],
) -> Blob:
    """Make an image's config."""
    diff_ids = [f"sha256:{hashlib.sha256(gzip.decompress(each.data)).hexdigest()}" for each in layers]
    document = {
        **({"created": created} if created else {}),
        **platform_object(platform),
        "config": {"Labels": dict(labels)} if labels else {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "sample"} for _ in layers],
    }
    return as_json(media_type, document)


def platform_object(platform: str) -> dict[str, str]:
    """Write ``os/architecture[/variant]`` as manifests and configs do."""
    return dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))


def as_json(media_type: str, document: Mapping[str, Any]) -> Blob:
    """Write a document as bytes, always the same way."""
    return Blob(media_type, json.dumps(document, separators=(",", ":")).encode())


# --- pushing ---------------------------------------------------------------------------------------------


class PushError(Exception):
    """The registry answered what it should not have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A registry's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Pusher:
    """A plain client of one registry, over one connection; it asks nothing that is not needed."""

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        user_agent: str = "sample-images/1",
        ca_file: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            self._connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=30)
        self._headers = {"User-Agent": user_agent}
        if username is not None:
            word = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {word}"
        elif token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def push(self, repository: str, image: Image, tag: str | None = None) -> str:
        """Push an image with everything below it, by tag or by digest; return its digest."""
        for child in image.children:
            self.push(repository, child)
        for blob in image.blobs:
            self.push_blob(repository, blob)
        path = f"/v2/{repository}/manifests/{tag or image.digest}"
        self._expect({201}, "PUT", path, image.manifest.data, {"Content-Type": image.media_type})
        return image.digest

    def push_blob(self, repository: str, blob: Blob) -> None:
        """Upload a blob unless it is there."""
        if self.request("HEAD", f"/v2/{repository}/blobs/{blob.digest}").status == http.HTTPStatus.OK:
            return
        begun = self._expect({202}, "POST", f"/v2/{repository}/blobs/uploads/", b"")
        place = urlsplit(begun.headers["location"])
        separator = "&" if place.query else ""
        target = f"{place.path}?{place.query}{separator}digest={quote(blob.digest)}"
        self._expect({201}, "PUT", target, blob.data, {"Content-Type": "application/octet-stream"})

    def mount_blob(self, repository: str, blob: Blob, source: str) -> None:
        """Mount a blob from another repository."""
        path = f"/v2/{repository}/blobs/uploads/?mount={quote(blob.digest)}&from={quote(source, safe='')}"
        self._expect({201}, "POST", path, b"")

    def delete(self, repository: str, reference: str) -> Answer:
        """Delete a manifest by digest, or (3.x) a tag by name; 2.8 answers 400 to the latter."""
        return self.request("DELETE", f"/v2/{repository}/manifests/{reference}")

    def digest_of(self, repository: str, reference: str) -> str | None:
        """Ask where a tag points; None where it does not exist."""
        answer = self.request("HEAD", f"/v2/{repository}/manifests/{reference}", headers={"Accept": ACCEPT})
        return answer.headers["docker-content-digest"] if answer.status == http.HTTPStatus.OK else None

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request as it is."""
        for last in (False, True):
            try:
                self._connection.request(method, path, body, {**self._headers, **(headers or {})})
                response = self._connection.getresponse()
                data = response.read()
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._connection.close()  # kept alive too long; a new connection tells whether it is down
                if last:
                    raise
        lower = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lower, data)

    def _expect(
        self,
        statuses: set[int],
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = self.request(method, path, body, headers)
        if answer.status not in statuses:
            raise PushError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer

"""Manifests as they lie in the storage: which media type a registry serves them with, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from indexer.oci.digest import digest_of
from indexer.oci.media_types import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
)
from reconciler.storage import manifests
from reconciler.storage.files import FileStorage
from reconciler.storage.layout import Blob
from reconciler.storage.manifests import Contents, NotServed, media_type_of, read_contents
from tests.fixtures.storages import lay, lay_blob
from tools.sample_images import docker_image, multi_platform, oci_image


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({"schemaVersion": 2, "mediaType": OCI_MANIFEST}, OCI_MANIFEST),
        ({"schemaVersion": 2, "mediaType": OCI_INDEX}, OCI_INDEX),
        ({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST),
        ({"schemaVersion": 2, "mediaType": DOCKER_LIST}, DOCKER_LIST),
        ({"schemaVersion": 2, "config": {}, "layers": []}, OCI_MANIFEST),
        ({"schemaVersion": 2, "manifests": []}, OCI_INDEX),
        ({"schemaVersion": 2, "manifests": None}, OCI_MANIFEST),
        ({"schemaversion": 2, "MEDIATYPE": OCI_INDEX}, OCI_INDEX),
        ({"schemaVersion": 1, "signatures": []}, DOCKER_SCHEMA1_SIGNED),
        ({"schemaVersion": 2, "mediaType": "application/json"}, None),
        ({"schemaVersion": 2, "mediaType": 5}, None),
        ({"schemaVersion": 3}, None),
        ({"schemaVersion": True}, None),
        ({"schemaVersion": "2"}, None),
        ({}, None),
        ([], None),
        ("x", None),
    ],
)
def test_media_type(document: Any, media_type: str | None) -> None:
    """The registry reads it from the bytes; without a claim an index is what has ``manifests``."""
    assert media_type == media_type_of(json.dumps(document).encode())


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[" * 100_000, b"null", b'{"schemaVersion":2}x'])
def test_media_type__of_no_document(content: bytes) -> None:
    """What is no JSON object is no manifest, however deep."""
    assert media_type_of(content) is None


def _read(root: Path, *digests: str) -> Contents:
    whole = Contents()
    for some in read_contents(FileStorage(root), digests):  # type: ignore[arg-type]
        whole.read += some.read
        whole.not_served |= some.not_served
    return whole


def test_read(tmp_path: Path) -> None:
    """Of an image what its config says, of an index its children; a missing config is a part that is not known."""
    image, other, index = oci_image("a"), docker_image("b"), multi_platform("c")
    for each in (image, other):
        for blob in (each.manifest, *each.blobs):
            lay_blob(tmp_path, blob.data)
    lay_blob(tmp_path, index.manifest.data)
    bare = oci_image("d")
    lay_blob(tmp_path, bare.manifest.data)
    found = {
        read.digest: read
        for read in _read(tmp_path, image.digest, other.digest, index.digest, bare.digest).read
    }
    first = found[image.digest]  # type: ignore[index]
    assert ("image", ["linux/amd64"], 2, "read") == (
        first.kind,
        list(first.platforms),
        len(first.layers),
        first.content,
    )
    assert first.image_created is not None
    assert DOCKER_MANIFEST == found[other.digest].media_type  # type: ignore[index]
    assert 2 == len(found[index.digest].children)  # type: ignore[index]
    assert "partly-read" == found[bare.digest].content  # type: ignore[index]


def test_read__what_is_not_served(tmp_path: Path) -> None:
    """Missing, exchanged, no manifest, too large, GitLab's dummy: each is said, and none is taken for content."""
    other, large = digest_of(b"other"), b'{"schemaVersion":2,"x":"' + b"x" * 2**22 + b'"}'
    lay(tmp_path, Blob(other), b"exchanged")
    empty = digest_of(b"was whole")
    lay(tmp_path, Blob(empty), b"")
    text = lay_blob(tmp_path, b"just some text")
    config = b'{"config":{}}'
    lay_blob(tmp_path, config)
    dummy = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": 13,
                "digest": digest_of(config),
            },
        }
    ).encode()
    digests = [
        digest_of(b"missing"),
        other,
        empty,
        text,
        lay_blob(tmp_path, large),
        lay_blob(tmp_path, dummy),
    ]
    found = _read(tmp_path, *digests)
    assert [] == found.read
    assert [
        NotServed.MISSING,
        NotServed.OTHER_BYTES,
        NotServed.OTHER_BYTES,
        NotServed.NO_MANIFEST,
        NotServed.OTHER_BYTES,
        NotServed.DUMMY,
    ] == [found.not_served[digest] for digest in digests]


def test_read__in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and however large: only so many are held at a time."""
    digests = [lay_blob(tmp_path, oci_image(str(number)).manifest.data) for number in range(5)]
    monkeypatch.setattr(manifests, "TOGETHER", 2)
    assert [2, 2, 1] == [len(some.read) for some in read_contents(FileStorage(tmp_path), digests)]
    monkeypatch.setattr(manifests, "TOGETHER_BYTES", 1)
    assert [1] * 5 + [0] == [len(some.read) for some in read_contents(FileStorage(tmp_path), digests)]

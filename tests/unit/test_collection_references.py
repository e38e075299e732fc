"""A manifest's references are those that the registry's collector reads; what ends a collection there is unreadable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.collection.references import LARGEST, References, Release, Unreadable, read_references
from tests.simulators.layouts import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
    image,
    index,
    referrer,
    schema1,
)

ONE, TWO = image("one", layers=(b"a", b"b")), image("two")
RELEASES = pytest.mark.parametrize("release", list(Release))


def document(stored: bytes, **changed: Any) -> bytes:
    return json.dumps(json.loads(stored) | changed).encode()


@RELEASES
@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST, ""])
def test_read_references__of_an_image(release: Release, kind: str) -> None:
    """An image refers to its config and its layers, in that order."""
    stored = image("i", layers=(b"a", b"b"), kind=kind)

    found = read_references(stored.data, release)

    assert found == References(tuple(digest_of(each) for each in stored.blobs))


@RELEASES
@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST, ""])
def test_read_references__of_an_index(release: Release, kind: str) -> None:
    """An index refers to its children."""
    found = read_references(index((ONE, TWO), kind=kind).data, release)

    assert found == References((ONE.digest, TWO.digest), is_index=True)


@RELEASES
def test_read_references__subject(release: Release) -> None:
    """A subject is no reference, though it is known."""
    found = read_references(referrer("r", ONE).data, release)

    assert isinstance(found, References)
    assert found.subject == ONE.digest
    assert ONE.digest not in found.digests


def test_read_references__schema1() -> None:
    """2.8 reads the layers of a schema 1 manifest, 3.x fails at it."""
    stored = schema1("old")

    assert read_references(stored.data, Release.V2) == References((digest_of(stored.blobs[0]),))
    found = read_references(stored.data, Release.V3)
    assert isinstance(found, Unreadable)
    assert found.is_schema1


@RELEASES
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        ONE.data[:-1],
        document(ONE.data, schemaVersion=3),
        document(ONE.data, schemaVersion="2"),
        document(ONE.data, mediaType="application/json"),
        document(ONE.data, mediaType=2),
        document(ONE.data, config="text"),
        document(ONE.data, config={"size": 1.5}),
        document(ONE.data, config={"size": 2**63}),
        document(ONE.data, layers={}),
        document(ONE.data, layers=[1]),
        document(ONE.data, layers=[{"digest": 1}]),
        document(ONE.data, layers=[{"urls": "x"}]),
        document(ONE.data, layers=[{"annotations": {"a": 1}}]),
        document(ONE.data, layers=[{"platform": []}]),
        document(ONE.data, annotations={"a": 1}),
        document(image("x", kind="").data, manifests={}),
        ONE.data.ljust(LARGEST + 1),
    ],
)
def test_read_references__unreadable(release: Release, content: bytes) -> None:
    """What a collector cannot decode into its structures ends a collection."""
    assert isinstance(read_references(content, release), Unreadable)


@RELEASES
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (document(ONE.data, config=None, layers=None), ("",)),
        (document(ONE.data, layers=[None, {"digest": "odd"}], config={}), ("", "", "odd")),
        (document(ONE.data, subject=5, artifactType=[], layers=[]), (digest_of(ONE.blobs[0]),)),
        (ONE.data.ljust(LARGEST), tuple(digest_of(each) for each in ONE.blobs)),
        (ONE.data.replace(b'"layers"', b'"LAYERS"'), tuple(digest_of(each) for each in ONE.blobs)),
    ],
)
def test_read_references__odd(release: Release, content: bytes, expected: tuple[str, ...]) -> None:
    """What is missing is "", what is no member of its structures is not read, and letter case does not count."""
    found = read_references(content, release)

    assert isinstance(found, References)
    assert found.digests == expected


def test_read_references__members_that_only_3_knows() -> None:
    """A descriptor's artifactType and data are members of 3.x alone: only there their type counts."""
    content = document(ONE.data, layers=[{"data": "not base64", "artifactType": 1}])

    assert isinstance(read_references(content, Release.V2), References)
    assert isinstance(read_references(content, Release.V3), Unreadable)

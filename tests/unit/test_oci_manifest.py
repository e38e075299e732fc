"""Manifests and indexes: what is read, and what is refused with which reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.oci import media_types
from indexer.oci.manifest import ParsedManifest, parse_manifest
from indexer.oci.platform import Platform

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def descriptor(**fields: Any) -> dict[str, Any]:
    """Return a descriptor with defaults."""
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 7, **fields}


def manifest(**fields: Any) -> bytes:
    """Return an OCI image manifest with one config and one layer."""
    config = descriptor(mediaType=media_types.OCI_CONFIG)
    return json.dumps({"schemaVersion": 2, "config": config, "layers": [descriptor()], **fields}).encode()


def parse(content: bytes, media_type: str = media_types.OCI_MANIFEST) -> ParsedManifest:
    """Parse with the commonest type as default."""
    return parse_manifest(content, media_type)


@pytest.mark.parametrize("media_type", [media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST])
def test_parse_manifest__reads_config_and_layers(media_type: str) -> None:
    """An OCI and a Docker manifest are read alike."""
    parsed = parse(manifest(mediaType=media_type), media_type)

    assert parsed.config is not None
    assert parsed.config.media_type == media_types.OCI_CONFIG
    assert [(layer.digest, layer.size) for layer in parsed.layers] == [(DIGEST, 7)]
    assert parsed.artifact_type == ""
    assert parsed.subject is None


def test_parse_manifest__media_type_parameters_and_case_do_not_matter() -> None:
    """A Content-Type with a charset is the same type."""
    parsed = parse(manifest(), media_types.OCI_MANIFEST.upper() + "; charset=utf-8")

    assert parsed.media_type == media_types.OCI_MANIFEST


@pytest.mark.parametrize("media_type", [media_types.OCI_INDEX, media_types.DOCKER_LIST])
def test_parse_manifest__reads_children_of_an_index(media_type: str) -> None:
    """The children of an index carry their platforms and annotations."""
    child = descriptor(
        mediaType=media_types.OCI_MANIFEST,
        platform={"os": "linux", "architecture": "arm", "variant": "v7"},
        annotations={"a": "b"},
    )
    parsed = parse(json.dumps({"schemaVersion": 2, "manifests": [child]}).encode(), media_type)

    assert [each.platform for each in parsed.children] == [Platform("linux", "arm", "v7")]
    assert parsed.children[0].annotations == {"a": "b"}
    assert parsed.layers == ()


def test_parse_manifest__index_without_children() -> None:
    """Distribution accepts an empty index, so do we; null is an empty list."""
    assert parse(b'{"schemaVersion":2,"manifests":null}', media_types.OCI_INDEX).children == ()


def test_parse_manifest__reads_subject_annotations_and_artifact_type() -> None:
    """What makes a referrer is read."""
    content = manifest(
        artifactType="application/vnd.example", subject=descriptor(digest=OTHER), annotations={"k": "v"}
    )
    parsed = parse(content)

    assert (parsed.subject, parsed.artifact_type, parsed.annotations) == (
        OTHER,
        "application/vnd.example",
        {"k": "v"},
    )


def test_parse_manifest__artifact_type_falls_back_to_the_config() -> None:
    """Without artifactType the config's media type names the artifact, as the referrers API does."""
    content = manifest(config=descriptor(mediaType=media_types.HELM_CONFIG))

    assert parse(content).artifact_type == media_types.HELM_CONFIG


def test_parse_manifest__unknown_fields_are_ignored() -> None:
    """What tomorrow's specification adds does not stop today's reader."""
    assert parse(manifest(novelty={"deep": [1, 2, {"x": None}]})).config is not None


def test_parse_manifest__keeps_nul_characters() -> None:
    """U+0000 is legal in JSON and kept; storing it is the store's problem."""
    assert parse(manifest(annotations={"a\u0000": "\u0000"})).annotations == {"a\u0000": "\u0000"}


def test_parse_manifest__schema1_is_recognised_but_not_taken_apart() -> None:
    """A schema 1 manifest gives an empty value of its type."""
    content = json.dumps({"schemaVersion": 1, "fsLayers": [{"blobSum": DIGEST}], "signatures": []}).encode()

    assert parse(content, media_types.DOCKER_SCHEMA1_SIGNED) == ParsedManifest(
        media_types.DOCKER_SCHEMA1_SIGNED
    )


@pytest.mark.parametrize("size", [0, 2**63 - 1])
def test_parse_manifest__sizes_up_to_int64(size: int) -> None:
    """The whole range of the specification's int64 is accepted."""
    assert parse(manifest(layers=[descriptor(size=size)])).layers[0].size == size


REFUSED = [
    (b"", "not JSON"),
    (b"[]", "expected an object, found a list"),
    (b"<html>", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b'{"annotations":{"a":"\\ud800"}}', "not JSON"),
    (manifest(layers=[descriptor(size=-1)]), r"layers\[0\].size: -1 is not between"),
    (manifest(layers=[descriptor(size=2**63)]), r"layers\[0\].size"),
    (manifest(layers=[descriptor(size=2**70)]), r"layers\[0\].size: expected a whole number"),
    (manifest(layers=[descriptor(size=1.5)]), r"layers\[0\].size: expected a whole number"),
    (
        manifest(layers=[descriptor(size=True)]),
        r"layers\[0\].size: expected a whole number of 64 bits, found a bool",
    ),
    (manifest(layers=[descriptor(size=float("nan"))]), "not JSON"),
    (manifest(layers=[descriptor(), descriptor(digest="sha256:x")]), r"layers\[1\].digest: not a sha256"),
    (manifest(layers=[descriptor(digest=None)]), r"layers\[0\].digest"),
    (manifest(layers={}), "document.layers: expected a list, found an object"),
    (manifest(layers=[3]), r"layers\[0\]: expected an object, found a number"),
    (manifest(config=[]), "config: expected an object"),
    (manifest(subject="x"), "subject: expected an object, found text"),
    (manifest(annotations={"a": 1}), "document.annotations.a: expected text"),
    (manifest(artifactType=1), "document.artifactType: expected text"),
    (manifest(mediaType=media_types.OCI_INDEX), "document.mediaType"),
    (manifest(manifests=[]), "document.manifests: does not belong"),
    (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "not JSON"),
    (b"[" * 2_000_000, "not JSON"),
]


@pytest.mark.parametrize(("content", "reason"), REFUSED)
def test_parse_manifest__refuses_with_a_reason(content: bytes, reason: str) -> None:
    """Hostile or broken content is a ValueError that names the place, never another exception."""
    with pytest.raises(ValueError, match=reason):
        parse(content)


def test_parse_manifest__index_with_layers_is_ambiguous() -> None:
    """A document that could be read as both manifest and index is refused (CVE-2021-41190)."""
    with pytest.raises(ValueError, match="does not belong"):
        parse(b'{"manifests":[],"layers":[]}', media_types.OCI_INDEX)


def test_parse_manifest__other_media_types_are_refused() -> None:
    """A blob's type is no manifest type."""
    with pytest.raises(ValueError, match="not a manifest media type"):
        parse(b"{}", "application/octet-stream")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["mediaType", "config", "layers", "manifests", "subject", "annotations", "artifactType", "platform"]
)


@given(st.dictionaries(FIELDS, JSON_VALUES), st.sampled_from(media_types.MANIFEST_ACCEPT_TYPES))
def test_parse_manifest__any_json_gives_a_value_or_a_value_error(
    source: dict[str, Any], media_type: str
) -> None:
    """Whatever JSON stands in the known fields, the answer is a value or a ValueError."""
    try:
        parsed = parse_manifest(json.dumps(source).encode(), media_type)
    except ValueError:
        return
    assert parsed.media_type == media_type


@given(st.binary(max_size=200))
def test_parse_manifest__any_bytes_give_a_value_or_a_value_error(content: bytes) -> None:
    """Whatever the bytes are, the answer is a value or a ValueError."""
    try:
        parse(content)
    except ValueError:
        return

"""Manifests and indexes: what is read, and what is refused with which reason."""

from __future__ import annotations

import json
import re
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
    (b'\xef\xbb\xbf{"layers":[]}', "not JSON"),
    (manifest(layers=[descriptor(size=float("nan"))]), "not JSON"),
    (manifest(mediaType=media_types.OCI_INDEX), "document.mediaType"),
    (manifest(mediaType=7), "document.mediaType: expected text, found a number"),
    (manifest(manifests=[]), "document.manifests: does not belong"),
    (manifest(MANIFESTS=[]), "document.manifests: does not belong"),
    (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested deeper than 10000 levels"),
    (b"[" * 2_000_000, "nested deeper than 10000 levels"),
    (b'{"a":' + b"[" * 5_000, "without an end"),
    (b'{"a":' + b"[" * 5_000 + b'"', "without an end"),
]


@pytest.mark.parametrize(("content", "reason"), REFUSED)
def test_parse_manifest__refuses_with_a_reason(content: bytes, reason: str) -> None:
    """What is no JSON, or could be two things, is a ValueError with the reason, never another exception."""
    with pytest.raises(ValueError, match=reason):
        parse(content)


UNREAD = [
    ({"layers": [descriptor(), descriptor(size=-1)]}, "layers[1].size", "-1 is not between"),
    ({"layers": [descriptor(size=2**63)]}, "layers[0].size", "is not between"),
    ({"layers": [descriptor(size=2**70)]}, "layers[0].size", "expected a whole number"),
    ({"layers": [descriptor(size=int("9" * 400))]}, "layers[0].size", "expected a whole number"),
    ({"layers": [descriptor(size=1.5)]}, "layers[0].size", "expected a whole number"),
    ({"layers": [descriptor(size=True)]}, "layers[0].size", "found a boolean"),
    ({"layers": [descriptor(), descriptor(digest="sha256:x")]}, "layers[1].digest", "not a sha256"),
    ({"layers": [descriptor(digest=None)]}, "layers[0].digest", "not a sha256"),
    ({"layers": {}}, "layers", "expected a list, found an object"),
    ({"layers": [3]}, "layers[0]", "expected an object, found a number"),
    ({"layers": [descriptor(mediaType=[])]}, "layers[0].mediaType", "expected text, found a list"),
    ({"layers": [descriptor(platform="x")]}, "layers[0].platform", "expected an object, found text"),
    ({"config": []}, "config", "expected an object"),
    (
        {"config": descriptor(mediaType=media_types.OCI_CONFIG, size="1")},
        "config.size",
        "expected a whole number",
    ),
    ({"annotations": {"a": 1, "b": "c"}}, "annotations", "expected only text, found a number"),
    ({"annotations": []}, "annotations", "expected an object, found a list"),
    ({"artifactType": 7}, "artifactType", "expected text, found a number"),
    ({"subject": "x"}, "subject", "expected an object, found text"),
    ({"subject": {}}, "subject", "not a sha256"),
    ({"subject": []}, "subject", "expected an object, found a list"),
    ({"subject": descriptor(digest=OTHER.upper())}, "subject", "not a sha256"),
    ({"subject": descriptor(size=-1)}, "subject", "-1 is not between"),
    ({"subject": descriptor(size="9")}, "subject", "expected a whole number"),
    ({"subject": descriptor(mediaType=7)}, "subject", "expected text"),
    ({"subject": descriptor(annotations=7)}, "subject", "expected an object"),
    ({"subject": descriptor(platform="x")}, "subject", "expected an object"),
]


@pytest.mark.parametrize(("fields", "part", "reason"), UNREAD)
def test_parse_manifest__a_part_that_makes_no_sense_is_named(
    fields: dict[str, Any], part: str, reason: str
) -> None:
    """It takes nothing else of the manifest with it."""
    parsed = parse(manifest(**fields))

    assert [part] == [each.part for each in parsed.unread]
    assert reason in parsed.unread[0].reason
    assert parsed.subject is None
    whole = parse(manifest())
    for name in {"config", "layers", "annotations", "artifact_type"} - {re.split(r"[.\[]", part)[0]}:
        assert getattr(whole, name) == getattr(parsed, name), name


def test_parse_manifest__what_is_left_of_a_part_is_read() -> None:
    """One annotation that is no text, one layer without a digest: the others are there."""
    parsed = parse(
        manifest(
            annotations={"a": 1, "b": "c", "d": None},
            layers=[descriptor(digest=7), descriptor(digest=OTHER, size=-5)],
        )
    )

    assert {"b": "c", "d": ""} == parsed.annotations
    assert [(OTHER, 0)] == [(layer.digest, layer.size) for layer in parsed.layers]
    assert not parsed.is_sized


@pytest.mark.parametrize(
    ("fields", "sized"),
    [
        ({}, True),
        ({"subject": 1, "annotations": 1, "artifactType": 1}, True),
        ({"layers": [descriptor(mediaType=1)]}, True),
        ({"layers": 1}, False),
        ({"layers": [1]}, False),
        ({"layers": [descriptor(size=-1)]}, False),
        ({"config": 1}, False),
        ({"config": descriptor(digest=1)}, False),
    ],
)
def test_is_sized__only_where_every_size_is_known(fields: dict[str, Any], sized: bool) -> None:
    """A sum is only given where nothing is missing from it."""
    assert sized == parse(manifest(**fields)).is_sized


def test_parse_manifest__letter_case_of_names_does_not_matter() -> None:
    """Go ignores it, so that the registry follows such members; the long s and the Kelvin sign are letters too."""
    content = json.dumps(
        {
            "CONFIG": {"MediaType": media_types.OCI_CONFIG, "Digest": DIGEST, "\u017fize": 7},
            "Layer\u017f": [descriptor()],
            "Subject": descriptor(digest=OTHER),
            "ArtifactType": "application/vnd.example",
            "Annotations": {"K": "v", "k": "w"},
        }
    ).encode()
    parsed = parse(content)

    assert (parsed.config, parsed.layers) == (parse(manifest()).config, parse(manifest()).layers)
    assert (parsed.subject, parsed.artifact_type) == (OTHER, "application/vnd.example")
    assert parsed.annotations == {"K": "v", "k": "w"}
    assert parsed.unread == ()
    index = json.dumps({"Manifests": [{**descriptor(), "Platform": {"OS": "linux", "Architecture": "arm"}}]})
    (child,) = parse(index.encode(), media_types.OCI_INDEX).children
    assert child.platform == Platform("linux", "arm")


@pytest.mark.parametrize(
    "content",
    [
        '{"layers":[A],"layers":[B]}',
        '{"layers":[A],"Layers":[B]}',
        '{"Layers":[A],"layers":[B]}',
        '{"layers":[A],"Layers":[A],"layers":[B]}',
        '{"LAYERS":[A],"layers":[A],"LAYERS":[B]}',
    ],
)
def test_parse_manifest__of_a_name_given_twice_the_last_counts(content: str) -> None:
    """However it is spelt, as in Go: whoever reads the first sees another image than the registry."""
    first, last = json.dumps(descriptor()), json.dumps(descriptor(digest=OTHER))
    parsed = parse(content.replace("A]", f"{first}]").replace("B]", f"{last}]").encode())

    assert [OTHER] == [layer.digest for layer in parsed.layers]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b'"\\ud800"', "\ufffd"),
        (b'"\\udc00x"', "\ufffdx"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ufffd\U0001f600"),
        (b'"\xff\xfe"', "\ufffd\ufffd"),
        (b'"\xe2\x82"', "\ufffd\ufffd"),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
    ],
)
def test_parse_manifest__what_is_no_character_is_replaced(text: bytes, read: str) -> None:
    """As the registry does, which stores and serves such a manifest."""
    content = manifest().replace(b'"layers"', b'"annotations":{"a":' + text + b',"b":"c"},"layers"')
    parsed = parse(content)

    assert {"a": read, "b": "c"} == parsed.annotations
    assert (parsed.config, parsed.unread) == (parse(manifest()).config, ())


@pytest.mark.parametrize(
    "value",
    [b"9" * 400, b"-" + b"9" * 5000, b"1e999", b"0." + b"1" * 5000]
    + [opened * depth + b"1" + closed * depth
       for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")) for depth in (1000, 1030, 5000, 9998)],
)  # fmt: skip
def test_parse_manifest__legal_where_nobody_reads_it(value: bytes) -> None:
    """Numbers of any length and 10,000 levels in a member that is not ours: Go takes them, so do we."""
    assert parse(manifest()) == parse(manifest().replace(b'"layers"', b'"x":' + value + b',"layers"'))


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
def test_parse_manifest__any_json_is_read_in_parts_or_refused(
    source: dict[str, Any], media_type: str
) -> None:
    """Whatever JSON stands in the known members: what is read is the same again when it is read without the rest."""
    try:
        parsed = parse_manifest(json.dumps(source).encode(), media_type)
    except ValueError:
        return
    assert parsed.media_type == media_type
    unread = {re.split(r"[.\[]", each.part)[0] for each in parsed.unread}
    known = {key: value for key, value in source.items() if key not in unread}
    again = parse_manifest(json.dumps(known).encode(), media_type)
    assert () == again.unread
    for key, name in (("layers", "layers"), ("manifests", "children"), ("annotations", "annotations")):
        if key not in unread:
            assert getattr(parsed, name) == getattr(again, name)


@given(
    st.binary(max_size=200)
    | st.binary(max_size=40).map(lambda odd: b'{"layers":[],"x":"' + odd.replace(b'"', b"") + b'"}')
)
def test_parse_manifest__any_bytes_are_read_or_refused(content: bytes) -> None:
    """Whatever the bytes are, the answer is a ValueError, or points to nothing that they do not name."""
    try:
        parsed = parse(content)
    except ValueError:
        return
    named = [*parsed.layers, *([parsed.config] if parsed.config is not None else [])]
    assert all(each.digest.encode() in content for each in named)

"""What a manifest is to a person, tool by tool."""

from __future__ import annotations

import pytest

from indexer.oci import media_types as mt
from indexer.oci.descriptor import Descriptor
from indexer.oci.digest import digest_of
from indexer.oci.kinds import Kind, kind_of
from indexer.oci.manifest import ParsedManifest

HEX = "0" * 64
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def pointer(media_type: str) -> Descriptor:
    """Return a descriptor of some content."""
    return Descriptor(media_type, digest_of(b""), 1)


def manifest(
    *layers: str,
    config: str | None = mt.OCI_CONFIG,
    artifact_type: str = "",
    media_type: str = mt.OCI_MANIFEST,
    annotations: dict[str, str] | None = None,
) -> ParsedManifest:
    """Return a parsed manifest as ``parse_manifest`` would."""
    if not artifact_type and config is not None and not mt.is_image_config(config):
        artifact_type = config
    return ParsedManifest(
        media_type=media_type,
        artifact_type=artifact_type,
        config=pointer(config) if config is not None else None,
        layers=tuple(pointer(each) for each in layers),
        annotations=annotations or {},
    )


CASES = {
    "oci image": (manifest(LAYER), None, Kind.IMAGE),
    "docker image": (
        manifest(LAYER, config=mt.DOCKER_CONFIG, media_type=mt.DOCKER_MANIFEST),
        "latest",
        Kind.IMAGE,
    ),
    "docker image with an octet-stream config": (
        manifest(LAYER, config=mt.OCTET_STREAM, media_type=mt.DOCKER_MANIFEST),
        None,
        Kind.IMAGE,
    ),
    "image without layers": (manifest(), None, Kind.IMAGE),
    "oci index": (ParsedManifest(mt.OCI_INDEX), None, Kind.INDEX),
    "docker list": (ParsedManifest(mt.DOCKER_LIST), None, Kind.INDEX),
    "referrers fallback index": (ParsedManifest(mt.OCI_INDEX), f"sha256-{HEX}", Kind.INDEX),
    "index that is an artifact": (ParsedManifest(mt.OCI_INDEX, artifact_type="a/b"), None, Kind.ARTIFACT),
    "schema 1": (ParsedManifest(mt.DOCKER_SCHEMA1_SIGNED), f"sha256-{HEX}.sig", Kind.UNKNOWN),
    "nothing in it": (manifest(config=None), None, Kind.UNKNOWN),
    "cosign signature by its layers": (manifest(mt.COSIGN_SIMPLE_SIGNING), None, Kind.SIGNATURE),
    "cosign signature by its tag": (manifest(LAYER), f"sha256-{HEX}.sig", Kind.SIGNATURE),
    "cosign attestation by its layers": (manifest(mt.DSSE, mt.DSSE), None, Kind.ATTESTATION),
    "cosign attestation by its tag": (manifest(LAYER), f"sha256-{HEX}.att", Kind.ATTESTATION),
    "cosign sbom by its layers": (manifest("text/spdx+json"), None, Kind.SBOM),
    "cosign sbom by its tag": (manifest(LAYER), f"sha256-{HEX}.sbom", Kind.SBOM),
    "content before tag": (manifest(mt.COSIGN_SIMPLE_SIGNING), f"sha256-{HEX}.sbom", Kind.SIGNATURE),
    "a tag that only looks like cosign's": (manifest(LAYER), f"sha256-{HEX[:-1]}.sig", Kind.IMAGE),
    "an ordinary tag ending in .sig": (manifest(LAYER), "release.sig", Kind.IMAGE),
    "cosign as referrer": (manifest("x/y", artifact_type=mt.COSIGN_SIGNATURE), None, Kind.SIGNATURE),
    "notation": (manifest("application/jose+json", config=mt.NOTATION_SIGNATURE), None, Kind.SIGNATURE),
    "sigstore bundle, message signature": (
        manifest(BUNDLE, config=mt.OCI_EMPTY, artifact_type=BUNDLE),
        None,
        Kind.SIGNATURE,
    ),
    "sigstore bundle, cosign 3 signature": (
        manifest(
            BUNDLE,
            config=mt.OCI_EMPTY,
            artifact_type=BUNDLE,
            annotations={
                "dev.sigstore.bundle.content": "dsse-envelope",
                "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
            },
        ),
        None,
        Kind.SIGNATURE,
    ),
    "sigstore bundle, attestation": (
        manifest(
            BUNDLE,
            config=mt.OCI_EMPTY,
            artifact_type=BUNDLE,
            annotations={"dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1"},
        ),
        None,
        Kind.ATTESTATION,
    ),
    "buildkit attestation": (manifest(mt.IN_TOTO, mt.IN_TOTO), None, Kind.ATTESTATION),
    "buildkit attestation as artifact": (
        manifest(mt.IN_TOTO, config=mt.OCI_EMPTY, artifact_type=mt.DOCKER_ATTESTATION),
        None,
        Kind.ATTESTATION,
    ),
    "in-toto artifact type": (manifest(artifact_type="application/vnd.in-toto+json"), None, Kind.ATTESTATION),
    "spdx": (manifest("x/y", artifact_type="application/spdx+json"), None, Kind.SBOM),
    "cyclonedx": (manifest(config="application/vnd.cyclonedx+json"), None, Kind.SBOM),
    "syft": (manifest(artifact_type="application/vnd.syft+json"), None, Kind.SBOM),
    "harbor sbom": (manifest(artifact_type="application/vnd.goharbor.harbor.sbom.v1"), None, Kind.SBOM),
    "helm chart": (
        manifest("application/vnd.cncf.helm.chart.content.v1.tar+gzip", config=mt.HELM_CONFIG),
        "1.0.0",
        Kind.CHART,
    ),
    "buildkit cache": (
        manifest(LAYER, config="application/vnd.buildkit.cacheconfig.v0"),
        None,
        Kind.ARTIFACT,
    ),
    "oras artifact": (manifest("text/plain", config=mt.OCI_EMPTY, artifact_type="a/b"), None, Kind.ARTIFACT),
    "oras artifact without a type": (manifest("text/plain", config=mt.OCI_EMPTY), None, Kind.ARTIFACT),
    "image with one odd layer": (manifest(LAYER, mt.IN_TOTO), None, Kind.IMAGE),
}


@pytest.mark.parametrize(("parsed", "tag", "expected"), CASES.values(), ids=CASES.keys())
def test_kind_of__table(parsed: ParsedManifest, tag: str | None, expected: Kind) -> None:
    """Each tool's way of marking its manifests gives the kind a person would name."""
    assert kind_of(parsed, tag=tag) is expected

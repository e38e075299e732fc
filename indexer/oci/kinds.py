"""The kind of a manifest, as a person sees it: an image, a signature, a chart.

There is no registry of kinds; each tool marks its manifests in its own way. The rules, in the order they apply:

1. schema 1 manifests are not parsed: ``unknown``;
2. the artifact type or the config's media type (notation, sigstore, in-toto, SPDX, Helm …);
3. the type of all layers (cosign signs with an *image* config, and only its layers show it; buildkit's attestation
   manifests likewise);
4. cosign's tag (``sha256-<hex>.sig``, ``.att``, ``.sbom``);
5. indexes are ``index``, image configs ``image``, anything else with an artifact type ``artifact``.

Content comes before the tag's name: a tag is only a name, and one digest may have several.
"""

from __future__ import annotations

import re
from enum import StrEnum, unique

from indexer.oci import media_types
from indexer.oci.manifest import ParsedManifest


@unique
class Kind(StrEnum):
    """The kinds that listings show and filter by."""

    IMAGE = "image"
    INDEX = "index"
    SIGNATURE = "signature"
    ATTESTATION = "attestation"
    SBOM = "sbom"
    CHART = "chart"
    ARTIFACT = "artifact"
    UNKNOWN = "unknown"


_COSIGN_TAG = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{128})\.(sig|att|sbom)\Z")
_KIND_BY_SUFFIX = {"sig": Kind.SIGNATURE, "att": Kind.ATTESTATION, "sbom": Kind.SBOM}
_KIND_BY_TYPE = {
    media_types.COSIGN_SIMPLE_SIGNING: Kind.SIGNATURE,
    media_types.COSIGN_SIGNATURE: Kind.SIGNATURE,
    media_types.COSIGN_ATTESTATION: Kind.ATTESTATION,
    media_types.COSIGN_SBOM: Kind.SBOM,
    media_types.NOTATION_SIGNATURE: Kind.SIGNATURE,
    media_types.IN_TOTO: Kind.ATTESTATION,
    media_types.DSSE: Kind.ATTESTATION,
    media_types.DOCKER_ATTESTATION: Kind.ATTESTATION,
    media_types.HELM_CONFIG: Kind.CHART,
}
_SBOM_FORMATS = ("spdx", "cyclonedx", "vnd.syft", ".sbom.")
_BUNDLE_CONTENT = "dev.sigstore.bundle.content"
_BUNDLE_PREDICATE = "dev.sigstore.bundle.predicateType"
_COSIGN_SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/"


def kind_of(manifest: ParsedManifest, *, tag: str | None = None) -> Kind:
    """Return the kind of ``manifest``; ``tag``: one of its tags, if there is one."""
    if media_types.is_schema1(manifest.media_type):
        return Kind.UNKNOWN
    return (
        _kind_of_type(manifest.artifact_type, manifest)
        or _kind_of_layers(manifest)
        or _kind_of_tag(tag)
        or _kind_of_shape(manifest)
    )


def _kind_of_type(media_type: str, manifest: ParsedManifest) -> Kind | None:
    """Return the kind that a media type shows, wherever it is used."""
    media_type = media_types.bare(media_type)
    if media_type.startswith(media_types.SIGSTORE_BUNDLE_PREFIX):
        return _kind_of_bundle(manifest)
    if media_type.startswith(media_types.IN_TOTO_PREFIX):
        return Kind.ATTESTATION
    if any(name in media_type for name in _SBOM_FORMATS):
        return Kind.SBOM
    return _KIND_BY_TYPE.get(media_type)


def _kind_of_bundle(manifest: ParsedManifest) -> Kind:
    """Tell a signature from an attestation in a sigstore bundle.

    cosign 3 signs with a DSSE envelope too; only its predicate type makes it a signature (cosign
    specs/BUNDLE_SPEC.md).
    """
    predicate = manifest.annotations.get(_BUNDLE_PREDICATE, "")
    if predicate.startswith(_COSIGN_SIGN_PREDICATE):
        return Kind.SIGNATURE
    if predicate or manifest.annotations.get(_BUNDLE_CONTENT) == "dsse-envelope":
        return Kind.ATTESTATION
    return Kind.SIGNATURE


def _kind_of_layers(manifest: ParsedManifest) -> Kind | None:
    """Return the kind that all layers show, if they show the same."""
    kinds = {_kind_of_type(layer.media_type, manifest) for layer in manifest.layers}
    return kinds.pop() if len(kinds) == 1 else None


def _kind_of_tag(tag: str | None) -> Kind | None:
    match = _COSIGN_TAG.match(tag) if tag else None
    return _KIND_BY_SUFFIX[match.group(1)] if match else None


def _kind_of_shape(manifest: ParsedManifest) -> Kind:
    if media_types.is_index(manifest.media_type):
        return Kind.INDEX if not manifest.artifact_type else Kind.ARTIFACT
    if manifest.config is None:
        return Kind.ARTIFACT if manifest.artifact_type else Kind.UNKNOWN
    if not manifest.artifact_type or media_types.is_image_config(manifest.artifact_type):
        return Kind.IMAGE
    # Docker pushed configs as octet-stream for a time, and still takes them for images (moby issue 20853).
    if (
        manifest.media_type == media_types.DOCKER_MANIFEST
        and manifest.artifact_type == media_types.OCTET_STREAM
    ):
        return Kind.IMAGE
    return Kind.ARTIFACT

"""Media types of manifests, configs and layers.

Sources: OCI image spec 1.1 "media-types.md"; Docker image manifest v2 schema 2 and schema 1; the artifact
types that Helm, cosign, notation, in-toto, SPDX, CycloneDX and syft document for themselves.
"""

from __future__ import annotations

from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCTET_STREAM: Final = "application/octet-stream"
IN_TOTO: Final = "application/vnd.in-toto+json"
DSSE: Final = "application/vnd.dsse.envelope.v1+json"
IN_TOTO_PREFIX: Final = "application/vnd.in-toto"
DOCKER_ATTESTATION: Final = "application/vnd.docker.attestation.manifest.v1+json"
COSIGN_SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_SIGNATURE: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
COSIGN_ATTESTATION: Final = "application/vnd.dev.cosign.artifact.att.v1+json"
COSIGN_SBOM: Final = "application/vnd.dev.cosign.artifact.sbom.v1+json"
SIGSTORE_BUNDLE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"
NOTATION_SIGNATURE: Final = "application/vnd.cncf.notary.signature"
HELM_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"

MANIFEST_ACCEPT_TYPES: Final = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
MANIFEST_ACCEPT: Final = ", ".join(MANIFEST_ACCEPT_TYPES)
"""The ``Accept`` header of every manifest request.

It must have all four types. Without them Distribution answers 404 for OCI manifests, and 2.8 rewrites Docker ones into
schema 1, with another digest.
"""

_INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
_IMAGE_MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_SCHEMA1 = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
_IMAGE_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

MANIFESTS: Final = _INDEXES | _IMAGE_MANIFESTS | _SCHEMA1
"""What Distribution stores as a manifest, and not as a blob."""


def bare(content_type: str) -> str:
    """Return a media type without parameters (``; charset=utf-8``), in lower case; types ignore case."""
    return content_type.partition(";")[0].strip().lower()


def is_index(media_type: str) -> bool:
    """Tell whether this is an image index or a Docker manifest list: children, no layers."""
    return media_type in _INDEXES


def is_schema1(media_type: str) -> bool:
    """Tell whether this is a Docker schema 1 manifest: served by 2.x, refused on push by 3.x."""
    return media_type in _SCHEMA1


def is_manifest(media_type: str) -> bool:
    """Tell whether Distribution stores content of this type as a manifest (and not as a blob)."""
    return media_type in MANIFESTS


def is_unclassified_blob(media_type: str) -> bool:
    """Tell whether the media type of an event only says "some blob".

    Distribution labels every blob ``application/octet-stream`` in its events, whatever the layer's real type
    (measured on 2.8.2 and 3.1.1); the real type is in the manifest that refers to the blob.
    """
    return media_type == OCTET_STREAM


def is_image_config(media_type: str) -> bool:
    """Tell whether a config of this media type is an image configuration, with created, platform, labels."""
    return media_type in _IMAGE_CONFIGS

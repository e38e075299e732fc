"""Manifests and indexes: bytes in, one frozen value out.

OCI image spec 1.1 "manifest.md" and "image-index.md"; Docker image manifest v2 schema 2; Docker schema 1 is
recognised but not taken apart (2.x still serves it, nobody can push it to 3.x).

The registry's media type decides what the bytes are. A document that claims to be something else, or that
could be read as both manifest and index, is refused (CVE-2021-41190: two readers would see two contents).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from indexer.oci import media_types
from indexer.oci.descriptor import Descriptor, read_descriptor
from indexer.oci.digest import Digest
from indexer.oci.document import decode_object, read_list, read_text, read_text_map


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """What a manifest or index says.

    - ``artifact_type``: the manifest's ``artifactType``; where that is empty the config's media type, unless
      the config is an image's (distribution spec 1.1, "Listing Referrers", with the exception that an image
      is not called an artifact); "" for plain images and indexes.
    - ``config`` and ``layers``: manifests only. ``children``: indexes only.
    - ``subject``: the digest of the manifest this one is attached to (image spec 1.1, "subject").
    """

    media_type: str
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_manifest(content: bytes, media_type: str) -> ParsedManifest:
    """Parse ``content``, which the registry serves as ``media_type``; raise ``ValueError`` with the reason.

    Unknown fields are ignored. ``media_type`` may carry parameters.
    """
    media_type = media_types.bare(media_type)
    if not media_types.is_manifest(media_type):
        raise ValueError(f"not a manifest media type: {media_type[:80]!r}")
    source = decode_object(content)
    if media_types.is_schema1(media_type):
        return ParsedManifest(media_type=media_type)
    _refuse_ambiguity(source, media_type)
    if media_types.is_index(media_type):
        return _read_index(source, media_type)
    return _read_image_manifest(source, media_type)


def _refuse_ambiguity(source: dict[str, Any], media_type: str) -> None:
    claimed = read_text(source, "mediaType", "document")
    if claimed and media_types.bare(claimed) != media_type:
        raise ValueError(
            f"document.mediaType: {claimed[:80]!r}, but the registry serves it as {media_type!r}"
        )
    misplaced = ("config", "layers") if media_types.is_index(media_type) else ("manifests",)
    for key in misplaced:
        if source.get(key) is not None:
            raise ValueError(f"document.{key}: does not belong in {media_type!r}")


def _read_index(source: dict[str, Any], media_type: str) -> ParsedManifest:
    return ParsedManifest(
        media_type=media_type,
        artifact_type=read_text(source, "artifactType", "document"),
        children=_read_descriptors(source, "manifests"),
        subject=_read_subject(source),
        annotations=read_text_map(source, "annotations", "document"),
    )


def _read_image_manifest(source: dict[str, Any], media_type: str) -> ParsedManifest:
    config = None
    if source.get("config") is not None:
        config = read_descriptor(source["config"], "config")
    return ParsedManifest(
        media_type=media_type,
        artifact_type=_artifact_type(read_text(source, "artifactType", "document"), config),
        config=config,
        layers=_read_descriptors(source, "layers"),
        subject=_read_subject(source),
        annotations=read_text_map(source, "annotations", "document"),
    )


def _artifact_type(stated: str, config: Descriptor | None) -> str:
    if stated:
        return stated
    if config is None or media_types.is_image_config(config.media_type):
        return ""
    return config.media_type


def _read_descriptors(source: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    values = read_list(source, key, "document")
    return tuple(read_descriptor(value, f"{key}[{position}]") for position, value in enumerate(values))


def _read_subject(source: dict[str, Any]) -> Digest | None:
    if source.get("subject") is None:
        return None
    return read_descriptor(source["subject"], "subject").digest

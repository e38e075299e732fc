"""Manifests and indexes: bytes in, one frozen value out.

OCI image spec 1.1 "manifest.md" and "image-index.md"; Docker image manifest v2 schema 2. Docker schema 1 is recognised
but not parsed (2.x still serves it, 3.x refuses a push of it).

The registry's media type decides what the bytes are. A document that claims to be something else, or that could be read
as both manifest and index, is refused (CVE-2021-41190: two readers would find two contents). Of any other document
every part is read by itself, as the registry would (``document``). The parts that cannot be read are named in
``unread``. A registry checks few members: a manifest whose ``subject`` it does not understand is an ordinary manifest,
there and here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from indexer.oci import media_types
from indexer.oci.descriptor import Descriptor, read_descriptor, read_parts_of_descriptor
from indexer.oci.digest import Digest
from indexer.oci.document import (
    Names,
    Unread,
    UnreadParts,
    as_struct,
    read_document,
    read_list,
    read_text,
    read_text_map,
)

_MEMBERS = Names("mediaType", "config", "layers", "manifests", "subject", "annotations", "artifactType")
_SIZED = re.compile(r"(?:config|layers|(?:layers\[\d+\]))(?:\.(?:digest|size))?\Z")


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """What a manifest or index says.

    - ``artifact_type``: the manifest's ``artifactType``; where that is empty the config's media type, unless
      the config is an image's (distribution spec 1.1, "Listing Referrers", with the exception that an image
      is not called an artifact); "" for plain images and indexes.
    - ``config`` and ``layers``: manifests only. ``children``: indexes only.
    - ``subject``: the digest of the manifest this one is attached to (image spec 1.1, "subject").
    - ``unread``: the parts that could not be read. They are absent.
    """

    media_type: str
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    unread: tuple[Unread, ...] = ()

    @property
    def is_sized(self) -> bool:
        """Whether the sizes of config and layers are all known."""
        return not any(_SIZED.match(each.part) for each in self.unread)


def parse_manifest(content: bytes, media_type: str) -> ParsedManifest:
    """Parse ``content``, which the registry serves as ``media_type``; raise ``ValueError`` with the reason.

    Unknown fields are ignored. ``media_type`` may carry parameters.
    """
    media_type = media_types.bare(media_type)
    if not media_types.is_manifest(media_type):
        raise ValueError(f"not a manifest media type: {media_type[:80]!r}")
    return read_document(content, lambda document: _read(document, media_type))


def _read(document: dict[str, Any], media_type: str) -> ParsedManifest:
    if media_types.is_schema1(media_type):
        return ParsedManifest(media_type=media_type)
    source = as_struct(document, "document", _MEMBERS)
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
    unread = UnreadParts()
    return ParsedManifest(
        media_type=media_type,
        artifact_type=_stated_type(source, unread),
        children=_read_descriptors(source, "manifests", unread),
        subject=_read_subject(source, unread),
        annotations=read_text_map(source.get("annotations"), "annotations", unread),
        unread=unread.as_tuple(),
    )


def _read_image_manifest(source: dict[str, Any], media_type: str) -> ParsedManifest:
    unread = UnreadParts()
    config = None
    if source.get("config") is not None:
        config = read_parts_of_descriptor(source["config"], "config", unread)
    return ParsedManifest(
        media_type=media_type,
        artifact_type=_artifact_type(_stated_type(source, unread), config),
        config=config,
        layers=_read_descriptors(source, "layers", unread),
        subject=_read_subject(source, unread),
        annotations=read_text_map(source.get("annotations"), "annotations", unread),
        unread=unread.as_tuple(),
    )


def _stated_type(source: dict[str, Any], unread: UnreadParts) -> str:
    return unread.attempt("artifactType", lambda: read_text(source, "artifactType", "document"), "")


def _artifact_type(stated: str, config: Descriptor | None) -> str:
    if stated:
        return stated
    if config is None or media_types.is_image_config(config.media_type):
        return ""
    return config.media_type


def _read_descriptors(source: dict[str, Any], key: str, unread: UnreadParts) -> tuple[Descriptor, ...]:
    nothing: list[Any] = []
    values = unread.attempt(key, lambda: read_list(source, key, "document"), nothing)
    found = (
        read_parts_of_descriptor(value, f"{key}[{position}]", unread) for position, value in enumerate(values)
    )
    return tuple(descriptor for descriptor in found if descriptor is not None)


def _read_subject(source: dict[str, Any], unread: UnreadParts) -> Digest | None:
    """Read the subject, which makes a manifest a referrer. A descriptor with any wrong part does not."""
    value = source.get("subject")
    if value is None:
        return None
    return unread.attempt("subject", lambda: read_descriptor(value, "subject").digest, None)

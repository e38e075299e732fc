"""Manifests and image configs as they lie in the storage: read, compared with their digests, parsed.

A storage has no media types beside the bytes. Which one the registry serves a manifest with follows from them
(registry/storage/manifeststore.go, alike in 2.8 and 3.x).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from indexer.inventory.dummies import is_dummy_content
from indexer.oci import media_types
from indexer.oci.config import ImageConfig, parse_image_config
from indexer.oci.digest import Digest, content_matches
from indexer.oci.document import Names, as_struct, read_document, read_text
from indexer.oci.manifest import ParsedManifest, parse_manifest
from indexer.store.manifest_contents import ReadManifest
from reconciler.observing.contents import MAX_CONFIG_BYTES, config_to_read, describe, unreadable
from reconciler.storage.layout import Blob, path_of
from reconciler.storage.objects import Storage

MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
"""A registry takes no larger one."""

TOGETHER: Final = 500
TOGETHER_BYTES: Final = 16 * 1024 * 1024
"""Manifests are worked on together up to this number and size: what others wrote must not fill the memory."""

_HEAD: Final = Names("schemaVersion", "mediaType", "manifests", "signatures")
_SCHEMA_2: Final = 2


@unique
class NotServed(StrEnum):
    """Why a manifest that has a link is not one that the registry serves."""

    MISSING = "missing"
    OTHER_BYTES = "other_bytes"
    NO_MANIFEST = "no_manifest"
    DUMMY = "dummy"
    """One that GitLab pushes to delete a tag."""


@dataclass(slots=True)
class Contents:
    """Manifests of the storage: those that were read, and why others were not."""

    read: list[ReadManifest] = field(default_factory=list)
    not_served: dict[Digest, NotServed] = field(default_factory=dict)
    size_bytes: int = 0


def read_contents(storage: Storage, digests: Iterable[Digest]) -> Iterator[Contents]:
    """Yield what manifests hold, a few hundred at a time. Blocks."""
    parsed: dict[Digest, tuple[ParsedManifest | None, str, int]] = {}
    contents = Contents()
    paths = {path_of(Blob(digest)): digest for digest in digests}
    for path, content in storage.read_many(paths, MAX_MANIFEST_BYTES):
        digest = paths[path]
        why = _refuse(content, digest)
        media_type = None if content is None or why is not None else media_type_of(content)
        if content is None or media_type is None:
            contents.not_served[digest] = why or NotServed.NO_MANIFEST
            continue
        parsed[digest] = (_parse(content, media_type), media_type, len(content))
        contents.size_bytes += len(content)
        if len(parsed) >= TOGETHER or contents.size_bytes >= TOGETHER_BYTES:
            yield _with_configs(storage, parsed, contents)
            parsed, contents = {}, Contents()
    yield _with_configs(storage, parsed, contents)


def media_type_of(content: bytes) -> str | None:
    """Return the media type that a registry serves a manifest with; None: it serves no such bytes."""
    try:
        return read_document(content, _media_type)
    except (ValueError, RecursionError):
        return None


def _media_type(document: dict[str, Any]) -> str | None:
    head = as_struct(document, "document", _HEAD)
    version = head.get("schemaVersion")
    if version == 1 and not isinstance(version, bool):
        return media_types.DOCKER_SCHEMA1_SIGNED
    if version != _SCHEMA_2:
        return None
    claimed = read_text(head, "mediaType", "document")
    if claimed:
        return claimed if claimed in media_types.MANIFEST_ACCEPT_TYPES else None
    return media_types.OCI_MANIFEST if head.get("manifests") is None else media_types.OCI_INDEX


def _refuse(content: bytes | None, digest: Digest) -> NotServed | None:
    if content is None:
        return NotServed.MISSING
    return None if content_matches(content, digest) else NotServed.OTHER_BYTES


def _parse(content: bytes, media_type: str) -> ParsedManifest | None:
    try:
        return parse_manifest(content, media_type)
    except (ValueError, RecursionError):
        return None


def _with_configs(
    storage: Storage, parsed: dict[Digest, tuple[ParsedManifest | None, str, int]], contents: Contents
) -> Contents:
    """Read the configs of images, and describe all manifests."""
    wanted = {}
    for manifest, _, _ in parsed.values():
        config = None if manifest is None else config_to_read(manifest)
        if config is not None and config.size <= MAX_CONFIG_BYTES:
            wanted[path_of(Blob(config.digest))] = config.digest
    configs: dict[Digest, tuple[ImageConfig | None, bytes]] = {}
    for path, content in storage.read_many(wanted, MAX_CONFIG_BYTES):
        digest = wanted[path]
        if content is not None and len(content) <= MAX_CONFIG_BYTES and content_matches(content, digest):
            configs[digest] = (_parse_config(content), content[: _DUMMY_BYTES + 1])
    for digest, (manifest, media_type, size) in parsed.items():
        if manifest is None:
            contents.read.append(unreadable(media_type, digest=digest, size_bytes=size))
            continue
        descriptor = config_to_read(manifest)
        nothing: tuple[ImageConfig | None, bytes] = (None, b"")
        image, start = nothing if descriptor is None else configs.get(descriptor.digest, nothing)
        if is_dummy_content(manifest, start):
            contents.not_served[digest] = NotServed.DUMMY
            continue
        contents.read.append(describe(manifest, image, digest=digest, size_bytes=size))
    return contents


_DUMMY_BYTES: Final = 64


def _parse_config(content: bytes) -> ImageConfig | None:
    try:
        return parse_image_config(content)
    except (ValueError, RecursionError):
        return None

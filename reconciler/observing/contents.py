"""What the store keeps of a manifest and its image config. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from indexer.oci.config import ImageConfig, pick_created
from indexer.oci.descriptor import Descriptor
from indexer.oci.digest import Digest
from indexer.oci.kinds import Kind, kind_of
from indexer.oci.manifest import ParsedManifest
from indexer.oci.media_types import bare, is_image_config, is_manifest
from indexer.store.manifest_contents import ReadBlob, ReadChild, ReadManifest
from indexer.store.text import LONGEST, storable, storable_map

MAX_CONFIG_BYTES = 8 * 1024 * 1024
"""A larger "image config" is not read: an image's is a few kB. The bytes received are counted, too, since no registry
compares a descriptor's size with the blob."""

CONFIG_PART: Final = "config.blob"
"""Names the image config among the parts that could not be read; ``config`` is its descriptor."""

MOST_PARTS = 50
AND_MORE: Final = "and more"


def config_to_read(manifest: ParsedManifest) -> Descriptor | None:
    """Return the config that must be read, too: an image's, for its creation time, platform and labels."""
    config = manifest.config
    return config if config is not None and is_image_config(config.media_type) else None


def describe(
    manifest: ParsedManifest, config: ImageConfig | None, *, digest: Digest, size_bytes: int
) -> ReadManifest:
    """Return what is stored of a manifest; ``config`` is None where it could not be read or is no image's.

    Text that a client wrote is changed so that PostgreSQL can store it.
    """
    return ReadManifest(
        digest=digest,
        size_bytes=size_bytes,
        media_type=storable(manifest.media_type)[0],
        artifact_type=storable(manifest.artifact_type)[0],
        kind=kind_of(manifest),
        image_created=pick_created(config, manifest.annotations),
        config=None if manifest.config is None else _blob(manifest.config),
        layers=[_blob(layer) for layer in manifest.layers],
        children=[_child(child) for child in manifest.children],
        subject=manifest.subject,
        platforms=_platforms(manifest, config),
        os_version=_os_version(manifest, config),
        annotations=storable_map(manifest.annotations),
        labels=storable_map(config.labels) if config is not None else {},
        unread=_first(dict.fromkeys([*_unread(manifest, config), *_cut(manifest, config)])),
        sized=manifest.is_sized,
    )


def unreadable(media_type: str, *, digest: Digest, size_bytes: int) -> ReadManifest:
    """Return what is stored of a manifest that cannot be parsed: its media type and size."""
    return ReadManifest(
        digest=digest,
        size_bytes=size_bytes,
        media_type=storable(media_type)[0],
        kind=Kind.UNKNOWN,
        readable=False,
    )


def is_read_as_manifest(child: ReadChild) -> bool:
    """Return whether a child of an index can be read as a manifest.

    Build caches are indexes of layers: a registry answers 404 or 500 if a layer is requested as a manifest.
    """
    return not child.media_type or is_manifest(bare(child.media_type))


def _unread(manifest: ParsedManifest, config: ImageConfig | None) -> Iterable[str]:
    """Return the names of parts that could not be parsed, or read."""
    yield from (each.part for each in manifest.unread)
    if config is not None:
        yield from (f"{CONFIG_PART}.{each.part}" for each in config.unread)
    elif config_to_read(manifest) is not None:
        yield CONFIG_PART


def _cut(manifest: ParsedManifest, config: ImageConfig | None) -> Iterable[str]:
    """Return the names of parts too long to be kept whole: RFC 6838 gives a media type 255 characters."""
    if len(manifest.artifact_type) > LONGEST:
        yield "artifactType"
    for key, descriptors in (
        ("config", [manifest.config] if manifest.config is not None else []),
        ("layers", manifest.layers),
        ("manifests", manifest.children),
    ):
        for position, descriptor in enumerate(descriptors):
            where = key if key == "config" else f"{key}[{position}]"
            if len(descriptor.media_type) > LONGEST:
                yield f"{where}.mediaType"
            if descriptor.platform is not None and descriptor.platform.longest > LONGEST:
                yield f"{where}.platform"
    if config is not None and config.platform is not None and config.platform.longest > LONGEST:
        yield f"{CONFIG_PART}.platform"


def _first(parts: Iterable[str]) -> Sequence[str]:
    """Return the parts, at most ``MOST_PARTS`` of them."""
    found = list(parts)
    return found if len(found) <= MOST_PARTS else [*found[:MOST_PARTS], AND_MORE]


def _blob(descriptor: Descriptor) -> ReadBlob:
    return ReadBlob(
        digest=descriptor.digest, size_bytes=descriptor.size, media_type=storable(descriptor.media_type)[0]
    )


def _child(descriptor: Descriptor) -> ReadChild:
    platform = descriptor.platform
    known = platform is not None and not platform.is_unknown
    return ReadChild(
        digest=descriptor.digest,
        size_bytes=descriptor.size,
        media_type=storable(descriptor.media_type)[0],
        platform=storable(platform.text)[0] if platform is not None and known else "",
        os_version=storable(platform.os_version)[0] if platform is not None and known else "",
    )


def _os_version(manifest: ParsedManifest, config: ImageConfig | None) -> str:
    if manifest.children or config is None or config.platform is None or config.platform.is_unknown:
        return ""
    return storable(config.platform.os_version)[0]


def _platforms(manifest: ParsedManifest, config: ImageConfig | None) -> list[str]:
    if manifest.children:
        return sorted({child.platform for child in map(_child, manifest.children) if child.platform})
    if config is None or config.platform is None or config.platform.is_unknown:
        return []
    return [storable(config.platform.text)[0]]

"""What a manifest's bytes, and its image config's, say: as the store keeps it. Pure."""

from __future__ import annotations

from indexer.oci.config import ImageConfig, pick_created
from indexer.oci.descriptor import Descriptor
from indexer.oci.digest import Digest
from indexer.oci.kinds import Kind, kind_of
from indexer.oci.manifest import ParsedManifest
from indexer.oci.media_types import is_image_config
from indexer.store.contents import ReadBlob, ReadChild, ReadManifest
from indexer.store.text import storable, storable_map

MAX_CONFIG_BYTES = 8 * 1024 * 1024
"""A larger "image config" is not read: an image's is a few kB."""


def config_to_read(manifest: ParsedManifest) -> Descriptor | None:
    """Return the config that must be read too: an image's, for its creation time, platform and labels."""
    config = manifest.config
    if config is None or not is_image_config(config.media_type):
        return None
    return config if 0 < config.size <= MAX_CONFIG_BYTES else None


def describe(
    manifest: ParsedManifest, config: ImageConfig | None, *, digest: Digest, size_bytes: int
) -> ReadManifest:
    """Put together what was read. Every text a client wrote is made storable."""
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
        annotations=storable_map(manifest.annotations),
        labels=storable_map(config.labels) if config is not None else {},
    )


def unreadable(media_type: str, *, digest: Digest, size_bytes: int) -> ReadManifest:
    """Describe a manifest that is there but makes no sense: known by its media type and size alone."""
    return ReadManifest(
        digest=digest, size_bytes=size_bytes, media_type=storable(media_type)[0], kind=Kind.UNKNOWN
    )


def _blob(descriptor: Descriptor) -> ReadBlob:
    return ReadBlob(
        digest=descriptor.digest, size_bytes=descriptor.size, media_type=storable(descriptor.media_type)[0]
    )


def _child(descriptor: Descriptor) -> ReadChild:
    platform = descriptor.platform
    return ReadChild(
        digest=descriptor.digest,
        size_bytes=descriptor.size,
        media_type=storable(descriptor.media_type)[0],
        platform="" if platform is None or platform.is_unknown else storable(platform.text)[0],
    )


def _platforms(manifest: ParsedManifest, config: ImageConfig | None) -> list[str]:
    if manifest.children:
        return sorted({child.platform for child in map(_child, manifest.children) if child.platform})
    if config is None or config.platform is None or config.platform.is_unknown:
        return []
    return [storable(config.platform.text)[0]]

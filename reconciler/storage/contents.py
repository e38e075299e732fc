"""What a manifest's bytes refer to, as the registry reads them from its storage. Pure.

A registry that serves a manifest by HTTP says its media type. In the storage there is none beside the bytes, so it is
taken from the document, as Distribution does (registry/storage/manifeststore.go, 2.8 and 3.x): ``schemaVersion`` 1 is
schema 1; else ``mediaType`` says it; without one, a document with ``manifests`` is an index, and any other a manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from indexer.oci import media_types
from indexer.oci.digest import Digest, is_digest
from indexer.oci.manifest import parse_manifest

Role: TypeAlias = Literal["config", "layer", "child"]


@dataclass(frozen=True, slots=True)
class Needed:
    """What a manifest needs to be pulled. ``size_bytes``: as the manifest states it; None: it does not (schema 1)."""

    digest: Digest
    role: Role
    size_bytes: int | None
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a manifest refers to. ``elsewhere``: layers with ``urls``, which clients get from there."""

    media_type: str
    needed: tuple[Needed, ...] = ()
    elsewhere: frozenset[Digest] = frozenset()
    subject: Digest | None = None

    @property
    def is_index(self) -> bool:
        """Whether it refers to other manifests, and to no blobs."""
        return media_types.is_index(self.media_type)


@dataclass(frozen=True, slots=True)
class Illegible:
    """Why a manifest cannot be read. ``is_none``: the registry cannot serve it either: it is no manifest at all."""

    reason: str
    is_none: bool


class NoManifestError(ValueError):
    """The bytes are no manifest."""


def read_manifest(content: bytes) -> Contents | Illegible:
    """Return what the bytes of a manifest refer to, or why that cannot be read."""
    try:
        return read_contents(content)
    except NoManifestError as error:
        return Illegible(str(error), is_none=True)
    except ValueError as error:
        return Illegible(str(error), is_none=False)


def read_contents(content: bytes) -> Contents:
    """Return what the bytes of a manifest refer to; raise ``NoManifestError``, or ``ValueError`` for a part."""
    document = _document(content)
    media_type = _media_type_of(document)
    if media_types.is_schema1(media_type):
        return Contents(media_type=media_type, needed=_of_schema1(document))
    parsed = parse_manifest(content, media_type)
    unread = [each for each in parsed.unread if each.part.startswith(("config", "layers", "manifests"))]
    if unread:
        raise ValueError(unread[0].reason)
    needed: dict[Digest, Needed] = {}
    if parsed.config is not None:
        needed[parsed.config.digest] = Needed(parsed.config.digest, "config", parsed.config.size)
    for layer in parsed.layers:
        needed.setdefault(layer.digest, Needed(layer.digest, "layer", layer.size))
    for child in parsed.children:
        platform = "" if child.platform is None else f"{child.platform.os}/{child.platform.architecture}"
        needed.setdefault(child.digest, Needed(child.digest, "child", child.size, platform))
    return Contents(
        media_type=media_type,
        needed=tuple(needed.values()),
        elsewhere=_with_urls(document),
        subject=parsed.subject,
    )


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NoManifestError(f"it is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise NoManifestError("it is no JSON object")
    return document


def _media_type_of(document: Mapping[str, Any]) -> str:
    version = document.get("schemaVersion")
    if version == 1:
        return media_types.DOCKER_SCHEMA1_SIGNED
    if version != SCHEMA_VERSION:
        raise NoManifestError(f"its schemaVersion is {str(version)[:20]}: it is no manifest")
    stated = document.get("mediaType")
    if isinstance(stated, str) and stated:
        bare = media_types.bare(stated)
        if not media_types.is_manifest(bare):
            raise NoManifestError(f"its mediaType is {stated[:80]!r}: it is no manifest")
        return bare
    return media_types.OCI_INDEX if document.get("manifests") is not None else media_types.OCI_MANIFEST


def _of_schema1(document: Mapping[str, Any]) -> tuple[Needed, ...]:
    layers = document.get("fsLayers")
    found: dict[Digest, Needed] = {}
    for layer in layers if isinstance(layers, list) else ():
        digest = layer.get("blobSum") if isinstance(layer, dict) else None
        if isinstance(digest, str) and is_digest(digest):
            found[Digest(digest)] = Needed(Digest(digest), "layer", None)
    return tuple(found.values())


def _with_urls(document: Mapping[str, Any]) -> frozenset[Digest]:
    """Return the layers that a client gets elsewhere: the registry stores them only where somebody pushed them."""
    layers = document.get("layers")
    return frozenset(
        Digest(layer["digest"])
        for layer in (layers if isinstance(layers, list) else ())
        if isinstance(layer, dict) and layer.get("urls") and isinstance(layer.get("digest"), str)
    )


SCHEMA_VERSION: Final = 2

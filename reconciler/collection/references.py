"""What the registry's collector reads in a manifest: the digests that it refers to. Pure.

It decodes a manifest into its own structures (Go's ``encoding/json``), and a member of the wrong type ends the whole
collection. So every member that is in one of these structures is checked here, and no other. ``subject`` is in none of
them: the collector does not know referrers.

Source: registry/storage/manifeststore.go and manifest/*/ of 2.8.2, 3.0.0 and 3.1.1.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from indexer.oci import media_types
from indexer.oci.digest import Digest, is_digest
from indexer.oci.document import Names, as_object, as_struct, read_document

LARGEST: Final = 4 * 1024 * 1024
"""Bytes of a manifest. A larger blob under a revision link ends the collection (registry/storage/io.go)."""


class Release(Enum):
    """Releases of Distribution whose collectors differ. 3.0 and 3.1 are alike."""

    V2 = "2.8"
    V3 = "3"


@dataclass(frozen=True, slots=True)
class References:
    """What a manifest refers to.

    - ``digests``: config and layers, or children, in the collector's order. Texts that are no digest are kept, and ""
      stands for a missing one: the collector marks them, too.
    - ``is_index``: the digests are children.
    - ``subject``: what it is attached to; the collector does not follow it.
    """

    digests: tuple[str, ...]
    is_index: bool = False
    subject: Digest | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Content that the collector cannot read, so that it fails there. ``is_schema1``: it was readable to 2.8."""

    reason: str
    is_schema1: bool = False


Content: TypeAlias = References | Unreadable

_VERSIONED = Names("schemaVersion", "mediaType")
_MANIFEST = Names("config", "layers")
_OCI_MANIFEST = Names("config", "layers", "annotations")
_LIST = Names("manifests")
_OCI_INDEX = Names("manifests", "annotations")
_SCHEMA1 = Names("name", "tag", "architecture", "fsLayers", "history")
_FS_LAYER = Names("blobSum")
_HISTORY = Names("v1Compatibility")
_DESCRIPTOR = Names("mediaType", "digest", "size", "urls", "annotations", "platform", "data", "artifactType")
_PLATFORM = Names("architecture", "os", "os.version", "os.features", "variant")
_SUBJECT = Names("subject")
_POINTER = Names("digest")

_MOST = 2**63 - 1
_LEAST = -(2**63)


def read_references(content: bytes, release: Release) -> Content:
    """Return what a collector of ``release`` reads in a blob that a revision link points to."""
    if len(content) > LARGEST:
        return Unreadable(f"it is larger than {LARGEST} bytes")
    try:
        return read_document(content, lambda document: _read(document, release))
    except ValueError as error:
        return Unreadable(str(error))


def _read(document: dict[str, Any], release: Release) -> Content:
    head = as_struct(document, "document", _VERSIONED)
    version = _whole_number(head.get("schemaVersion"), "document.schemaVersion")
    media_type = _text(head.get("mediaType"), "document.mediaType")
    if version == 1:
        if release is Release.V3:
            return Unreadable("it is a Docker schema 1 manifest, which 3.x does not read", is_schema1=True)
        return References(_schema1(document))
    if version != 2:  # noqa: PLR2004 - the only other one
        return Unreadable(f"its schemaVersion is {version}")
    return _of_type(media_type, document, release)


def _of_type(media_type: str, document: dict[str, Any], release: Release) -> Content:
    if not media_type:
        return _untyped(document, release)
    if media_type in {media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST}:
        names = _MANIFEST if media_type == media_types.DOCKER_MANIFEST else _OCI_MANIFEST
        return References(_layered(document, names, release), subject=_subject(document))
    if media_type in {media_types.DOCKER_LIST, media_types.OCI_INDEX}:
        names = _LIST if media_type == media_types.DOCKER_LIST else _index_names(release)
        children = _children(document, names, release) or ()
        return References(children, is_index=True, subject=_subject(document))
    return Unreadable(f"its mediaType is {media_type[:80]!r}")


def _untyped(document: dict[str, Any], release: Release) -> References:
    """A manifest without ``mediaType`` is an index if it has ``manifests``; read as one, it must be readable."""
    subject = _subject(document)
    children = _children(document, _index_names(release), release)
    if children is not None:
        return References(children, is_index=True, subject=subject)
    return References(_layered(document, _OCI_MANIFEST, release), subject=subject)


def _index_names(release: Release) -> Names:
    """2.8 reads an OCI index as a Docker list."""
    return _LIST if release is Release.V2 else _OCI_INDEX


def _layered(document: dict[str, Any], names: Names, release: Release) -> tuple[str, ...]:
    source = as_struct(document, "document", names)
    _text_map(source.get("annotations"), "document.annotations")
    config = _descriptor(source.get("config"), "config", release)
    layers = _list(source.get("layers"), "layers")
    return (config, *(_descriptor(each, f"layers[{at}]", release) for at, each in enumerate(layers or ())))


def _children(document: dict[str, Any], names: Names, release: Release) -> tuple[str, ...] | None:
    source = as_struct(document, "document", names)
    _text_map(source.get("annotations"), "document.annotations")
    children = _list(source.get("manifests"), "manifests")
    if children is None:
        return None
    return tuple(_descriptor(each, f"manifests[{at}]", release) for at, each in enumerate(children))


def _schema1(document: dict[str, Any]) -> tuple[str, ...]:
    source = as_struct(document, "document", _SCHEMA1)
    for name in ("name", "tag", "architecture"):
        _text(source.get(name), name)
    for at, each in enumerate(_list(source.get("history"), "history") or ()):
        if each is not None:
            where = f"history[{at}]"
            _text(as_struct(each, where, _HISTORY).get("v1Compatibility"), where)
    found: list[str] = []
    for at, each in enumerate(_list(source.get("fsLayers"), "fsLayers") or ()):
        where = f"fsLayers[{at}]"
        found.append("" if each is None else _text(as_struct(each, where, _FS_LAYER).get("blobSum"), where))
    return tuple(found)


def _descriptor(value: Any, where: str, release: Release) -> str:
    """Return the digest of a descriptor, "" where there is none."""
    if value is None:
        return ""
    source = as_struct(value, where, _DESCRIPTOR)
    _text(source.get("mediaType"), f"{where}.mediaType")
    _whole_number(source.get("size"), f"{where}.size")
    for at, each in enumerate(_list(source.get("urls"), f"{where}.urls") or ()):
        _text(each, f"{where}.urls[{at}]")
    _text_map(source.get("annotations"), f"{where}.annotations")
    _platform(source.get("platform"), f"{where}.platform")
    if release is Release.V3:
        _text(source.get("artifactType"), f"{where}.artifactType")
        _base64(source.get("data"), f"{where}.data")
    return _text(source.get("digest"), f"{where}.digest")


def _platform(value: Any, where: str) -> None:
    if value is None:
        return
    source = as_struct(value, where, _PLATFORM)
    for name in ("architecture", "os", "os.version", "variant"):
        _text(source.get(name), f"{where}.{name}")
    for at, each in enumerate(_list(source.get("os.features"), f"{where}.os.features") or ()):
        _text(each, f"{where}.os.features[{at}]")


def _subject(document: dict[str, Any]) -> Digest | None:
    """Return the digest of the subject; None if there is none that can be read."""
    value = as_struct(document, "document", _SUBJECT).get("subject")
    if not isinstance(value, dict):
        return None
    digest = as_struct(value, "subject", _POINTER).get("digest")
    return Digest(digest) if isinstance(digest, str) and is_digest(digest) else None


# --- as Go decodes: null is the same as absent ------------------------------------------------------------


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: not a text")
    return value


def _whole_number(value: Any, where: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not _LEAST <= value <= _MOST:
        raise ValueError(f"{where}: not a whole number of 64 bits")
    return value


def _list(value: Any, where: str) -> list[Any] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"{where}: not a list")
    return value


def _text_map(value: Any, where: str) -> None:
    if value is None:
        return
    for name, each in as_object(value, where).items():
        _text(each, f"{where}.{name[:80]}")


def _base64(value: Any, where: str) -> None:
    """Go takes line breaks in it for nothing."""
    text = _text(value, where).replace("\r", "").replace("\n", "")
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{where}: not base64") from error

"""Descriptors: typed pointers to content (OCI image spec 1.1, "descriptor.md")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from indexer.oci.digest import Digest, parse_digest
from indexer.oci.document import Names, UnreadParts, as_struct, read_size, read_text, read_text_map
from indexer.oci.platform import Platform, make_platform

MAX_SIZE_BYTES: Final = 2**63 - 1
"""The specification's ``size`` is an int64."""

_DESCRIPTOR = Names("mediaType", "digest", "size", "artifactType", "platform", "annotations")
PLATFORM: Final = Names("os", "architecture", "variant", "os.version")
"""The members of a platform, on a child of an index as in an image config."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Points at content: ``size`` in bytes, texts "" where absent, ``platform`` on children of an index."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str = ""
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


def read_descriptor(value: Any, where: str) -> Descriptor:
    """Read a descriptor from decoded JSON; raise ``ValueError`` with the first part that is wrong."""
    unread = UnreadParts()
    descriptor = read_parts_of_descriptor(value, where, unread)
    for each in unread.as_tuple():
        raise ValueError(each.reason)
    if descriptor is None:  # pragma: no cover - then something is unread
        raise ValueError(f"{where}: no descriptor")
    return descriptor


def read_parts_of_descriptor(value: Any, where: str, unread: UnreadParts) -> Descriptor | None:
    """Read what can be read of a descriptor; None without a digest, which nothing can replace.

    ``urls`` and embedded ``data`` are left out: nothing is fetched from addresses that a client may choose.
    """
    source = unread.attempt(where, lambda: as_struct(value, where, _DESCRIPTOR), None)
    digest = None
    if source is not None:
        digest = unread.attempt(f"{where}.digest", lambda: _read_digest(source, where), None)
    if source is None or digest is None:
        return None
    return Descriptor(
        media_type=unread.attempt(f"{where}.mediaType", lambda: read_text(source, "mediaType", where), ""),
        digest=digest,
        size=unread.attempt(
            f"{where}.size", lambda: read_size(source, "size", where, maximum=MAX_SIZE_BYTES), 0
        ),
        artifact_type=unread.attempt(
            f"{where}.artifactType", lambda: read_text(source, "artifactType", where), ""
        ),
        platform=unread.attempt(
            f"{where}.platform", lambda: _read_platform(source.get("platform"), f"{where}.platform"), None
        ),
        annotations=read_text_map(source.get("annotations"), f"{where}.annotations", unread),
    )


def _read_digest(source: dict[str, Any], where: str) -> Digest:
    try:
        return parse_digest(read_text(source, "digest", where))
    except ValueError as error:
        raise ValueError(f"{where}.digest: {error}") from error


def _read_platform(value: Any, where: str) -> Platform | None:
    """Read a platform object of an index child; None where absent or empty."""
    return None if value is None else platform_of(as_struct(value, where, PLATFORM), where)


def platform_of(source: dict[str, Any], where: str) -> Platform | None:
    """Read a platform from members named as in ``PLATFORM``; None where empty."""
    return make_platform(
        os=read_text(source, "os", where),
        architecture=read_text(source, "architecture", where),
        variant=read_text(source, "variant", where),
        os_version=read_text(source, "os.version", where),
    )

"""Descriptors: typed pointers to content (OCI image spec 1.1, "descriptor.md")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from indexer.oci.digest import Digest, parse_digest
from indexer.oci.document import as_object, read_size, read_text, read_text_map
from indexer.oci.platform import Platform, make_platform

MAX_SIZE_BYTES: Final = 2**63 - 1
"""The specification's ``size`` is an int64."""


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
    """Read a descriptor from decoded JSON; raise ``ValueError`` naming the place that is wrong.

    ``urls`` and embedded ``data`` are left out: nothing here fetches from where a stranger says.
    """
    source = as_object(value, where)
    return Descriptor(
        media_type=read_text(source, "mediaType", where),
        digest=read_digest(source, where),
        size=read_size(source, "size", where, maximum=MAX_SIZE_BYTES),
        artifact_type=read_text(source, "artifactType", where),
        platform=read_platform(source.get("platform"), f"{where}.platform"),
        annotations=read_text_map(source, "annotations", where),
    )


def read_digest(source: dict[str, Any], where: str) -> Digest:
    """Return the digest of a descriptor; it is the one field that nothing can stand in for."""
    try:
        return parse_digest(read_text(source, "digest", where))
    except ValueError as error:
        raise ValueError(f"{where}.digest: {error}") from error


def read_platform(value: Any, where: str) -> Platform | None:
    """Read a platform object of an index child or an image config; None where absent or empty."""
    if value is None:
        return None
    source = as_object(value, where)
    return make_platform(
        os=read_text(source, "os", where),
        architecture=read_text(source, "architecture", where),
        variant=read_text(source, "variant", where),
        os_version=read_text(source, "os.version", where),
    )

"""A checkpoint as an OCI artifact (image spec 1.1, "Guidelines for Artifact Usage"). Pure.

The same checkpoint always makes the same bytes, so a digest found in the registry is recognised by making it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from indexer.common.rfc3339 import format_time
from indexer.oci import media_types
from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import TagName, parse_tag_name

ARTIFACT_TYPE: Final = "application/vnd.registry-indexer.audit.checkpoint.v1"
NOTE_TYPE: Final = "text/plain"
FILE: Final = "checkpoint"
"""The name of the file that clients pull."""

SIZE: Final = "registry-indexer.audit.checkpoint.size"
"""The annotation with the number of entries of the log, in decimal digits."""

EMPTY: Final = b"{}"
LATEST: Final = parse_tag_name("latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What is pushed: the manifest and its blobs. ``size``: entries of the log that the checkpoint covers."""

    size: int
    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return digest_of(self.manifest)

    @property
    def tag(self) -> TagName:
        """The tag of this checkpoint: the number of entries."""
        return parse_tag_name(str(self.size))


def artifact_of(*, size: int, signed_at: datetime, note: str) -> Artifact:
    """Return the artifact of a checkpoint of ``size`` entries; ``note``: the signed note (C2SP)."""
    content = note.encode()
    layer = {
        "mediaType": NOTE_TYPE,
        "digest": digest_of(content),
        "size": len(content),
        "annotations": {"org.opencontainers.image.title": FILE},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(EMPTY), "size": len(EMPTY)},
        "layers": [layer],
        "annotations": {
            "org.opencontainers.image.created": format_time(signed_at),
            SIZE: str(size),
        },
    }
    return Artifact(size=size, manifest=orjson.dumps(manifest), blobs=(EMPTY, content))


def size_of(manifest: bytes) -> int | None:
    """Return the number of entries that a manifest states; None where it is no checkpoint's."""
    try:
        value = orjson.loads(manifest)
        if value["artifactType"] != ARTIFACT_TYPE:
            return None
        text = value["annotations"][SIZE]
        return int(text) if len(text) < len(str(2**63)) else None
    except (ValueError, KeyError, TypeError):
        return None

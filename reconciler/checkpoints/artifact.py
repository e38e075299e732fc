"""A checkpoint as an OCI artifact (image spec 1.1, "Guidelines for Artifact Usage"). Pure.

The same checkpoint always makes the same bytes: so a digest that stands in the registry is recognised as ours by making
it again.
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
"""What clients call the file they pull."""

SIZE: Final = "registry-indexer.audit.checkpoint.size"
"""The annotation that says how many entries the checkpoint counts, in decimal digits."""

EMPTY: Final = b"{}"
LATEST: Final = parse_tag_name("latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What is pushed: the manifest, and the blobs that it refers to."""

    size: int
    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def digest(self) -> Digest:
        """The manifest's."""
        return digest_of(self.manifest)

    @property
    def tag(self) -> TagName:
        """The tag of its own: how many entries it counts."""
        return parse_tag_name(str(self.size))


def artifact_of(*, size: int, signed_at: datetime, note: str) -> Artifact:
    """Return the artifact of a checkpoint: of so many entries, when it was signed, and the signed note."""
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
    """Return how many entries a manifest says it counts; None where it is no checkpoint's."""
    try:
        value = orjson.loads(manifest)
        if value["artifactType"] != ARTIFACT_TYPE:
            return None
        text = value["annotations"][SIZE]
        return int(text) if len(text) < len(str(2**63)) else None
    except (ValueError, KeyError, TypeError):
        return None

"""Image configurations (OCI image spec 1.1, "config.md"; Docker image spec v1.2).

A registry stores a config without looking into it, so any part of it may be wrong. Each part is read by
itself and counts as absent when it is wrong; only bytes that are no JSON object raise ``ValueError``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from indexer.oci.descriptor import read_platform
from indexer.oci.document import decode_object
from indexer.oci.platform import Platform

CREATED_ANNOTATION: Final = "org.opencontainers.image.created"

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_GO_ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself: ``created`` in UTC to the microsecond, ``platform``, ``labels``."""

    created: datetime | None = None
    platform: Platform | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_image_config(content: bytes) -> ImageConfig:
    """Parse an image config; raise ``ValueError`` if it is not a JSON object."""
    source = decode_object(content)
    return ImageConfig(
        created=parse_created(source.get("created")),
        platform=_platform(source),
        labels=_labels(source),
    )


def parse_created(value: Any) -> datetime | None:
    """Read an RFC 3339 time as UTC; None for anything else.

    Nanoseconds are cut to microseconds. Go's zero time (0001-01-01T00:00:00Z) is how builders written in Go
    say "not set", so it is None; other early years (reproducible builds' 1970 and 1980) are kept.
    """
    if not isinstance(value, str) or not _RFC3339.match(value):
        return None
    try:
        created = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if created == _GO_ZERO_TIME else created


def pick_created(config: ImageConfig | None, annotations: Mapping[str, str]) -> datetime | None:
    """Choose when an image was made: its config's ``created``, else the manifest's annotation.

    The config comes first because every builder writes it; the annotation (image spec 1.1,
    "annotations.md") is all that artifacts without an image config have.
    """
    if config is not None and config.created is not None:
        return config.created
    return parse_created(annotations.get(CREATED_ANNOTATION))


def _platform(source: dict[str, Any]) -> Platform | None:
    try:
        return read_platform(source, "config")
    except ValueError:
        return None


def _labels(source: dict[str, Any]) -> dict[str, str]:
    inner = source.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {name: value for name, value in labels.items() if isinstance(value, str)}

"""Image configurations (OCI image spec 1.1, "config.md"; Docker image spec v1.2).

A registry stores a config without parsing it, so any part of it may be wrong. Each part is read by itself
(``document``), and is absent if it is wrong. Only bytes that are not a JSON object raise ``ValueError``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from indexer.common.rfc3339 import clamp
from indexer.oci.descriptor import platform_of
from indexer.oci.document import Names, Unread, UnreadParts, as_struct, read_document, read_text_map
from indexer.oci.platform import Platform

CREATED_ANNOTATION: Final = "org.opencontainers.image.created"

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_GO_ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)
_MEMBERS = Names("created", "os", "architecture", "variant", "os.version", "config")
_RUNTIME = Names("Labels")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image config says: ``created`` in UTC to the microsecond, ``platform``, ``labels``.

    ``unread``: which of the three could not be read, or not completely.
    """

    created: datetime | None = None
    platform: Platform | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    unread: tuple[Unread, ...] = ()


def parse_image_config(content: bytes) -> ImageConfig:
    """Parse an image config; raise ``ValueError`` if it is not a JSON object."""
    return read_document(content, _read)


def _read(document: dict[str, Any]) -> ImageConfig:
    source = as_struct(document, "document", _MEMBERS)
    unread = UnreadParts()
    return ImageConfig(
        created=_read_created(source.get("created"), unread),
        platform=unread.attempt("platform", lambda: platform_of(source, "document"), None),
        labels=_read_labels(source.get("config"), unread),
        unread=unread.as_tuple(),
    )


def parse_created(value: Any) -> datetime | None:
    """Read an RFC 3339 time as UTC; None for anything else.

    Nanoseconds are cut to microseconds. Go's zero time (0001-01-01T00:00:00Z) means "not set" in builders written in
    Go, so it is None. Other early years (reproducible builds' 1970 and 1980) are kept. The last microsecond of the year
    9999 becomes the one before (``rfc3339``).
    """
    at = _read_time(value)
    return None if at is None or at == _GO_ZERO_TIME else clamp(at)


def _read_time(value: Any) -> datetime | None:
    if not isinstance(value, str) or not _RFC3339.match(value):
        return None
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def pick_created(config: ImageConfig | None, annotations: Mapping[str, str]) -> datetime | None:
    """Return when an image was created: its config's ``created``, else the manifest's annotation.

    The config comes first because every builder writes it; the annotation (image spec 1.1,
    "annotations.md") is all that artifacts without an image config have.
    """
    if config is not None and config.created is not None:
        return config.created
    return parse_created(annotations.get(CREATED_ANNOTATION))


def _read_created(value: Any, unread: UnreadParts) -> datetime | None:
    created = parse_created(value)
    if created is None and value is not None and value != "" and not _is_not_set(value):
        unread.add("created", f"document.created: not an RFC 3339 time: {str(value)[:60]!r}")
    return created


def _is_not_set(value: Any) -> bool:
    return _read_time(value) == _GO_ZERO_TIME


def _read_labels(config: Any, unread: UnreadParts) -> dict[str, str]:
    if config is None:
        return {}
    nothing: dict[str, Any] = {}
    inner = unread.attempt("labels", lambda: as_struct(config, "document.config", _RUNTIME), nothing)
    return read_text_map(inner.get("Labels"), "labels", unread)

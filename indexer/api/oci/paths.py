"""Endpoint and parameters of a path below ``/v2/``. Pure.

Read from the right, as registries do, since a repository's name may contain ``tags`` or ``referrers``. Names need no
escaping; what is escaped nevertheless is unescaped once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

ROOT = "/v2/"


class OciEndpoint(Enum):
    """The endpoints; the value is the label in metrics."""

    REFERRERS = "/v2/{name}/referrers/{digest}"
    TAGS = "/v2/{name}/tags/list"


@dataclass(frozen=True, slots=True)
class OciPath:
    """An endpoint with the repository and digest of its path, as they were written."""

    endpoint: OciEndpoint
    repository: str
    digest: str = ""


def read_path(path: str) -> OciPath | None:
    """Return the endpoint of a path (unescaped); None where it is not one of these."""
    match path.removeprefix(ROOT).split("/"):
        case [*name, "referrers", digest] if name and digest:
            return OciPath(OciEndpoint.REFERRERS, "/".join(name), digest)
        case [*name, "tags", "list"] if name:
            return OciPath(OciEndpoint.TAGS, "/".join(name))
        case _:
            return None

"""Which of our two endpoints below ``/v2/`` a path names. Pure.

Read from the right, as registries do: a repository's name may hold any of the words. Names need no escaping; what is
escaped all the same is unescaped once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

ROOT = "/v2/"


class OciEndpoint(Enum):
    """What can be asked; the value is its label in metrics."""

    REFERRERS = "/v2/{name}/referrers/{digest}"
    TAGS = "/v2/{name}/tags/list"


@dataclass(frozen=True, slots=True)
class OciPath:
    """An endpoint with the repository and digest of its path, as they were written."""

    endpoint: OciEndpoint
    repository: str
    digest: str = ""


def read_path(path: str) -> OciPath | None:
    """Return what a path (unescaped) names; None where it is none of ours."""
    match path.removeprefix(ROOT).split("/"):
        case [*name, "referrers", digest] if name and digest:
            return OciPath(OciEndpoint.REFERRERS, "/".join(name), digest)
        case [*name, "tags", "list"] if name:
            return OciPath(OciEndpoint.TAGS, "/".join(name))
        case _:
            return None

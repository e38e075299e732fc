"""Endpoint and parameters of a path below ``/gitlab/v1/`` (contract section 1.1). Pure.

In this order: ``…/tags/list/``, ``…/tags/detail/<tag>/``, then ``repositories/<path>/``; so a repository whose own name
ends in ``/tags/list`` cannot be reached here, as in the fork. Every path ends in a slash; one without is redirected.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

ROOT = "/gitlab/v1/"
REPOSITORIES = f"{ROOT}repositories/"


class GitlabEndpoint(Enum):
    """The endpoints; the value is the label in metrics."""

    PROBE = "/gitlab/v1/"
    STATISTICS = "/gitlab/v1/statistics/"
    REPOSITORY = "/gitlab/v1/repositories/{path}/"
    TAGS = "/gitlab/v1/repositories/{path}/tags/list/"
    TAG = "/gitlab/v1/repositories/{path}/tags/detail/{tag}/"
    SUB_REPOSITORIES = "/gitlab/v1/repository-paths/{path}/repositories/list/"


@dataclass(frozen=True, slots=True)
class GitlabPath:
    """An endpoint with the repository (or path of repositories) and tag of its path."""

    endpoint: GitlabEndpoint
    repository: str = ""
    tag: str = ""


def read_path(path: str) -> GitlabPath | None:  # noqa: PLR0911 - one per endpoint
    """Return the endpoint of a path (unescaped); None where there is none."""
    if not path.startswith(ROOT) or not path.endswith("/"):
        return None
    match path[len(ROOT) - 1 : -1].split("/")[1:]:
        case []:
            return GitlabPath(GitlabEndpoint.PROBE)
        case ["statistics"]:
            return GitlabPath(GitlabEndpoint.STATISTICS)
        case ["repositories", *name, "tags", "list"] if any(name):
            return GitlabPath(GitlabEndpoint.TAGS, "/".join(name))
        case ["repositories", *name, "tags", "detail", tag] if any(name):
            return GitlabPath(GitlabEndpoint.TAG, "/".join(name), tag)
        case ["repositories", *name] if any(name):
            return GitlabPath(GitlabEndpoint.REPOSITORY, "/".join(name))
        case ["repository-paths", *name, "repositories", "list"] if any(name):
            return GitlabPath(GitlabEndpoint.SUB_REPOSITORIES, "/".join(name))
        case _:
            return None

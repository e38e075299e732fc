"""Repository names and tags (OCI distribution spec 1.1, "Pulling manifests"; Distribution reference grammar).

Measured on Distribution 2.8.2 and 3.1.1: a repository name has at most 255 characters (256 is a 500), a tag
at most 128; both are ASCII, so text keys are ASCII.
"""

from __future__ import annotations

import re
from typing import NewType

RepositoryName = NewType("RepositoryName", str)
TagName = NewType("TagName", str)

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
MAX_REPOSITORY_LENGTH = 255


def parse_repository_name(text: str) -> RepositoryName:
    """Return ``text`` as a repository name; raise ``ValueError`` if no registry could have it."""
    if not is_repository_name(text):
        raise ValueError(f"not a repository name: {text[:80]!r}")
    return RepositoryName(text)


def is_repository_name(text: str) -> bool:
    """Tell whether a registry could have a repository of this name."""
    return len(text) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.match(text) is not None


def is_tag_name(text: str) -> bool:
    """Tell whether a registry could have a tag of this name."""
    return _TAG.match(text) is not None


def parse_tag_name(text: str) -> TagName:
    """Return ``text`` as a tag; raise ``ValueError`` if no registry could have it."""
    if not is_tag_name(text):
        raise ValueError(f"not a tag: {text[:80]!r}")
    return TagName(text)

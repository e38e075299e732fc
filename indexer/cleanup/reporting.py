"""What a source reports as in use (``PUT /api/v1/in-use/<source>``): images as texts, into what is stored.

An image is a digest (``sha256:…``: a manifest, or an image's config as ``docker images`` and kubelets report it), or
``repository:tag``, ``repository@digest``, ``repository:tag@digest``. The registry's host in front is left out: whatever
name a registry is reached by, a repository that is not ours protects nothing.
"""

from __future__ import annotations

from datetime import timedelta

from indexer.oci.digest import is_digest
from indexer.oci.reference import is_repository_name, parse_tag_name
from indexer.store.in_use import Image

LONGEST_VALID = timedelta(days=366)
MOST_IMAGES = 200_000


def parse_image(text: str) -> list[Image]:
    """Return what one text names: repository ('': any) and tag or digest; raise ``ValueError`` for anything else.

    A name with a registry's host names the repository with it and without it, since a repository may begin like a host.
    """
    if is_digest(text):
        return [("", text)]
    if text.startswith(("sha256:", "sha512:")):
        raise ValueError(f"not an image: {text[:120]!r} is no digest")
    name, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise ValueError(f"not an image: {text[:120]!r}: what follows @ is no digest")
    path, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    repository = path + slash + last
    if not colon and not at:
        tag, colon = "latest", ":"  # as every client has it
    references = [digest] if at else []
    if colon:
        references.append(parse_tag_name(tag))
    names = [each for each in _names(repository) if is_repository_name(each)]
    if not names:
        raise ValueError(f"not an image: {text[:120]!r}")
    return [(each, reference) for each in names for reference in references]


def _names(repository: str) -> list[str]:
    """Return a repository as it is written, and without the registry's host, if the first part may be one."""
    host, slash, rest = repository.partition("/")
    is_host = slash and ("." in host or ":" in host or host == "localhost")
    return [repository, rest] if is_host else [repository]

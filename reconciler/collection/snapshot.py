"""What the collector reads in a registry's storage, and nothing else. Pure; ``reading`` fills it.

A link whose content is no digest is None: empty, cut off or written over. That is not the same as a link that is not
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from typing import Final, TypeAlias

from indexer.oci.digest import Digest
from reconciler.collection.references import Content

Link: TypeAlias = Digest | None

REVISIONS: Final = "_manifests/revisions"
LAYERS: Final = "_layers"
TAGS: Final = "_manifests/tags"


@dataclass(frozen=True, slots=True)
class Links:
    """The files ``link`` below one directory of a repository.

    - ``straight``: those that lie and point where a registry writes them: the digest is in path and content.
    - ``odd``: all others, by path below the directory.
    """

    straight: frozenset[Digest] = frozenset()
    odd: Mapping[str, Link] = field(default_factory=dict, hash=False)

    def __len__(self) -> int:
        return len(self.straight) + len(self.odd)

    def in_order(self) -> Iterator[tuple[str, Link]]:
        """Yield path and content of each, by path: directory by directory."""
        straight = ((_path(digest), digest) for digest in sorted(self.straight))
        if not self.odd:
            yield from straight
            return
        odd = sorted(self.odd.items(), key=lambda each: each[0].split("/"))
        yield from merge(straight, odd, key=lambda each: each[0].split("/"))

    def find(self, digest: str) -> tuple[bool, Link]:
        """Return whether the link of a digest is there, and its content."""
        if digest in self.straight:
            return True, Digest(digest)
        path = _path(digest)
        return path in self.odd, self.odd.get(path)


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of the storage.

    - ``has_…``: whether the directory is there, empty or not. An object store has no empty ones.
    - ``tags``: what each tag's ``current/link`` says. Tags without that file are left out.
    - ``uploads``: uploads that are not finished.
    """

    name: str
    has_manifests: bool = True
    has_layers: bool = True
    has_tags: bool = True
    revisions: Links = Links()
    layers: Links = Links()
    tags: Mapping[str, Link] = field(default_factory=dict, hash=False)
    uploads: int = 0


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored bytes. ``modified_at`` is when the digest was first uploaded; later uploads do not change it."""

    size_bytes: int
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A registry's storage as its collector sees it.

    - ``contents``: of every blob that a revision link points to.
    - ``strays``: files ``data`` below ``blobs`` at places that stand for no digest.
    - ``has_repositories``, ``has_blobs``: whether the two directories are there.
    """

    repositories: tuple[Repository, ...]
    blobs: Mapping[Digest, Blob] = field(hash=False)
    contents: Mapping[Digest, Content] = field(hash=False)
    strays: tuple[str, ...] = ()
    has_repositories: bool = True
    has_blobs: bool = True


def _path(digest: str) -> str:
    return f"{digest.replace(':', '/', 1)}/link"

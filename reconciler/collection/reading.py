"""Reads a registry's storage into a snapshot: every link, every manifest, and the names and sizes of all blobs.

Each is read once, as a collection reads it. Pushes and deletions may go on meanwhile; then what is read is not one
moment of the registry, and neither is what a collection reads.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from indexer.oci.digest import Digest
from reconciler.collection.references import LARGEST, Content, Release, read_references
from reconciler.collection.snapshot import LAYERS, REVISIONS, Blob, Link, Links, Repository, Snapshot
from reconciler.storage.files import FileStorage
from reconciler.storage.layout import BLOBS, REPOSITORIES
from reconciler.storage.objects import Storage

_DIGEST: Final = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z")
"""What a registry takes for a digest (opencontainers/go-digest); sha384 too, under which nothing can be pushed."""

_LONGEST_LINK: Final = 256
_BATCH: Final = 4096

T = TypeVar("T")

Progress = Callable[[int, int | None, str], None]
"""Told again and again how far the reading is: done, of how many (None: not known), of what. It may raise."""


@dataclass(slots=True)
class _Links:
    straight: set[Digest] = field(default_factory=set)
    odd: dict[str, Link] = field(default_factory=dict)

    def add(self, path: str, link: Link) -> None:
        if link is not None and path == f"{link.replace(':', '/', 1)}/link":
            self.straight.add(link)
        else:
            self.odd[path] = link

    def targets(self) -> Iterator[Digest]:
        yield from self.straight
        yield from (link for link in self.odd.values() if link is not None)

    def frozen(self) -> Links:
        return Links(frozenset(self.straight), self.odd)


@dataclass(slots=True)
class _Found:
    """What is known of one directory in ``repositories``."""

    parts: set[str] = field(default_factory=set)
    revisions: _Links = field(default_factory=_Links)
    layers: _Links = field(default_factory=_Links)
    tags: dict[str, Link] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)


def _quietly(_done: int, _total: int | None, _unit: str) -> None:
    pass


def read_snapshot(storage: Storage, release: Release, progress: Progress = _quietly) -> Snapshot:
    """Read a storage as a collector of ``release`` does; blocks. Raises what the storage raises; reads no layer."""
    top = frozenset(storage.list_names(""))
    blobs, strays = _blobs(storage, progress)
    found = _links(storage, progress)
    if isinstance(storage, FileStorage):
        _directories(storage, REPOSITORIES, "", found)
    contents = _contents(storage, found.values(), blobs, release, progress)
    return Snapshot(
        repositories=tuple(_repository(name, each) for name, each in sorted(found.items())),
        blobs=blobs,
        contents=contents,
        strays=tuple(sorted(strays)),
        has_repositories=REPOSITORIES in top,
        has_blobs=BLOBS in top,
    )


def parse_link(content: bytes) -> Link:
    """Return the digest in a link; None if a registry cannot read it."""
    text = content.decode("latin-1")
    return Digest(sys.intern(text)) if _DIGEST.match(text) else None


def digest_of_data(path: str) -> Digest | None:
    """Return the digest that a file ``data`` below ``blobs`` stands for; None if it stands for none.

    As ``digestFromPath`` of registry/storage/paths.go: the directory of two digits may be missing.
    """
    *above, encoded = path.split("/")[:-1]
    if above and above[-1] == encoded[:2]:
        above.pop()
    text = f"{above[-1] if above else ''}:{encoded}"
    return Digest(sys.intern(text)) if _DIGEST.match(text) else None


def _blobs(storage: Storage, progress: Progress) -> tuple[dict[Digest, Blob], list[str]]:
    blobs: dict[Digest, Blob] = {}
    strays: list[str] = []
    for chunk in storage.list(BLOBS):
        progress(len(blobs), None, "blobs")
        for entry in chunk:
            if not entry.path.endswith("/data"):
                continue
            digest = digest_of_data(entry.path)
            if digest is None:
                strays.append(entry.path)
            else:
                blobs[digest] = Blob(entry.size_bytes, entry.modified_at)
    return blobs, strays


def _links(storage: Storage, progress: Progress) -> dict[str, _Found]:
    """List all repositories, and read their links."""
    found: dict[str, _Found] = defaultdict(_Found)
    for entries in _chunks(storage.list(REPOSITORIES)):
        progress(len(found), None, "repositories")
        wanted = [entry.path for entry in entries if _is_read(entry.path, found)]
        for path, content in storage.read_many(wanted, _LONGEST_LINK):
            if content is not None:
                _add(path, parse_link(content), found)
    return found


def _chunks(listed: Iterable[Sequence[T]]) -> Iterator[list[T]]:
    """Cut what is listed into pieces of one size."""
    one_by_one = (entry for chunk in listed for entry in chunk)
    while chunk := list(islice(one_by_one, _BATCH)):
        yield chunk


def _split(path: str) -> tuple[str, str, list[str]] | None:
    """Cut ``repositories/<name>/_part/…`` into name, part and the rest; None for anything else."""
    parts = path.split("/")
    at = next((number for number, part in enumerate(parts) if part.startswith("_")), 0)
    if at < 2 or at + 1 == len(parts):  # noqa: PLR2004 - "repositories" and a name
        return None
    return "/".join(parts[1:at]), parts[at], parts[at + 1 :]


def _is_read(path: str, found: dict[str, _Found]) -> bool:
    """Note what the place of a file says by itself; tell whether it is a link that a collector reads."""
    split = _split(path)
    if split is None:
        return False
    name, part, rest = split
    repository = found[name]
    repository.parts.add(part)
    if part == "_uploads":
        repository.uploads.add(rest[0])
        return False
    if part == "_manifests" and rest[0] == "tags":
        repository.parts.add("tags")
        return rest[2:] == ["current", "link"]
    return rest[-1] == "link" and (part == LAYERS or f"{part}/{rest[0]}" == REVISIONS)


def _add(path: str, link: Link, found: dict[str, _Found]) -> None:
    split = _split(path)
    if split is None:
        return
    name, part, rest = split
    if part == LAYERS:
        found[name].layers.add("/".join(rest), link)
    elif rest[0] == "tags":
        found[name].tags[rest[1]] = link
    else:
        found[name].revisions.add("/".join(rest[1:]), link)


def _directories(storage: Storage, directory: str, name: str, found: dict[str, _Found]) -> None:
    """Note which directories are there: of a repository whose every file is gone they are all that is left."""
    for each in storage.list_names(directory):
        below = f"{directory}/{each}"
        if not each.startswith("_"):
            _directories(storage, below, f"{name}/{each}" if name else each, found)
        elif name:
            found[name].parts.add(each)
            if each == "_manifests" and "tags" not in found[name].parts:
                found[name].parts.update({"tags"}.intersection(storage.list_names(below)))


def _repository(name: str, found: _Found) -> Repository:
    return Repository(
        name=name,
        has_manifests="_manifests" in found.parts,
        has_layers=LAYERS in found.parts,
        has_tags="tags" in found.parts,
        revisions=found.revisions.frozen(),
        layers=found.layers.frozen(),
        tags=found.tags,
        uploads=len(found.uploads),
    )


def _contents(
    storage: Storage, found: Iterable[_Found], blobs: dict[Digest, Blob], release: Release, progress: Progress
) -> dict[Digest, Content]:
    """Read every blob that a collector may read as a manifest."""
    wanted: set[Digest] = set()
    for repository in found:
        wanted.update(repository.revisions.targets())
        # Where 2.8 finds no revision link of that digest it follows the layer link.
        wanted.update(link for link in repository.layers.odd.values() if link is not None)
    contents: dict[Digest, Content] = {}
    for chunk in _chunks([sorted(wanted.intersection(blobs))]):
        progress(len(contents), len(wanted), "manifests")
        places = {_data(digest): digest for digest in chunk}
        for path, content in storage.read_many(places, LARGEST):
            if content is not None:
                contents[places[path]] = read_references(content, release)
    return contents


def _data(digest: Digest) -> str:
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded[:2]}/{encoded}/data"

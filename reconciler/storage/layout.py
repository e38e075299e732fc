"""What a path in a registry's storage means, and where a thing lies. Pure.

Distribution 2.8 and 3.x lay out every storage driver alike (registry/storage/paths.go). Paths here are relative to
``ROOT``, which is relative to the driver's root directory:

    repositories/<name>/_manifests/tags/<tag>/current/link                   what a tag points to: the digest, as text
    repositories/<name>/_manifests/tags/<tag>/index/<alg>/<hex>/link         every digest that the tag has had
    repositories/<name>/_manifests/revisions/<alg>/<hex>/link                a manifest of the repository
    repositories/<name>/_layers/<alg>/<hex>/link                             a blob that the repository may serve
    repositories/<name>/_uploads/<id>/{data,startedat,hashstates/<alg>/<n>}  an upload that was not finished
    blobs/<alg>/<first two of hex>/<hex>/data                                the bytes

No component of a repository's name begins with an underscore, so the first that does ends the name. A path that no
registry would write is None: what lies there is not the registry's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from indexer.oci.digest import Digest, is_digest
from indexer.oci.reference import RepositoryName, TagName, is_repository_name, is_tag_name

ROOT: Final = "docker/registry/v2"
REPOSITORIES: Final = "repositories"
BLOBS: Final = "blobs"
MANIFESTS: Final = "_manifests"
TAGS: Final = "_manifests/tags"
REVISIONS: Final = "_manifests/revisions"
LAYERS: Final = "_layers"
UPLOADS: Final = "_uploads"


@dataclass(frozen=True, slots=True)
class TagCurrent:
    """The file whose content is the digest that a tag points to."""

    repository: RepositoryName
    tag: TagName


@dataclass(frozen=True, slots=True)
class TagIndex:
    """A file which says that a tag points to a digest, or did once."""

    repository: RepositoryName
    tag: TagName
    digest: Digest


@dataclass(frozen=True, slots=True)
class Revision:
    """A file which says that a repository has a manifest; its content is the digest."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class LayerLink:
    """A file which says that a repository may serve a blob (a layer or a config); its content is the digest."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of an upload that has not been finished. ``name``: ``data``, ``startedat``, ``hashstates/sha256/0``."""

    repository: RepositoryName
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of a manifest, config or layer."""

    digest: Digest


Place: TypeAlias = TagCurrent | TagIndex | Revision | LayerLink | Upload | Blob


def parse(path: str) -> Place | None:
    """Return what the file at a path below ``ROOT`` is; None if no registry writes a file there."""
    parts = path.split("/")
    match parts[0]:
        case "repositories":
            return _in_repository(parts)
        case "blobs":
            return _blob(parts)
    return None


def path_of(place: Place) -> str:
    """Return where something lies, below ``ROOT``: the reverse of :func:`parse`."""
    match place:
        case TagCurrent(repository, tag):
            return f"{tag_directory(repository, tag)}/current/link"
        case TagIndex(repository, tag, digest):
            return f"{tag_directory(repository, tag)}/index/{_split(digest)}/link"
        case Revision(repository, digest):
            return f"repositories/{repository}/{REVISIONS}/{_split(digest)}/link"
        case LayerLink(repository, digest):
            return f"repositories/{repository}/{LAYERS}/{_split(digest)}/link"
        case Upload(repository, identifier, name):
            return f"repositories/{repository}/{UPLOADS}/{identifier}/{name}"
        case Blob(digest):
            return blob_path(digest)


def repository_directory(repository: str) -> str:
    """Return the directory of a repository; those of repositories below it lie there, too."""
    return f"repositories/{repository}"


def tag_directory(repository: str, tag: str) -> str:
    """Return the directory of a tag."""
    return f"repositories/{repository}/{TAGS}/{tag}"


def blob_path(digest: Digest) -> str:
    """Return where the bytes of a digest lie."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded[:2]}/{encoded}/data"


def parse_link(content: bytes) -> Digest | None:
    """Return the digest that a link's content is; None if it is none: empty, cut off, or written over."""
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        return None
    return Digest(text) if is_digest(text) else None


def _in_repository(parts: list[str]) -> Place | None:
    at = 1
    while at < len(parts) and not parts[at].startswith("_"):
        at += 1
    name = "/".join(parts[1:at])
    if at == len(parts) or not _is_repository(name):
        return None
    repository, rest = RepositoryName(name), parts[at + 1 :]
    match parts[at]:
        case "_manifests":
            return _manifest(repository, rest)
        case "_layers":
            digest = _linked(rest)
            return None if digest is None else LayerLink(repository, digest)
        case "_uploads" if len(rest) > 1 and all(rest):
            return Upload(repository, rest[0], "/".join(rest[1:]))
    return None


def _manifest(repository: RepositoryName, rest: list[str]) -> Place | None:
    match rest:
        case ["tags", tag, "current", "link"] if is_tag_name(tag):
            return TagCurrent(repository, TagName(tag))
        case ["tags", tag, "index", *linked] if is_tag_name(tag):
            digest = _linked(linked)
            return None if digest is None else TagIndex(repository, TagName(tag), digest)
        case ["revisions", *linked]:
            digest = _linked(linked)
            return None if digest is None else Revision(repository, digest)
    return None


def _linked(parts: list[str]) -> Digest | None:
    """Return the digest of ``<alg>/<hex>/link``."""
    if len(parts) != _LINKED or parts[2] != "link":
        return None
    text = f"{parts[0]}:{parts[1]}"
    return Digest(text) if is_digest(text) else None


def _blob(parts: list[str]) -> Blob | None:
    if len(parts) != _BLOB or parts[4] != "data" or parts[2] != parts[3][:2]:
        return None
    text = f"{parts[1]}:{parts[3]}"
    return Blob(Digest(text)) if is_digest(text) else None


_is_repository = lru_cache(maxsize=64)(is_repository_name)
"""Files of one repository come one after another."""

_LINKED: Final = 3
_BLOB: Final = 5


def _split(digest: str) -> str:
    return digest.replace(":", "/", 1)

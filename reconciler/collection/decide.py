"""What ``garbage-collect`` would delete in a snapshot. Pure.

The steps are those of registry/storage/garbagecollect.go (2.8.2, 3.0.0, 3.1.1), in their order:

1. Repositories, in the order in which the storage is walked. To 2.8 a directory with ``_layers`` is one, to 3.x a
   directory with ``_manifests``.
2. Of each its revision links, by path. A link without its blob is passed over. With ``--delete-untagged`` a manifest
   that no tag of the repository points to becomes a candidate; else it is marked with what it refers to. 2.8 marks
   direct references; 3.x descends into those that are manifests of the repository, unless they were marked before.
3. 3.x: layer links of the repository whose blob is not marked *yet* will be deleted.
4. 3.x: candidates that were marked by any repository are dropped.
5. Blobs that are not marked will be deleted.

Whatever it cannot read ends the whole collection (:class:`Abort`), before anything is deleted. But what it cannot read
among the blobs ends it after the candidates' links were deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from indexer.oci.digest import Digest
from indexer.oci.reference import MAX_REPOSITORY_LENGTH
from reconciler.collection.references import References, Release, Unreadable
from reconciler.collection.snapshot import LAYERS, REVISIONS, TAGS, Repository, Snapshot

_ALPHANUMERIC = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_NAMED: Final = re.compile(
    rf"(?:{_DOMAIN}(?:\.{_DOMAIN})*(?::[0-9]+)?/)?{_ALPHANUMERIC}(?:/{_ALPHANUMERIC})*\Z", re.ASCII
)
"""What passes for a repository's name (distribution/reference); wider than what a client can push to."""


class Drivers(Enum):
    """How a storage driver walks."""

    TREE = "tree"
    """Directory by directory: 2.8, and 3.x on file systems, GCS and Azure. A missing directory is an error."""
    KEYS = "keys"
    """By keys, in 3.x on S3. What is missing is empty."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the collector is started. ``delete_untagged`` is its option ``--delete-untagged`` (``-m``)."""

    release: Release
    delete_untagged: bool = False
    drivers: Drivers = Drivers.TREE

    @property
    def misses_directories(self) -> bool:
        """Whether a directory that is not there is an error."""
        return self.release is Release.V2 or self.drivers is Drivers.TREE


class Because(Enum):
    """Why a collection would fail."""

    LINK = "link"
    """A link's content is no digest."""
    CONTENT = "content"
    """A manifest cannot be read."""
    SCHEMA1 = "schema1"
    """A manifest is of Docker schema 1, which 3.x cannot read."""
    NEVER_TAGGED = "never_tagged"
    """A repository has manifests and no directory of tags (2.8 with ``--delete-untagged``)."""
    NO_LAYERS = "no_layers"
    """A repository has no ``_layers`` (3.x)."""
    NAME = "name"
    """A directory has no repository's name."""
    NO_REPOSITORIES = "no_repositories"
    """The storage has no repositories: nothing was pushed yet, or it is another directory."""
    NO_BLOBS = "no_blobs"
    """The storage has no blobs."""
    STRAY = "stray"
    """A file in ``blobs`` lies at a place that stands for no digest."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The collection fails. ``path`` is the link's, relative to the repository."""

    because: Because
    repository: str = ""
    path: str = ""
    digest: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection would do.

    - ``repositories``: in the order in which they are read.
    - ``marked``: digests that stay, of manifests and of what they refer to; ``marked_manifests``: by which repository.
    - ``blobs``, ``manifests``, ``layer_links``: what is deleted. If it ``aborts``, at most manifests.
    - ``passed_over``: untagged manifests of repositories that never had a tag (3.x): neither marked nor deleted, so
      that their blobs go and their links stay.
    """

    repositories: tuple[str, ...] = ()
    marked: frozenset[str] = frozenset()
    marked_manifests: frozenset[tuple[str, Digest]] = frozenset()
    blobs: frozenset[Digest] = frozenset()
    manifests: frozenset[tuple[str, Digest]] = frozenset()
    layer_links: frozenset[tuple[str, Digest]] = frozenset()
    passed_over: frozenset[tuple[str, Digest]] = frozenset()
    aborts: Abort | None = None


class _Failed(Exception):  # noqa: N818 - what the collector returns, not an error of ours
    """The collector returns an error."""

    def __init__(self, abort: Abort) -> None:
        super().__init__(abort.because.value)
        self.abort = abort


@dataclass(slots=True)
class _Run:
    """The collector's own variables, and what it says on its way."""

    snapshot: Snapshot
    mode: Mode
    read: list[str] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)
    marked_manifests: set[tuple[str, Digest]] = field(default_factory=set)
    candidates: list[tuple[str, Digest]] = field(default_factory=list)
    layer_links: set[tuple[str, Digest]] = field(default_factory=set)
    passed_over: set[tuple[str, Digest]] = field(default_factory=set)


def collect(snapshot: Snapshot, mode: Mode) -> Collection:
    """Return what the collector would do with a storage."""
    run = _Run(snapshot, mode)
    try:
        for repository in _in_order(snapshot, mode):
            run.read.append(repository.name)
            _mark(run, repository)
    except _Failed as failed:
        return _result(run, aborts=failed.abort)
    kept = run.marked if mode.release is Release.V3 else frozenset[str]()
    manifests = frozenset(each for each in run.candidates if each[1] not in kept)
    try:
        blobs = _sweep(run)
    except _Failed as failed:
        return _result(run, manifests=manifests, aborts=failed.abort)
    return _result(run, manifests=manifests, blobs=blobs, layer_links=frozenset(run.layer_links))


def _result(
    run: _Run,
    *,
    blobs: frozenset[Digest] = frozenset(),
    manifests: frozenset[tuple[str, Digest]] = frozenset(),
    layer_links: frozenset[tuple[str, Digest]] = frozenset(),
    aborts: Abort | None = None,
) -> Collection:
    return Collection(
        repositories=tuple(run.read),
        marked=frozenset(run.marked),
        marked_manifests=frozenset(run.marked_manifests),
        blobs=blobs,
        manifests=manifests,
        layer_links=layer_links,
        passed_over=frozenset(run.passed_over),
        aborts=aborts,
    )


def _in_order(snapshot: Snapshot, mode: Mode) -> list[Repository]:
    """Return the directories that the collector takes for repositories, in its order."""
    if not snapshot.has_repositories and mode.misses_directories:
        raise _Failed(Abort(Because.NO_REPOSITORIES))
    marker = "_layers" if mode.release is Release.V2 else "_manifests"
    found = [each for each in snapshot.repositories if has_marker(each, mode.release)]
    if mode.drivers is Drivers.KEYS and mode.release is Release.V3:
        return sorted(found, key=lambda each: f"{each.name}/{marker}/")
    return sorted(found, key=lambda each: (*each.name.split("/"), marker))


def has_marker(repository: Repository, release: Release) -> bool:
    """Tell whether the collector of a release takes a directory for a repository."""
    return repository.has_layers if release is Release.V2 else repository.has_manifests


def _mark(run: _Run, repository: Repository) -> None:
    name, mode = repository.name, run.mode
    if not _NAMED.match(name) or len(name) > MAX_REPOSITORY_LENGTH:
        raise _Failed(Abort(Because.NAME, repository=name))
    lookup = _Lookup(repository, run)
    for digest in lookup.enumerate(layers=False):
        if mode.delete_untagged and not lookup.is_tagged(digest):
            if repository.has_tags:
                run.candidates.append((name, digest))
                continue
            if mode.release is Release.V2:
                raise _Failed(Abort(Because.NEVER_TAGGED, repository=name, digest=digest))
            run.passed_over.add((name, digest))
            continue
        run.marked.add(digest)
        run.marked_manifests.add((name, digest))
        _mark_references(run, lookup, digest)
    if mode.release is Release.V3:
        _unused_layers(run, repository, lookup)


def _mark_references(run: _Run, lookup: _Lookup, digest: Digest) -> None:
    """Mark what a manifest refers to; 3.x goes on from there, depth first."""
    if run.mode.release is Release.V2:
        run.marked.update(lookup.references(digest).digests)
        return
    open_lists = [iter(lookup.references(digest).digests)]
    while open_lists:
        reference = next(open_lists[-1], None)
        if reference is None:
            open_lists.pop()
            continue
        if reference in run.marked:
            continue
        run.marked.add(reference)
        if lookup.is_manifest(reference):
            open_lists.append(iter(lookup.references(Digest(reference)).digests))


def _unused_layers(run: _Run, repository: Repository, lookup: _Lookup) -> None:
    """Collect layer links whose blob nothing has marked so far."""
    if not repository.has_layers and run.mode.misses_directories:
        raise _Failed(Abort(Because.NO_LAYERS, repository=repository.name))
    for digest in lookup.enumerate(layers=True):
        if digest not in run.marked:
            run.layer_links.add((repository.name, digest))


def _sweep(run: _Run) -> frozenset[Digest]:
    snapshot = run.snapshot
    if not snapshot.has_blobs and run.mode.misses_directories:
        raise _Failed(Abort(Because.NO_BLOBS))
    if snapshot.strays:
        raise _Failed(Abort(Because.STRAY, path=snapshot.strays[0]))
    return frozenset(digest for digest in snapshot.blobs if digest not in run.marked)


class _Lookup:
    """One repository's links, resolved as the collector does (registry/storage/linkedblobstore.go)."""

    def __init__(self, repository: Repository, run: _Run) -> None:
        self._repository = repository
        self._snapshot = run.snapshot
        self._release = run.mode.release
        self._tagged: frozenset[Digest] | None = None

    def enumerate(self, *, layers: bool) -> Iterator[Digest]:
        """Yield the content of each link whose blob is there, by path."""
        directory, links = (
            (LAYERS, self._repository.layers) if layers else (REVISIONS, self._repository.revisions)
        )
        for path, digest in links.in_order():
            if digest is None:
                raise self._broken(f"{directory}/{path}")
            if self._blob_of(digest, layers=layers) is not None:
                yield digest

    def is_tagged(self, digest: Digest) -> bool:
        """Tell whether a tag points to a manifest. Every tag's link is read for it, and has to be whole."""
        if self._tagged is None:
            broken = [tag for tag, link in self._repository.tags.items() if link is None]
            if broken:
                raise self._broken(f"{TAGS}/{min(broken)}/current/link")
            self._tagged = frozenset(link for link in self._repository.tags.values() if link is not None)
        return digest in self._tagged

    def is_manifest(self, digest: str) -> bool:
        """Tell whether the repository has a manifest. What cannot be read here is no manifest."""
        try:
            return self._blob_of(digest, layers=False) is not None
        except _Failed:
            return False

    def references(self, digest: Digest) -> References:
        """Return what a manifest refers to."""
        blob = self._blob_of(digest, layers=False)
        content = None if blob is None else self._snapshot.contents.get(blob)
        if isinstance(content, References):
            return content
        name = self._repository.name
        if isinstance(content, Unreadable):
            because = Because.SCHEMA1 if content.is_schema1 else Because.CONTENT
            raise _Failed(Abort(because, repository=name, digest=digest, reason=content.reason))
        raise _Failed(Abort(Because.CONTENT, repository=name, digest=digest, reason="it was not read"))

    def _blob_of(self, digest: str, *, layers: bool) -> Digest | None:
        """Follow the link of a digest to its blob; None if either is not there."""
        ways = [(LAYERS, self._repository.layers)]
        if not layers:
            # 2.1 linked manifests as layers, and 2.8 still looks there, too.
            more = ways if self._release is Release.V2 else []
            ways = [(REVISIONS, self._repository.revisions), *more]
        for directory, links in ways:
            is_there, target = links.find(digest)
            if not is_there:
                continue
            if target is None:
                raise self._broken(f"{directory}/{digest.replace(':', '/', 1)}/link")
            return target if target in self._snapshot.blobs else None
        return None

    def _broken(self, path: str) -> _Failed:
        return _Failed(Abort(Because.LINK, repository=self._repository.name, path=path))

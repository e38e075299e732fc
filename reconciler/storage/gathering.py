"""Reads the links of repositories, in batches that fit into memory: what ``reconciler storage import`` works on.

Blocks; reads no manifest. A repository of many tags comes in several parts: its manifests first, then its tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from indexer.inventory.apply_storage import Earlier, TagFound
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName, is_repository_name
from reconciler.storage.layout import (
    MANIFESTS,
    REPOSITORIES,
    REVISIONS,
    TAGS,
    Revision,
    TagCurrent,
    TagIndex,
    parse,
    parse_link,
    path_of,
    repository_directory,
    tag_directory,
)
from reconciler.storage.objects import Entry, Storage

BATCH: Final = 2000
"""Tags, or manifests, that are worked on together."""

LARGE: Final = 50_000
"""A repository with more tags is not held in memory as a whole."""

LINK_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class RevisionLink:
    """A manifest that a repository has, and when it was last pushed there, at the latest."""

    repository: RepositoryName
    digest: Digest
    written_at: datetime


@dataclass(slots=True)
class Batch:
    """Links of some repositories. ``complete``: up to which one, by name, all of it is in this batch or came before.

    ``unreadable``: tags whose link is missing, empty or no digest.
    """

    read_at: datetime
    revisions: list[RevisionLink] = field(default_factory=list)
    tags: list[TagFound] = field(default_factory=list)
    unreadable: int = 0
    repositories: int = 0
    complete: RepositoryName | None = None

    @property
    def is_full(self) -> bool:
        """Whether it is worth being worked on."""
        return len(self.tags) >= BATCH or len(self.revisions) >= BATCH


@dataclass(slots=True)
class _Tag:
    current_at: datetime | None = None
    index: list[Earlier] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    revisions: list[RevisionLink] = field(default_factory=list)
    tags: dict[TagName, _Tag] = field(default_factory=dict)


def list_repositories(storage: Storage) -> list[RepositoryName]:
    """Return the repositories that have manifests or had some, sorted."""
    found: list[RepositoryName] = []
    waiting = [""]
    while waiting:
        name = waiting.pop()
        below = storage.list_names(f"{REPOSITORIES}/{name}" if name else REPOSITORIES)
        if name and MANIFESTS in below and is_repository_name(name):
            found.append(RepositoryName(name))
        waiting += [f"{name}/{each}" if name else each for each in below if _may_be_component(each)]
    return sorted(found)


def _may_be_component(name: str) -> bool:
    """Tell whether repositories may lie in a directory of this name."""
    return is_repository_name(name)


def batches(storage: Storage, repositories: Sequence[RepositoryName]) -> Iterator[Batch]:
    """Yield the links of repositories, in their order; each batch as soon as it is full."""
    batch = Batch(read_at=datetime.now(UTC))
    for repository in repositories:
        for part in _parts(storage, repository):
            if batch.is_full:
                yield batch
                batch = Batch(read_at=datetime.now(UTC))
            _add(storage, repository, part, batch)
        batch.complete = repository
        batch.repositories += 1
    yield batch


def _parts(storage: Storage, repository: RepositoryName) -> Iterator[_Part]:
    directory = repository_directory(repository)
    names = storage.list_names(f"{directory}/{TAGS}")
    if len(names) <= LARGE:
        yield _sorted(storage.list(f"{directory}/{MANIFESTS}"))
        return
    for chunk in storage.list(f"{directory}/{REVISIONS}"):
        yield _sorted([chunk])
    for start in range(0, len(names), BATCH):
        part = _Part()
        for name in names[start : start + BATCH]:
            _sort(storage.list(tag_directory(repository, name)), part)
        yield part


def _sorted(chunks: Iterable[list[Entry]]) -> _Part:
    part = _Part()
    _sort(chunks, part)
    return part


def _sort(chunks: Iterable[list[Entry]], part: _Part) -> None:
    tags = part.tags
    for chunk in chunks:
        for entry in chunk:
            match parse(entry.path):
                case TagCurrent(_, tag):
                    tags.setdefault(tag, _Tag()).current_at = entry.modified_at
                case TagIndex(_, tag, digest):
                    tags.setdefault(tag, _Tag()).index.append(Earlier(digest, entry.modified_at))
                case Revision(repository, digest):
                    part.revisions.append(RevisionLink(repository, digest, entry.modified_at))
                case _:
                    pass


def _add(storage: Storage, repository: RepositoryName, part: _Part, batch: Batch) -> None:
    """Add a part to a batch, and read where its tags point."""
    batch.revisions += part.revisions
    read_at = datetime.now(UTC)
    paths = {path_of(TagCurrent(repository, tag)): tag for tag in part.tags}
    for path, content in storage.read_many(paths, LINK_BYTES):
        tag = paths[path]
        links = part.tags[tag]
        digest = None if content is None else parse_link(content)
        if digest is None or links.current_at is None:
            batch.unreadable += 1
            continue
        batch.tags.append(
            TagFound(
                repository=repository,
                tag=tag,
                digest=digest,
                written_at=links.current_at,
                read_at=read_at,
                earlier=tuple(
                    each
                    for each in links.index
                    if each.digest != digest and each.written_at <= links.current_at
                ),
            )
        )

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
from indexer.oci.reference import RepositoryName, TagName, is_repository_name, is_tag_name
from reconciler.storage.layout import (
    MANIFESTS,
    REPOSITORIES,
    REVISIONS,
    TAGS,
    Revision,
    parse,
    repository_directory,
)
from reconciler.storage.objects import Entry, Storage, TagLinks
from reconciler.storage.tag_links import ALGORITHMS

BATCH: Final = 2000
"""Tags, or manifests, that are worked on together."""

LARGE: Final = 50_000
"""A repository with more tags is not held in memory as a whole."""


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
    """Yield the links of repositories, in their order; each batch as soon as it is full.

    In a batch, and from batch to batch, the manifests of a repository come before its tags.
    """
    batch = Batch(read_at=datetime.now(UTC))
    for repository in repositories:
        directory = repository_directory(repository)
        for algorithm in ALGORITHMS:
            for chunk in storage.list_each(f"{directory}/{REVISIONS}/{algorithm}", "link"):
                if batch.is_full:
                    yield _in_order(batch)
                    batch = Batch(read_at=datetime.now(UTC))
                _add_revisions(chunk, batch)
        for links in _tags(storage, f"{directory}/{TAGS}"):
            if batch.is_full:
                yield _in_order(batch)
                batch = Batch(read_at=datetime.now(UTC))
            _add_tag(repository, links, batch)
        batch.complete = repository
        batch.repositories += 1
    yield _in_order(batch)


def _in_order(batch: Batch) -> Batch:
    """Sort the tags by name: rows that lie side by side are written faster."""
    batch.tags.sort(key=lambda tag: (tag.repository, tag.tag))
    return batch


def _tags(storage: Storage, directory: str) -> Iterator[TagLinks]:
    """Yield the tags of a repository; in parts, where there are too many for a listing to be held."""
    names = storage.list_names(directory)
    if len(names) <= LARGE:
        yield from storage.read_tags(directory)
        return
    for start in range(0, len(names), BATCH):
        yield from storage.read_tags(directory, names[start : start + BATCH])


def _add_revisions(chunk: Iterable[Entry], batch: Batch) -> None:
    for entry in chunk:
        match parse(entry.path):
            case Revision(repository, digest):
                batch.revisions.append(RevisionLink(repository, digest, entry.modified_at))


def _add_tag(repository: RepositoryName, links: TagLinks, batch: Batch) -> None:
    if not is_tag_name(links.tag):
        return
    if links.digest is None:
        batch.unreadable += 1
        return
    batch.tags.append(
        TagFound(
            repository=repository,
            tag=TagName(links.tag),
            digest=links.digest,
            written_at=links.written_at,
            read_at=links.read_at,
            earlier=tuple(Earlier(digest, at) for digest, at in links.earlier if at <= links.written_at),
        )
    )

"""What a collection of the registry's would damage, or what would end it. Pure.

Codes are those of docs/reference/collection-hazards.md. A hazard names what is lost and what to do instead; where
there is none, no manifest that a collection leaves loses anything that it refers to, as long as nothing writes
meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from indexer.oci.digest import Digest
from reconciler.collection.decide import Abort, Because, Collection, Mode, has_marker
from reconciler.collection.references import Content, References, Release, Unreadable
from reconciler.collection.snapshot import LAYERS, REVISIONS, TAGS, Links, Repository, Snapshot

YOUNG: Final = timedelta(days=1)
"""A push may take that long: from its first blob to its manifest."""


@unique
class Code(StrEnum):
    """The hazards, as the reference numbers them."""

    INDEX_CHILD = "H1"
    NEVER_TAGGED_FAILS = "H2"
    NEVER_TAGGED_LOSES = "H3"
    REFERRER = "H4"
    LAYER_LINK_LOST = "H5"
    LAYER_LOST = "H6"
    DELETIONS = "H7"
    UPLOADS = "H8"
    CACHE = "H9"
    BROKEN_LINK = "H10"
    SCHEMA1 = "H11"
    MISSING_DIRECTORY = "H12"
    UNREADABLE = "H15"
    NOT_SEEN = "H16"


@dataclass(frozen=True, slots=True)
class Hazard:
    """One of them. ``repository`` and ``digest`` (a manifest's, a blob's) where it is about one."""

    code: Code
    text: str
    repository: str | None = None
    digest: str | None = None


def find_hazards(
    snapshot: Snapshot, collection: Collection, mode: Mode, *, now: datetime
) -> tuple[Hazard, ...]:
    """Return the hazards of a collection that was computed from a snapshot in this mode: by code, then repository."""
    found = [*_damage(snapshot, collection, mode)]
    if collection.aborts is not None:
        found += _obstacles(snapshot, mode, collection.aborts, deleted=len(collection.manifests))
    else:
        found += _under_way(snapshot, collection, now)
    return tuple(sorted(found, key=_order))


def _order(hazard: Hazard) -> tuple[int, str, str]:
    return int(hazard.code[1:]), hazard.repository or "", hazard.digest or ""


# --- what ends a collection -------------------------------------------------------------------------------


def _obstacles(snapshot: Snapshot, mode: Mode, first: Abort, *, deleted: int) -> Iterator[Hazard]:
    """Name everything that ends a collection, not only what it would meet first."""
    named = False
    for repository in snapshot.repositories:
        for hazard in _obstacles_of(snapshot, repository, mode):
            named = True
            yield hazard
    if first.because in {Because.NO_REPOSITORIES, Because.NO_BLOBS, Because.STRAY} or not named:
        yield _of_abort(first, deleted=deleted)


def _obstacles_of(snapshot: Snapshot, repository: Repository, mode: Mode) -> Iterator[Hazard]:
    if not has_marker(repository, mode.release):
        return
    name = repository.name
    yield from _broken_links(repository, mode)
    if mode.release is Release.V3 and mode.misses_directories and not repository.has_layers:
        yield _of_abort(Abort(Because.NO_LAYERS, repository=name))
    tagged = {link for link in repository.tags.values() if link is not None}
    for digest in _targets(repository.revisions):
        if mode.delete_untagged and digest not in tagged:
            if not repository.has_tags and digest in snapshot.blobs and mode.release is Release.V2:
                yield _of_abort(Abort(Because.NEVER_TAGGED, repository=name, digest=digest))
                return
            continue
        content = snapshot.contents.get(digest)
        if isinstance(content, Unreadable):
            because = Because.SCHEMA1 if content.is_schema1 else Because.CONTENT
            yield _of_abort(Abort(because, repository=name, digest=digest, reason=content.reason))


def _broken_links(repository: Repository, mode: Mode) -> Iterator[Hazard]:
    places = [(REVISIONS, repository.revisions.odd)]
    if mode.release is Release.V3:
        places.append((LAYERS, repository.layers.odd))
    if mode.delete_untagged and len(repository.revisions):
        places.append((TAGS, {f"{tag}/current/link": link for tag, link in repository.tags.items()}))
    for directory, links in places:
        for path, link in links.items():
            if link is None:
                yield _of_abort(Abort(Because.LINK, repository=repository.name, path=f"{directory}/{path}"))


def _of_abort(abort: Abort, *, deleted: int = 0) -> Hazard:
    """Say what ends a collection. ``deleted``: manifests that it has deleted by then."""
    code, text = _ENDS[abort.because]
    said = text.format(
        name=abort.repository, path=abort.path, digest=abort.digest, reason=abort.reason, layers=LAYERS
    )
    ends = f"after it has deleted {_count(deleted)}" if deleted else "before it deletes anything"
    return Hazard(
        code,
        f"{said} The collection fails there, {ends}.",
        repository=abort.repository or None,
        digest=abort.digest or None,
    )


_ENDS: Final[dict[Because, tuple[Code, str]]] = {
    Because.NEVER_TAGGED: (
        Code.NEVER_TAGGED_FAILS,
        (
            "{name} has manifests and never had a tag, which 2.8 does not get over with --delete-untagged: leave the "
            "option out, or give one of its manifests a tag."
        ),
    ),
    Because.LINK: (
        Code.BROKEN_LINK,
        ("{name}/{path} is empty, cut off or written over: push the image again, or remove the file."),
    ),
    Because.SCHEMA1: (
        Code.SCHEMA1,
        (
            "{name}@{digest} is a Docker schema 1 manifest, which 3.x cannot read: delete it by its digest, after its "
            "image was pushed anew if anybody needs it."
        ),
    ),
    Because.NO_LAYERS: (
        Code.MISSING_DIRECTORY,
        ("{name} has _manifests and no {layers}, which 3.x misses: make the directory {name}/{layers}."),
    ),
    Because.NO_REPOSITORIES: (
        Code.MISSING_DIRECTORY,
        ("The storage has no directory repositories: nothing was pushed yet, or part of it is not mounted."),
    ),
    Because.NO_BLOBS: (
        Code.MISSING_DIRECTORY,
        ("The storage has no directory blobs: nothing was pushed yet, or part of it is not mounted."),
    ),
    Because.CONTENT: (
        Code.UNREADABLE,
        (
            "{name}@{digest} cannot be read as a manifest ({reason}): push the image again, or delete the manifest by "
            "its digest."
        ),
    ),
    Because.NAME: (
        Code.UNREADABLE,
        ("The directory {name!r} has no repository's name: move it out of the storage."),
    ),
    Because.STRAY: (
        Code.UNREADABLE,
        ("The file {path} lies where no blob can lie: move it out of the storage."),
    ),
}


# --- what a collection damages ----------------------------------------------------------------------------


def _damage(snapshot: Snapshot, collection: Collection, mode: Mode) -> Iterator[Hazard]:
    """Name every manifest that stays and loses something, and every one that goes though something needs it."""
    deleted: dict[str, set[Digest]] = defaultdict(set)
    for name, digest in collection.manifests:
        deleted[name].add(digest)
    lost_links: dict[str, set[Digest]] = defaultdict(set)
    for name, digest in collection.layer_links:
        lost_links[name].add(digest)
    visited = frozenset(collection.repositories)
    for repository in snapshot.repositories:
        if repository.name not in visited:
            yield from _not_seen(snapshot, collection, repository, mode)
            continue
        yield from _in_repository(
            snapshot, collection, repository, deleted[repository.name], lost_links[repository.name]
        )


def _not_seen(
    snapshot: Snapshot, collection: Collection, repository: Repository, mode: Mode
) -> Iterator[Hazard]:
    """A repository that the collector takes for none: what it has is not marked."""
    lost = [digest for digest in _targets(repository.revisions) if _loses(snapshot, collection, digest)]
    if not lost:
        return
    missing = LAYERS if mode.release is Release.V2 else "_manifests"
    yield Hazard(
        Code.NOT_SEEN,
        f"{repository.name} has no {missing}, and so is no repository to the collection: {_count(len(lost))} of it "
        f"lose their content, among them {_tags_of(repository, lost) or lost[0]}. Make the directory "
        f"{repository.name}/{missing} before.",
        repository=repository.name,
        digest=lost[0],
    )


def _in_repository(
    snapshot: Snapshot,
    collection: Collection,
    repository: Repository,
    deleted: set[Digest],
    lost_links: set[Digest],
) -> Iterator[Hazard]:
    name = repository.name
    names = _Names(repository)
    present = [digest for digest in _targets(repository.revisions) if digest in snapshot.blobs]
    passed_over = {digest for digest in present if (name, digest) in collection.passed_over}
    kept = [digest for digest in present if digest not in deleted and digest not in passed_over]
    yield from _never_tagged(snapshot, collection, repository, passed_over, lost_links)
    if deleted:
        yield from _needed(snapshot, names, kept, deleted)
        yield from _deleted_twice(repository, deleted)
    for digest in kept:
        yield from _kept(snapshot, collection, names, digest, lost_links)


def _needed(snapshot: Snapshot, names: _Names, kept: list[Digest], deleted: set[Digest]) -> Iterator[Hazard]:
    """Manifests that go though one that stays has them as children, or as what is attached to it."""
    children = _descendants(snapshot, kept)
    stays = frozenset(kept)
    for digest in sorted(deleted):
        if digest in children:
            yield Hazard(
                Code.INDEX_CHILD,
                f"{names.repository}@{digest} is deleted though it is part of {names.of(children[digest])}: pulls of "
                "that platform fail. Leave --delete-untagged out; 3.x keeps children.",
                repository=names.repository,
                digest=digest,
            )
        content = snapshot.contents.get(digest)
        if isinstance(content, References) and content.subject is not None and content.subject in stays:
            yield Hazard(
                Code.REFERRER,
                f"{names.repository}@{digest} is deleted though it is attached to {names.of(content.subject)}, which "
                "stays: a signature, SBOM or attestation is lost. Leave --delete-untagged out, or give it a tag.",
                repository=names.repository,
                digest=digest,
            )


def _deleted_twice(repository: Repository, deleted: set[Digest]) -> Iterator[Hazard]:
    """Links to another manifest than their path says: a dry run counts it twice, a real run fails the second time."""
    for path, link in repository.revisions.odd.items():
        if link in deleted:
            yield Hazard(
                Code.BROKEN_LINK,
                f"{repository.name}/{REVISIONS}/{path} was written over with the digest of another manifest, {link}: a "
                "real collection fails when it deletes that for the second time, in the middle of its work, though a "
                "dry run does not. Remove the file.",
                repository=repository.name,
                digest=link,
            )


def _kept(
    snapshot: Snapshot, collection: Collection, names: _Names, digest: Digest, lost_links: set[Digest]
) -> Iterator[Hazard]:
    """A manifest that stays, with what it refers to gone or not served any more."""
    content = snapshot.contents.get(digest)
    if not isinstance(content, References):
        return
    swept = [each for each in content.digests if each in collection.blobs]
    unlinked = [each for each in content.digests if each in lost_links and each not in collection.blobs]
    if digest in collection.blobs or swept:
        yield Hazard(
            Code.LAYER_LOST,
            f"{names.of(digest)} stays, but {_amount(len(swept) or 1, 'blob')} that it needs will be deleted: it "
            "cannot be pulled any more. Leave --delete-untagged out.",
            repository=names.repository,
            digest=digest,
        )
    if unlinked:
        yield Hazard(
            Code.LAYER_LINK_LOST,
            f"{names.of(digest)} stays, because another repository has it, but {names.repository} may not serve "
            f"{_amount(len(unlinked), 'blob')} of it any more: it cannot be pulled from here, and an index that is "
            "pushed over it is broken. Delete it by its digest, and collect without --delete-untagged.",
            repository=names.repository,
            digest=digest,
        )


def _never_tagged(
    snapshot: Snapshot,
    collection: Collection,
    repository: Repository,
    passed_over: set[Digest],
    lost_links: set[Digest],
) -> Iterator[Hazard]:
    lost = sorted(
        digest
        for digest in passed_over
        if _loses(snapshot, collection, digest) or lost_links.intersection(_needs(snapshot, digest))
    )
    if lost:
        yield Hazard(
            Code.NEVER_TAGGED_LOSES,
            f"{repository.name} never had a tag: {_count(len(lost))} of it keep their links and lose what they need, "
            "so that they cannot be pulled any more. Leave --delete-untagged out, or give them tags.",
            repository=repository.name,
            digest=lost[0],
        )


# --- what may happen meanwhile ----------------------------------------------------------------------------


def _under_way(snapshot: Snapshot, collection: Collection, now: datetime) -> Iterator[Hazard]:
    """Pushes that may be under way: a collection sweeps what they have uploaded or found already there."""
    for repository in snapshot.repositories:
        if repository.uploads:
            yield Hazard(
                Code.UPLOADS,
                f"{repository.name} has {_amount(repository.uploads, 'upload')} that are not finished. If a push is "
                "under way, what it has uploaded is deleted under it: let nothing write while it collects.",
                repository=repository.name,
            )
    known = {digest for content in snapshot.contents.values() for digest in _digests(content)}
    young = [
        (modified, digest)
        for digest in collection.blobs
        if digest not in known
        and digest not in snapshot.contents
        and (modified := snapshot.blobs[digest].modified_at) is not None
        and now - modified < YOUNG
    ]
    if young:
        _, newest = max(young)
        were = "was" if len(young) == 1 else "were"
        yield Hazard(
            Code.UPLOADS,
            f"{_amount(len(young), 'blob')} that no manifest refers to {were} uploaded within the last day. If a push "
            "that is under way needs any of it, its image will be broken: let nothing write while it collects.",
            digest=newest,
        )


class _Names:
    """How to call the manifests of a repository: by a tag where they have one."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository.name
        self._tags: dict[Digest, str] = {}
        for tag in sorted(repository.tags, reverse=True):
            link = repository.tags[tag]
            if link is not None:
                self._tags[link] = tag

    def of(self, digest: Digest) -> str:
        """Name one."""
        tag = self._tags.get(digest)
        return f"{self.repository}@{digest}" if tag is None else f"{self.repository}:{tag}"


# --- words ------------------------------------------------------------------------------------------------


def _targets(links: Links) -> list[Digest]:
    """Return the digests that links name, each once, in order."""
    return sorted({*links.straight, *(link for link in links.odd.values() if link is not None)})


def _descendants(snapshot: Snapshot, kept: Iterable[Digest]) -> dict[str, Digest]:
    """Return everything below indexes that stay, each with one of these."""
    found: dict[str, Digest] = {}
    for root in kept:
        waiting = [root]
        while waiting:
            content = snapshot.contents.get(waiting.pop())
            if isinstance(content, References) and content.is_index:
                new = [Digest(child) for child in content.digests if child not in found]
                found.update(dict.fromkeys(new, root))
                waiting += new
    return found


def _loses(snapshot: Snapshot, collection: Collection, digest: Digest) -> bool:
    """Tell whether a manifest, or something that it refers to, is swept."""
    return any(each in collection.blobs for each in (digest, *_needs(snapshot, digest)))


def _needs(snapshot: Snapshot, digest: Digest) -> tuple[str, ...]:
    return _digests(snapshot.contents.get(digest))


def _digests(content: Content | None) -> tuple[str, ...]:
    return content.digests if isinstance(content, References) else ()


def _tags_of(repository: Repository, digests: list[Digest]) -> str:
    tags = sorted(tag for tag, link in repository.tags.items() if link in digests)
    return ", ".join(f"{repository.name}:{tag}" for tag in tags[:3])


def _count(number: int) -> str:
    return f"{number} manifest{'' if number == 1 else 's'}"


def _amount(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

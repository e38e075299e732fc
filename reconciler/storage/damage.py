"""What is damaged in a registry's storage, decided from what was read of it. Pure.

Rules, from how Distribution 2.8 and 3.x serve (registry/storage/{linkedblobstore,tagstore,manifeststore}.go):

1. A tag is served if its ``current/link`` holds a digest, and the repository links a manifest of it.
2. A repository links a manifest by ``_manifests/revisions`` or, if nothing lies there, by ``_layers``; a blob by
   ``_layers`` only. The link holds the digest that its path names. A digest of another algorithm is an alias, not
   damage; another digest of the same algorithm makes the registry serve the wrong bytes.
3. What is linked is served if its bytes are stored. The registry does not compare them with the digest. Clients do.
4. An image can be pulled if its manifest, config and layers are served, an index if its children are. Layers that a
   manifest gives ``urls`` for come from there.

A finding is *damaged* where something that somebody pushed cannot be pulled, and *harmless* where nothing is lost. Each
object is named once, with all that cannot be pulled for it. A repository is judged by itself: a blob that two need and
that is gone is a finding in each. What could not be read is not judged, and nothing is concluded from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.storage.contents import Contents, Illegible, Needed
from reconciler.storage.layout import (
    Blob,
    LayerLink,
    Revision,
    TagCurrent,
    TagIndex,
    path_of,
    repository_directory,
)

_Affected: TypeAlias = tuple[tuple[TagName, ...], tuple[Digest, ...]]
"""Tags, and manifests, in order."""

UPLOAD_LEFT_AFTER: Final = timedelta(days=7)
"""The registry's own purge takes uploads of this age (``uploadpurging.age``, 168 h), unless it is off."""


class Severity(StrEnum):
    """What a finding means for those who pull."""

    DAMAGED = "damaged"
    HARMLESS = "harmless"


class Code(StrEnum):
    """What is wrong, stable."""

    TAG_LINK_MISSING = "tag.link_missing"
    TAG_LINK_UNREADABLE = "tag.link_unreadable"
    TAG_DANGLING = "tag.dangling"
    TAG_NOT_IN_HISTORY = "tag.not_in_history"
    TAG_HISTORY_UNREADABLE = "tag.history_unreadable"
    MANIFEST_LINK_UNREADABLE = "manifest.link_unreadable"
    MANIFEST_LINK_WRONG = "manifest.link_wrong"
    MANIFEST_MISSING = "manifest.missing"
    MANIFEST_WRONG_CONTENT = "manifest.wrong_content"
    MANIFEST_UNREADABLE = "manifest.unreadable"
    CHILD_MISSING = "child.missing"
    BLOB_LINK_MISSING = "blob.link_missing"
    BLOB_LINK_UNREADABLE = "blob.link_unreadable"
    BLOB_LINK_WRONG = "blob.link_wrong"
    BLOB_LINK_TO_NOTHING = "blob.link_to_nothing"
    BLOB_MISSING = "blob.missing"
    BLOB_WRONG_CONTENT = "blob.wrong_content"
    BLOB_SIZE_DIFFERS = "blob.size_differs"
    UPLOAD_LEFT = "upload.left"


@dataclass(frozen=True, slots=True)
class Link:
    """What a link holds. ``digest`` None: no digest; then ``size_bytes`` tells an empty one from a spoiled one."""

    digest: Digest | None
    size_bytes: int = 71
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was not finished: the bytes of its files, and the newest of their times."""

    id: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRead:
    """Everything that was read of a repository. A link that does not lie there is absent."""

    name: RepositoryName
    currents: Mapping[TagName, Link] = field(default_factory=dict)
    histories: Mapping[TagName, Mapping[Digest, Link]] = field(default_factory=dict)
    revisions: Mapping[Digest, Link] = field(default_factory=dict)
    layers: Mapping[Digest, Link] = field(default_factory=dict)
    uploads: Sequence[Upload] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsRead:
    """What was read of blobs.

    - ``sizes``: in bytes, of all that are stored. Those of :func:`suspects` were compared with their digests.
    - ``wrong``: those whose bytes were read and do not hash to their digest.
    - ``contents``: of manifests: what they refer to, or why that cannot be read.
    """

    sizes: Mapping[Digest, int]
    wrong: AbstractSet[Digest] = frozenset()
    contents: Mapping[Digest, Contents | Illegible] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong in the storage.

    - ``path``: where it lies, or should, below ``docker/registry/v2``. With code and repository it names the finding.
    - ``digest``: of what cannot be pulled or served; None where none is known.
    - ``tags`` and ``manifests``: of the repository, that cannot be pulled, or not wholly, because of it; in order.
    - ``text``: what is wrong and what follows; ``advice``: what to do.
    - ``rewrite``: the digest that the link at ``path`` must hold by its name, where everything else of it is sound.
    """

    code: Code
    severity: Severity
    path: str
    repository: RepositoryName | None
    tag: TagName | None = None
    digest: Digest | None = None
    tags: tuple[TagName, ...] = ()
    manifests: tuple[Digest, ...] = ()
    text: str
    advice: str
    rewrite: Digest | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same finding in the next check."""
        return (self.repository or "", self.code, self.path)


def wanted_contents(repository: RepositoryRead) -> set[Digest]:
    """Return the manifests that a repository links or that its tags point to, to be read before it is judged."""
    wanted = {link_target(digest, link) for digest, link in repository.revisions.items()}
    wanted |= {link.digest for link in repository.currents.values() if link.digest is not None}
    return wanted | set(repository.revisions)


def suspects(repository: RepositoryRead, blobs: BlobsRead) -> set[Digest]:
    """Return the blobs whose size is not what a manifest states: their bytes have to be read to know what is wrong."""
    return {
        target
        for digest in _manifests_of(repository, blobs)
        for each in _needed(blobs.contents.get(digest))
        if each.role != "child"
        and (size := blobs.sizes.get(target := link_target(each.digest, repository.layers.get(each.digest))))
        is not None
        and each.size_bytes not in (None, size)
    }


def judge_repository(repository: RepositoryRead, blobs: BlobsRead, *, now: datetime) -> list[Finding]:
    """Return what is wrong in a repository, by path. ``now``: by the storage's clock, for uploads that were left."""
    judge = _Judge(repository, blobs)
    findings = [*judge.tags(), *judge.manifests(), *judge.blobs(), *judge.unneeded_links()]
    left = judge.uploads_left(now)
    if left is not None:
        findings.append(left)
    return sorted(findings, key=lambda each: (each.path, each.code))


def judge_unreferenced(wrong: Iterable[Digest]) -> list[Finding]:
    """Return findings for blobs with wrong bytes that no manifest needs: a push that brings one is not stored."""
    return [
        Finding(
            code=Code.BLOB_WRONG_CONTENT,
            severity=Severity.DAMAGED,
            path=path_of(Blob(digest)),
            repository=None,
            digest=digest,
            text="The stored bytes do not hash to the digest. No manifest needs the blob yet. The registry takes a "
            "push of it as done and keeps the wrong bytes, so an image pushed with it is broken.",
            advice="Remove the file, or let the registry's garbage-collect remove it, while nobody pushes.",
        )
        for digest in sorted(wrong)
    ]


def link_target(digest: Digest, link: Link | None) -> Digest:
    """Return the digest under which the bytes lie: that of the link if it is an alias in another algorithm."""
    if link is None or link.digest is None or _algorithm(link.digest) == _algorithm(digest):
        return digest
    return link.digest


def _algorithm(digest: Digest) -> str:
    return digest.partition(":")[0]


def _needed(contents: Contents | Illegible | None) -> Iterator[Needed]:
    if isinstance(contents, Contents):
        yield from contents.needed


def _manifests_of(repository: RepositoryRead, blobs: BlobsRead) -> list[Digest]:
    """Return the manifests that the repository serves or should: its revisions, and those linked as layers only."""
    found = set(repository.revisions)
    waiting = [*found, *(link.digest for link in repository.currents.values() if link.digest is not None)]
    while waiting:
        digest = waiting.pop()
        link = repository.revisions.get(digest) or repository.layers.get(digest)
        if link is None:
            continue
        found.add(digest)
        waiting += [
            each.digest
            for each in _needed(blobs.contents.get(link_target(digest, link)))
            if each.role == "child" and each.digest not in found
        ]
    return sorted(found)


def _holds(link: Link) -> str:
    return "is empty" if link.size_bytes == 0 else f"holds {link.size_bytes} bytes that are no digest"


def _named(tags: Sequence[TagName], manifests: Sequence[Digest], repository: str) -> str:
    """Say what cannot be pulled."""
    if tags:
        shown = ", ".join(f"{repository}:{tag}" for tag in tags[:SHOWN])
        more = f" and {len(tags) - SHOWN} more tags" if len(tags) > SHOWN else ""
        return f"Cannot be pulled: {shown}{more}."
    if manifests:
        more = f" and {len(manifests) - 1} more manifests" if len(manifests) > 1 else ""
        return f"Cannot be pulled, though no tag points to it: {repository}@{manifests[0]}{more}."
    return ""


class _Judge:
    """The findings of one repository."""

    def __init__(self, repository: RepositoryRead, blobs: BlobsRead) -> None:
        self._read = repository
        self._name = repository.name
        self._blobs = blobs
        self._tags: dict[Digest, list[TagName]] = {}
        for tag, link in repository.currents.items():
            if link.digest is not None:
                self._tags.setdefault(link.digest, []).append(tag)
        self._known = _manifests_of(repository, blobs)
        self._parents: dict[Digest, list[Digest]] = {}
        for digest in self._known:
            for each in _needed(blobs.contents.get(digest)):
                if each.role == "child":
                    self._parents.setdefault(each.digest, []).append(digest)

    # -- tags

    def tags(self) -> Iterator[Finding]:
        """What is wrong with tags themselves: their links, and where these point to nothing."""
        for tag in sorted({*self._read.currents, *self._read.histories}):
            link = self._read.currents.get(tag)
            history = self._read.histories.get(tag, {})
            if link is None or link.digest is None:
                yield self._without_target(tag, link, history)
            elif self._link_of_manifest(link.digest) is None:
                yield self._dangling(tag, link.digest)
            if link is not None and link.digest is not None and link.digest not in history:
                yield self._not_in_history(tag, link.digest)
            for digest, entry in history.items():
                if entry.digest != digest:
                    yield self._history_unreadable(tag, digest, entry)

    def _without_target(self, tag: TagName, link: Link | None, history: Mapping[Digest, Link]) -> Finding:
        newest = _newest(history)
        hint = "" if newest is None else f" The newest digest in its history is {newest}."
        missing = link is None
        return Finding(
            code=Code.TAG_LINK_MISSING if missing else Code.TAG_LINK_UNREADABLE,
            severity=Severity.DAMAGED,
            path=path_of(TagCurrent(self._name, tag)),
            repository=self._name,
            tag=tag,
            digest=newest,
            tags=(tag,),
            text=f"The link that says what the tag points to {'is not there' if link is None else _holds(link)}."
            f" {_named((tag,), (), self._name)}{hint}",
            advice="Push the tag again. To stay with a digest of its history, check that it is the right one, and tag "
            "it by its digest."
            + ("" if missing else " Until then the registry's garbage-collect may stop at this link."),
        )

    def _dangling(self, tag: TagName, digest: Digest) -> Finding:
        stored = digest in self._blobs.sizes and digest not in self._blobs.wrong
        return Finding(
            code=Code.TAG_DANGLING,
            severity=Severity.DAMAGED,
            path=path_of(TagCurrent(self._name, tag)),
            repository=self._name,
            tag=tag,
            digest=digest,
            tags=(tag,),
            text=f"The tag points to {digest}, which the repository does not have. {_named((tag,), (), self._name)} "
            + ("The manifest's bytes are still stored." if stored else "The manifest's bytes are gone, too."),
            advice="Push the tag again"
            + (", or put the manifest back by its bytes" if stored else "")
            + ". If it was deleted on purpose, delete the tag.",
        )

    def _not_in_history(self, tag: TagName, digest: Digest) -> Finding:
        return Finding(
            code=Code.TAG_NOT_IN_HISTORY,
            severity=Severity.HARMLESS,
            path=path_of(TagIndex(self._name, tag, digest)),
            repository=self._name,
            tag=tag,
            digest=digest,
            text=f"The tag points to {digest}, and its history does not have that digest. A push writes both: either "
            "the link was changed by something else than the registry, or the entry was removed.",
            advice="Check that the tag points to what it should. A push of the tag writes the entry again.",
        )

    def _history_unreadable(self, tag: TagName, digest: Digest, entry: Link) -> Finding:
        what = _holds(entry) if entry.digest is None else f"holds another digest, {entry.digest}"
        return Finding(
            code=Code.TAG_HISTORY_UNREADABLE,
            severity=Severity.HARMLESS,
            path=path_of(TagIndex(self._name, tag, digest)),
            repository=self._name,
            tag=tag,
            digest=digest,
            text=f"The entry of {digest} in the tag's history {what}. The registry serves nothing from it.",
            advice=self._repair_advice(digest),
            rewrite=digest if self._is_sound(digest) else None,
        )

    # -- manifests

    def manifests(self) -> Iterator[Finding]:
        """What is wrong with manifests: their links, their bytes, and children that are not there."""
        for digest in self._known:
            link = self._link_of_manifest(digest)
            if link is None:
                continue
            if digest in self._read.revisions and not is_right(digest, link):
                yield self._manifest_link(digest, link)
            yield from self._manifest_bytes(digest, link_target(digest, link))
        for child in sorted(self._parents):
            if self._link_of_manifest(child) is None:
                yield self._child_missing(child)

    def _link_of_manifest(self, digest: Digest) -> Link | None:
        return self._read.revisions.get(digest) or self._read.layers.get(digest)

    def _manifest_link(self, digest: Digest, link: Link) -> Finding:
        affected = self._affected([digest])
        code = Code.MANIFEST_LINK_UNREADABLE if link.digest is None else Code.MANIFEST_LINK_WRONG
        path = path_of(Revision(self._name, digest))
        follows = _named(*affected, self._name)
        return self._spoiled(
            digest,
            link,
            affected,
            code=code,
            path=path,
            of_what="manifest",
            severity=Severity.DAMAGED,
            follows=follows,
        )

    def _spoiled(
        self,
        digest: Digest,
        link: Link,
        affected: _Affected,
        *,
        code: Code,
        path: str,
        of_what: str,
        severity: Severity,
        follows: str,
    ) -> Finding:
        """Return the finding of a link whose path says what it must hold, and that holds something else."""
        wrong = link.digest is not None
        return Finding(
            code=code,
            severity=severity,
            path=path,
            repository=self._name,
            digest=digest,
            tags=affected[0],
            manifests=affected[1],
            text=f"The repository's link to the {of_what} {digest} "
            + (f"holds another digest, {link.digest}: that is served" if wrong else _holds(link))
            + f". {follows}",
            advice=self._repair_advice(digest) + ("" if wrong else GC_STOPS),
            rewrite=digest if self._is_sound(digest) else None,
        )

    def _manifest_bytes(self, digest: Digest, target: Digest) -> Iterator[Finding]:
        contents = self._blobs.contents.get(target)
        is_served = False
        if target not in self._blobs.sizes:
            code, what = Code.MANIFEST_MISSING, f"The bytes of the manifest {digest} are not stored."
        elif target in self._blobs.wrong:
            code, what = (
                Code.MANIFEST_WRONG_CONTENT,
                f"The stored bytes of the manifest {digest} do not hash to it.",
            )
        elif isinstance(contents, Illegible):
            code, what = (
                Code.MANIFEST_UNREADABLE,
                f"The manifest {digest} has the right bytes, and cannot be read: {contents.reason}.",
            )
            is_served = not contents.is_none
        else:
            return
        affected = self._affected([digest])
        advice = {
            Code.MANIFEST_MISSING: PUSH_AGAIN + " What only this manifest needed is garbage by now.",
            Code.MANIFEST_WRONG_CONTENT: REMOVE_AND_PUSH,
            Code.MANIFEST_UNREADABLE: "Find out who pushed it, and how. Its layers cannot be judged.",
        }[code]
        yield Finding(
            code=code,
            severity=Severity.HARMLESS if is_served else Severity.DAMAGED,
            path=path_of(Blob(target)),
            repository=self._name,
            digest=digest,
            tags=affected[0],
            manifests=affected[1],
            text=what + (f" {_named(*affected, self._name)}" if code is not Code.MANIFEST_UNREADABLE else ""),
            advice=advice,
        )

    def _child_missing(self, child: Digest) -> Finding:
        parents = self._parents[child]
        affected = self._affected(parents)
        platform = next(
            (
                each.platform
                for parent in parents
                for each in _needed(self._blobs.contents.get(parent))
                if each.digest == child and each.platform
            ),
            "",
        )
        return Finding(
            code=Code.CHILD_MISSING,
            severity=Severity.DAMAGED,
            path=path_of(Revision(self._name, child)),
            repository=self._name,
            digest=child,
            tags=affected[0],
            manifests=affected[1],
            text=f"An index refers to the manifest {child}{f' ({platform})' if platform else ''}, which the repository "
            f"does not have. {_named(*affected, self._name)} Other platforms of it can.",
            advice="Push the image again for all platforms. If the index was pushed without this one on purpose (3.x: "
            "`validation.manifests.indexes`), nothing is to be done.",
        )

    # -- blobs

    def blobs(self) -> Iterator[Finding]:
        """What is wrong with configs and layers that manifests need."""
        needed: dict[Digest, list[tuple[Digest, Needed]]] = {}
        for manifest in self._known:
            contents = self._blobs.contents.get(link_target(manifest, self._link_of_manifest(manifest)))
            for each in _needed(contents):
                if each.role == "child":
                    continue
                if (
                    isinstance(contents, Contents)
                    and each.digest in contents.elsewhere
                    and each.digest not in self._read.layers
                ):
                    continue
                needed.setdefault(each.digest, []).append((manifest, each))
        self._needed_blobs = frozenset(needed)
        for digest, users in sorted(needed.items()):
            yield from self._blob(digest, users)

    def _blob(self, digest: Digest, users: Sequence[tuple[Digest, Needed]]) -> Iterator[Finding]:
        link = self._read.layers.get(digest)
        target = link_target(digest, link)
        affected = self._affected([manifest for manifest, _ in users])
        role = users[0][1].role
        pulled = _named(*affected, self._name)
        if link is not None and not is_right(digest, link):
            yield self._blob_link(digest, link, affected, Severity.DAMAGED, pulled)
        size = self._blobs.sizes.get(target)
        if size is None:
            yield self._of_blob(
                Code.BLOB_MISSING,
                digest,
                affected,
                target=target,
                text=f"The {role} {digest} is not stored. {pulled}",
                advice=PUSH_AGAIN,
            )
            return
        if link is None:
            yield Finding(
                code=Code.BLOB_LINK_MISSING,
                severity=Severity.DAMAGED,
                path=path_of(LayerLink(self._name, digest)),
                repository=self._name,
                digest=digest,
                tags=affected[0],
                manifests=affected[1],
                text=f"The {role} {digest} is stored, and the repository has no link to it, so it does not serve it. "
                + pulled,
                advice="Push the image again, or mount the blob from a repository that has it. A 3.x garbage-collect "
                "that ran beside a push removes such links.",
            )
        if target in self._blobs.wrong:
            yield self._of_blob(
                Code.BLOB_WRONG_CONTENT,
                digest,
                affected,
                target=target,
                text=f"The stored bytes of the {role} {digest} do not hash to it; there are {size}. {pulled}",
                advice=REMOVE_AND_PUSH,
            )
            return
        for manifest, each in users:
            if each.size_bytes not in (None, size):
                yield self._of_blob(
                    Code.BLOB_SIZE_DIFFERS,
                    digest,
                    self._affected([manifest]),
                    target=target,
                    text=f"The manifest {manifest} says that the {role} {digest} has {each.size_bytes} bytes. It has "
                    f"{size}, and they are the right ones. Some clients refuse the image.",
                    advice="Nothing is damaged. Push the image again by a client that states the size right.",
                    severity=Severity.HARMLESS,
                )
                return

    def _of_blob(
        self,
        code: Code,
        digest: Digest,
        affected: _Affected,
        *,
        target: Digest,
        text: str,
        advice: str,
        severity: Severity = Severity.DAMAGED,
    ) -> Finding:
        return Finding(
            code=code,
            severity=severity,
            path=path_of(Blob(target)),
            repository=self._name,
            digest=digest,
            tags=affected[0],
            manifests=affected[1],
            text=text.rstrip(),
            advice=advice,
        )

    def _blob_link(
        self, digest: Digest, link: Link, affected: _Affected, severity: Severity, pulled: str
    ) -> Finding:
        code = Code.BLOB_LINK_UNREADABLE if link.digest is None else Code.BLOB_LINK_WRONG
        path = path_of(LayerLink(self._name, digest))
        return self._spoiled(
            digest, link, affected, code=code, path=path, of_what="blob", severity=severity, follows=pulled
        )

    def unneeded_links(self) -> Iterator[Finding]:
        """What is wrong with links to blobs that no manifest of the repository needs. Nothing is lost by it."""
        for digest, link in sorted(self._read.layers.items()):
            if digest in self._needed_blobs or digest in self._known:
                continue
            if not is_right(digest, link):
                yield self._blob_link(
                    digest, link, ((), ()), Severity.HARMLESS, "No manifest of the repository needs it."
                )
            elif link_target(digest, link) not in self._blobs.sizes:
                yield Finding(
                    code=Code.BLOB_LINK_TO_NOTHING,
                    severity=Severity.HARMLESS,
                    path=path_of(LayerLink(self._name, digest)),
                    repository=self._name,
                    digest=digest,
                    text=f"The repository links the blob {digest}, which is not stored. None of its manifests "
                    "needs it. A 2.8 garbage-collect leaves such links.",
                    advice="Nothing has to be done. A 3.x garbage-collect removes the link.",
                )

    def uploads_left(self, now: datetime) -> Finding | None:
        """Uploads that are older than the registry's own purge lets them get."""
        left = [each for each in self._read.uploads if now - each.modified_at >= UPLOAD_LEFT_AFTER]
        if not left:
            return None
        size = sum(each.size_bytes for each in left)
        return Finding(
            code=Code.UPLOAD_LEFT,
            severity=Severity.HARMLESS,
            path=f"{repository_directory(self._name)}/_uploads",
            repository=self._name,
            text=f"{len(left)} uploads of {self._name} were begun and not finished, and not touched for a week: "
            f"{size} bytes.",
            advice="The registry's own purge removes them: see `storage.maintenance.uploadpurging` in its "
            "configuration. A read-only registry does not purge.",
        )

    # -- what follows

    def _affected(self, digests: Iterable[Digest]) -> _Affected:
        """Return tags and manifests of the repository that need one of these, through any number of indexes."""
        found: set[Digest] = set()
        waiting = list(digests)
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self._parents.get(digest, ())
        tags = {tag for digest in found for tag in self._tags.get(digest, ())}
        return tuple(sorted(tags)), tuple(sorted(found))

    def _repair_advice(self, digest: Digest) -> str:
        return REPAIR if self._is_sound(digest) else PUSH_AGAIN

    def _is_sound(self, digest: Digest) -> bool:
        return digest in self._blobs.sizes and digest not in self._blobs.wrong


def is_right(digest: Digest, link: Link) -> bool:
    """Tell whether a link holds the digest that its path names, or an alias of it in another algorithm."""
    return link.digest is not None and (
        link.digest == digest or _algorithm(link.digest) != _algorithm(digest)
    )


def _newest(history: Mapping[Digest, Link]) -> Digest | None:
    """Return what was pushed last by a tag's history; None if that is not certain."""
    dated = sorted(
        ((each.modified_at, digest) for digest, each in history.items() if each.modified_at is not None),
        reverse=True,
    )
    if not dated or len(dated) != len(history) or (len(dated) > 1 and dated[0][0] == dated[1][0]):
        return None
    return dated[0][1]


SHOWN: Final = 3
"""So many tags are named in a sentence; all of them are members of the finding."""
REPAIR: Final = (
    "`reconciler storage check --repair --yes` writes the link again: its path says what it must hold."
)
GC_STOPS: Final = " Until then the registry's garbage-collect may stop at this link."
PUSH_AGAIN: Final = "Push the image again, or restore the file from a backup of the storage."
REMOVE_AND_PUSH: Final = (
    "Remove the file, then push the image again, or restore the file from a backup. While the file lies there, the "
    "registry takes a push of it as done and keeps the wrong bytes."
)

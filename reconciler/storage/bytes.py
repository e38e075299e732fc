"""What the bytes in a storage belong to. Pure.

- *stored*: every blob once, with the size of its file. Manifests are blobs, too.
- *referenced*: blobs that a manifest refers to which a repository links, and these manifests. The registry's own
  collection, without ``--delete-untagged``, keeps exactly these.
- *unreferenced*: stored, and not referenced. So stored = referenced + unreferenced.
- of a repository or a prefix of names: *referenced* by its manifests; *exclusive*: by no manifest outside of it;
  *shared*: referenced, not exclusive; *attributed*: each blob divided by the number of repositories that refer to it,
  so that the repositories' figures add up to all that is referenced.
- of a tag: *referenced* by its manifest, what an index contains, and what is attached to these by ``subject``;
  *exclusive*: what no other tag, and no untagged manifest that is not part of it, refers to, in any repository. It is
  freed if exactly this tag is deleted with its manifests, and garbage is collected then. *attributed*: each blob
  divided by the number of tagged digests, and of untagged manifests that belong to none, which refer to it; tags of one
  digest share its part. These figures add up to all that is referenced, too.

Exclusive bytes do not add up: of two tags with one layer of their own neither has it exclusively, both together do.

The referenced bytes are also divided by why they are kept, each blob by the first that holds: ``tagged``, ``children``
(of tagged indexes), ``referrers`` (of these), ``old`` (a tag pointed there once), ``untagged`` (pushed by digest).
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.storage.contents import Contents, Illegible

NOBODY: Final = -1
MANY: Final = -2


class Kept(IntEnum):
    """Why a blob is referenced: the first of these that holds."""

    TAGGED = 0
    CHILDREN = 1
    REFERRERS = 2
    OLD = 3
    UNTAGGED = 4


AGES: Final = (("7d", timedelta(days=7)), ("30d", timedelta(days=30)), ("90d", timedelta(days=90)))
"""Old revisions are summed by how long ago they were pushed last under a tag: less than each of these, or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a repository links. ``history``: digests that its tags had, with the time of the last push under one."""

    name: RepositoryName
    tags: Mapping[TagName, Digest] = field(default_factory=dict)
    history: Mapping[Digest, datetime] = field(default_factory=dict)
    revisions: AbstractSet[Digest] = frozenset()


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes of a repository or a prefix of names. ``repositories``: how many lie below a prefix, or 1."""

    name: str
    repositories: int
    referenced_bytes: int
    exclusive_bytes: int
    attributed_bytes: int
    tags: int
    manifests: int

    @property
    def shared_bytes(self) -> int:
        """What others refer to as well."""
        return self.referenced_bytes - self.exclusive_bytes


@dataclass(frozen=True, slots=True)
class RootShare:
    """Bytes of a digest that tags point to. ``exclusive_bytes``: of all its tags together."""

    repository: RepositoryName
    digest: Digest
    referenced_bytes: int
    exclusive_bytes: int
    attributed_bytes: int


@dataclass(slots=True)
class Roots:
    """The digests that tags point to: some 60 bytes for each, and a :class:`RootShare` only while it is looked at.

    ``figures``: referenced, exclusive and attributed bytes, by the numbers of roots.
    """

    repositories: list[RepositoryName] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("i"))
    figures: tuple[array[int], array[int], array[int]] = field(
        default_factory=lambda: (array("q"), array("q"), array("q"))
    )

    def add(self, repository: RepositoryName, digest: Digest, number: int) -> None:
        """Add a digest."""
        self.repositories.append(repository)
        self.digests.append(digest)
        self.numbers.append(number)

    def __iter__(self) -> Iterator[RootShare]:
        referenced, exclusive, attributed = self.figures
        for repository, digest, number in zip(self.repositories, self.digests, self.numbers, strict=True):
            yield RootShare(repository, digest, referenced[number], exclusive[number], attributed[number])


@dataclass(frozen=True, slots=True)
class TagShare:
    """Bytes of a tag. ``siblings``: other tags of the repository on the same digest, which keep all of it."""

    repository: RepositoryName
    tag: TagName
    digest: Digest
    referenced_bytes: int
    exclusive_bytes: int
    attributed_bytes: int
    siblings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Bytes of the whole storage. ``kept``: of why each referenced blob is kept. ``old``: by age, see ``AGES``."""

    stored_bytes: int
    stored_blobs: int
    referenced_bytes: int
    referenced_blobs: int
    kept: Mapping[Kept, int]
    old: Mapping[str, int]
    missing: int
    """Digests that manifests need, and that are not stored."""

    @property
    def unreferenced_bytes(self) -> int:
        """What a collection of garbage frees."""
        return self.stored_bytes - self.referenced_bytes

    @property
    def unreferenced_blobs(self) -> int:
        """The number of these blobs."""
        return self.stored_blobs - self.referenced_blobs


@dataclass(frozen=True, slots=True)
class Waiting:
    """Blobs that are needed to put deleted tags back, and that no tag keeps. ``unreferenced_bytes``: of these."""

    blobs: int
    bytes: int
    unreferenced_bytes: int


@dataclass(slots=True)
class _Sum:
    repositories: int = 0
    referenced: int = 0
    exclusive: int = 0
    attributed: int = 0
    tags: int = 0
    manifests: int = 0


class Accounts:
    """Sums up repository by repository, so that only one is in memory: :meth:`add` in the order of :func:`in_order`.

    Takes some 60 bytes for each blob, 8 for each blob of each repository, and 4 for each blob of each tagged digest.
    """

    def __init__(self, sizes: Mapping[Digest, int], *, now: datetime, with_tags: bool = False) -> None:
        self._number: dict[Digest, int] = {digest: at for at, digest in enumerate(sizes)}
        self._sizes = array("q", sizes.values())
        count = len(self._sizes)
        self._kept = array("b", [NOBODY]) * count
        self._age = array("b", [NOBODY]) * count
        self._owners = array("i", [0]) * count
        self._last = array("i", [NOBODY]) * count
        self._common: list[tuple[str, ...] | None] = [None] * count
        self._root = array("i", [NOBODY]) * count
        self._roots_of = array("i", [0]) * count
        self._now = now
        self._with_tags = with_tags
        self._names: list[tuple[str, ...]] = []
        self._blobs: list[array[int]] = []
        self._sums: dict[tuple[str, ...], _Sum] = {(): _Sum()}
        self._exclusive_of_root = array("q")
        self._referenced_of_root = array("q")
        self._blobs_of_roots = array("i")
        self._end_of_root = array("q")
        self._tagged = Roots()
        self._tags: list[tuple[RepositoryName, TagName, Digest, int, int, int]] = []
        self._missing: set[Digest] = set()
        self._elsewhere: set[Digest] = set()

    def add(self, holdings: Holdings, contents: Mapping[Digest, Contents | Illegible]) -> None:
        """Add a repository. ``contents``: of its revisions; what could not be read refers to nothing."""
        name = _path_of(holdings.name)
        at = len(self._names)
        if at and self._names[-1] >= name:
            raise ValueError(f"{holdings.name} comes after {_text(self._names[-1])}: see in_order")
        self._names.append(name)
        paths = [name[:depth] for depth in range(len(name) + 1)]
        for path in paths:
            of_path = self._sums.setdefault(path, _Sum())
            of_path.repositories += 1
            of_path.tags += len(holdings.tags)
            of_path.manifests += len(holdings.revisions)
        graph = _Graph(holdings, contents)
        for read in contents.values():
            if isinstance(read, Contents):
                self._elsewhere |= read.elsewhere
        blobs: set[int] = set()
        for digest in holdings.revisions:
            blobs.update(self._numbers(graph.direct(digest)))
        for blob in blobs:
            self._own(blob, at, name, paths)
        self._blobs.append(array("i", sorted(blobs)))
        self._explain(graph)
        self._roots(holdings, graph)

    def _numbers(self, digests: Iterable[Digest]) -> Iterator[int]:
        for digest in digests:
            number = self._number.get(digest)
            if number is None:
                self._missing.add(digest)
            else:
                yield number

    def _own(self, blob: int, at: int, name: tuple[str, ...], paths: Sequence[tuple[str, ...]]) -> None:
        size = self._sizes[blob]
        last = self._last[blob]
        common = self._common[blob]
        new_from = 0
        if last != NOBODY:
            new_from = _depth(self._names[last], name) + 1
            assert common is not None  # noqa: S101 - tells mypy
            name = common[: _depth(common, name)]
        for path in paths[new_from:]:
            self._sums[path].referenced += size
        self._common[blob] = name
        self._last[blob] = at
        self._owners[blob] += 1

    def _explain(self, graph: _Graph) -> None:
        for kept, digest, pushed_at in graph.explained():
            age = 0 if pushed_at is None else _age(self._now - pushed_at)
            for blob in self._numbers(graph.own(digest)):
                before = self._kept[blob]
                if before == NOBODY or kept < before:
                    self._kept[blob] = kept
                    self._age[blob] = age
                elif kept == before and age < self._age[blob]:
                    self._age[blob] = age

    def _roots(self, holdings: Holdings, graph: _Graph) -> None:
        """Count what each tagged digest, and each untagged manifest that belongs to none, refers to alone."""
        by_digest: dict[Digest, list[TagName]] = {}
        for tag, digest in sorted(holdings.tags.items()):
            by_digest.setdefault(digest, []).append(tag)
        for root in [*by_digest, *graph.untagged_roots()]:
            number = len(self._exclusive_of_root)
            self._exclusive_of_root.append(0)
            family = {blob for digest in graph.family(root) for blob in self._numbers(graph.direct(digest))}
            self._referenced_of_root.append(sum(self._sizes[blob] for blob in family))
            self._blobs_of_roots.extend(family)
            self._end_of_root.append(len(self._blobs_of_roots))
            for blob in family:
                size = self._sizes[blob]
                self._roots_of[blob] += 1
                owner = self._root[blob]
                if owner == NOBODY:
                    self._root[blob] = number
                    self._exclusive_of_root[number] += size
                elif owner >= 0:
                    self._root[blob] = MANY
                    self._exclusive_of_root[owner] -= size
            tags = by_digest.get(root)
            if tags is None:
                continue
            self._tagged.add(holdings.name, root, number)
            if self._with_tags:
                self._tags += [
                    (holdings.name, tag, root, number, at, len(tags)) for at, tag in enumerate(tags)
                ]

    def totals(self) -> Totals:
        """Return the figures of the whole storage."""
        kept = dict.fromkeys(Kept, 0)
        ages = dict.fromkeys([*(name for name, _ in AGES), "older"], 0)
        names = [*ages]
        for size, why, age in zip(self._sizes, self._kept, self._age, strict=True):
            if why != NOBODY:
                kept[Kept(why)] += size
                if why == Kept.OLD:
                    ages[names[age]] += size
        return Totals(
            stored_bytes=sum(self._sizes),
            stored_blobs=len(self._sizes),
            referenced_bytes=self._sums[()].referenced,
            referenced_blobs=sum(1 for owners in self._owners if owners),
            kept=kept,
            old=ages,
            missing=len(self._missing - self._elsewhere),
        )

    def unreferenced(self, most: int) -> list[Digest]:
        """Return blobs that nothing refers to, at most so many, those with the first digests."""
        found = (digest for digest, number in self._number.items() if not self._owners[number])
        return heapq.nsmallest(most, found)

    def shares(self) -> tuple[list[Share], list[Share]]:
        """Return the figures of repositories, and of prefixes with several (``team`` of ``team/app``), by name."""
        for each in self._sums.values():
            each.exclusive = each.attributed = 0
        for size, common in zip(self._sizes, self._common, strict=True):
            if common is not None:
                for depth in range(len(common) + 1):
                    self._sums[common[:depth]].exclusive += size
        given = array("i", [0]) * len(self._sizes)
        for name, blobs in zip(self._names, self._blobs, strict=True):
            attributed = 0
            for blob in blobs:
                share, rest = divmod(self._sizes[blob], self._owners[blob])
                attributed += share + (given[blob] < rest)
                given[blob] += 1
            for depth in range(len(name) + 1):
                self._sums[name[:depth]].attributed += attributed
        repositories = [self._share(name) for name in self._names]
        prefixes = [
            self._share(path)
            for path, each in sorted(self._sums.items())
            if path and path[-1] and each.repositories > 1
        ]
        return repositories, prefixes

    def _share(self, path: tuple[str, ...]) -> Share:
        each = self._sums[path]
        return Share(
            name=_text(path),
            repositories=each.repositories,
            referenced_bytes=each.referenced,
            exclusive_bytes=each.exclusive,
            attributed_bytes=each.attributed,
            tags=each.tags,
            manifests=each.manifests,
        )

    def _attributed_of_root(self) -> array[int]:
        given = array("i", [0]) * len(self._sizes)
        found = array("q")
        start = 0
        for end in self._end_of_root:
            attributed = 0
            for blob in self._blobs_of_roots[start:end]:
                share, rest = divmod(self._sizes[blob], self._roots_of[blob])
                attributed += share + (given[blob] < rest)
                given[blob] += 1
            found.append(attributed)
            start = end
        return found

    def tagged(self) -> tuple[Roots, list[TagShare]]:
        """Return the figures of digests that tags point to, and of tags, if they were asked for; by repository."""
        attributed = self._attributed_of_root()
        roots = self._tagged
        roots.figures = (self._referenced_of_root, self._exclusive_of_root, attributed)
        tags = []
        for repository, tag, digest, root, at, count in self._tags:
            share, rest = divmod(attributed[root], count)
            tags.append(
                TagShare(
                    repository,
                    tag,
                    digest,
                    self._referenced_of_root[root],
                    self._exclusive_of_root[root] if count == 1 else 0,
                    share + (at < rest),
                    count - 1,
                )
            )
        return roots, tags

    def waiting(self, digests: Iterable[Digest]) -> Waiting:
        """Return what only old and untagged manifests, or nothing, keep of some blobs: those that the trash needs."""
        found = {number for digest in digests if (number := self._number.get(digest)) is not None}
        left = [number for number in found if self._kept[number] in {NOBODY, Kept.OLD, Kept.UNTAGGED}]
        return Waiting(
            blobs=len(left),
            bytes=sum(self._sizes[number] for number in left),
            unreferenced_bytes=sum(self._sizes[number] for number in left if not self._owners[number]),
        )


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of repositories in the order that :meth:`Accounts.add` needs: those below a prefix side by side."""
    return sorted(names, key=_path_of)


class _Graph:
    """What refers to what in one repository."""

    def __init__(self, holdings: Holdings, contents: Mapping[Digest, Contents | Illegible]) -> None:
        self._holdings = holdings
        self._contents = contents
        self._referrers: dict[Digest, list[Digest]] = {}
        for digest in holdings.revisions:
            read = contents.get(digest)
            if isinstance(read, Contents) and read.subject is not None:
                self._referrers.setdefault(read.subject, []).append(digest)

    def direct(self, digest: Digest) -> set[Digest]:
        """Return a manifest and what it refers to: what the registry's collection marks for it."""
        return {digest, *self._refers(digest)}

    def own(self, digest: Digest) -> set[Digest]:
        """Return the same without the children that the repository has, which stand for themselves."""
        return {digest, *self._refers(digest, without_children=True)}

    def _refers(self, digest: Digest, *, without_children: bool = False) -> Iterator[Digest]:
        read = self._contents.get(digest)
        if not isinstance(read, Contents):
            return
        for each in read.needed:
            if not (without_children and each.role == "child" and each.digest in self._holdings.revisions):
                yield each.digest

    def with_children(self, roots: Iterable[Digest]) -> set[Digest]:
        """Return manifests of the repository with what indexes among them contain, at any depth."""
        found: set[Digest] = set()
        waiting = [each for each in roots if each in self._holdings.revisions]
        while waiting:
            digest = waiting.pop()
            if digest in found:
                continue
            found.add(digest)
            read = self._contents.get(digest)
            if isinstance(read, Contents):
                waiting += [
                    each.digest
                    for each in read.needed
                    if each.role == "child" and each.digest in self._holdings.revisions
                ]
        return found

    def family(self, *roots: Digest) -> set[Digest]:
        """Return manifests with what indexes contain and what is attached to any of these."""
        found: set[Digest] = set()
        waiting = set(roots)
        while waiting:
            more = self.with_children(waiting) - found
            found |= more
            waiting = {each for digest in more for each in self._referrers.get(digest, ())} - found
        return found

    def explained(self) -> Iterator[tuple[Kept, Digest, datetime | None]]:
        """Say of each manifest of the repository why it is kept."""
        tagged = {each for each in self._holdings.tags.values() if each in self._holdings.revisions}
        contained = self.with_children(tagged)
        done = self.family(*tagged)
        yield from ((Kept.TAGGED, digest, None) for digest in tagged)
        yield from ((Kept.CHILDREN, digest, None) for digest in contained - tagged)
        yield from ((Kept.REFERRERS, digest, None) for digest in done - contained)
        newest_first = sorted(
            self._holdings.history.items(), key=lambda each: (each[1], each[0]), reverse=True
        )
        for old, pushed_at in newest_first:
            more = self.family(old) - done
            done |= more
            yield from ((Kept.OLD, digest, pushed_at) for digest in more)
        yield from ((Kept.UNTAGGED, digest, None) for digest in self._holdings.revisions - done)

    def untagged_roots(self) -> list[Digest]:
        """Return the untagged manifests that are no part of anything else in the repository."""
        parts = self.family(*self._holdings.tags.values())
        rest = self._holdings.revisions - parts
        inner = {part for digest in rest for part in self.family(digest) if part != digest}
        return sorted(rest - inner)


def _path_of(name: str) -> tuple[str, ...]:
    """Return the path of a repository in the tree of names; "" ends it, so that ``a`` and ``a/b`` are side by side."""
    return (*name.split("/"), "")


def _text(path: Sequence[str]) -> str:
    return "/".join(part for part in path if part)


def _depth(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many components are alike from the start."""
    for at, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return at
    return min(len(one), len(other))


def _age(since: timedelta) -> int:
    return next((at for at, (_, limit) in enumerate(AGES) if since < limit), len(AGES))

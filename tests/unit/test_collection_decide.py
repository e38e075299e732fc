"""What a collection deletes, fails at and keeps, as each release does it."""

from __future__ import annotations

import dataclasses

import pytest

from indexer.oci.digest import Digest
from reconciler.collection.decide import Abort, Because, Collection, Drivers, Mode, collect
from reconciler.collection.references import Release, read_references
from reconciler.collection.snapshot import Blob, Link, Links, Repository, Snapshot
from tests.simulators.layouts import Stored, digest_of, image, index, referrer, schema1

V2_UNTAGGED = Mode(Release.V2, delete_untagged=True)
V3_UNTAGGED = Mode(Release.V3, delete_untagged=True)


@dataclasses.dataclass
class World:
    """A storage in memory, to push to."""

    blobs: dict[str, bytes] = dataclasses.field(default_factory=dict)
    revisions: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    layers: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    tags: dict[str, dict[str, Link]] = dataclasses.field(default_factory=dict)
    odd: dict[str, dict[str, Link]] = dataclasses.field(default_factory=dict)

    def push(self, name: str, stored: Stored, *tags: str) -> Digest:
        self.revisions.setdefault(name, set())
        for each in stored.blobs:
            self.blobs[digest_of(each)] = each
            self.layers.setdefault(name, set()).add(digest_of(each))
        for child in stored.children:
            self.push(name, child)
        self.blobs[stored.digest] = stored.data
        self.revisions[name].add(stored.digest)
        for tag in tags:
            self.tags.setdefault(name, {})[tag] = Digest(stored.digest)
        return Digest(stored.digest)

    def collect(self, mode: Mode, **changed: object) -> Collection:
        repositories = tuple(
            dataclasses.replace(
                Repository(
                    name=name,
                    has_tags=name in self.tags,
                    revisions=Links(frozenset(map(Digest, links)), self.odd.get(name, {})),
                    layers=Links(frozenset(map(Digest, self.layers.get(name, ())))),
                    tags=self.tags.get(name, {}),
                ),
                **changed,  # type: ignore[arg-type]
            )
            for name, links in self.revisions.items()
        )
        snapshot = Snapshot(
            repositories=repositories,
            blobs={Digest(digest): Blob(len(data)) for digest, data in self.blobs.items()},
            contents={
                Digest(digest): read_references(data, mode.release) for digest, data in self.blobs.items()
            },
        )
        return collect(snapshot, mode)


def digests(stored: Stored) -> set[str]:
    """The digests of a manifest and of everything that it refers to."""
    found = {stored.digest, *(digest_of(each) for each in stored.blobs)}
    return found.union(*(digests(each) for each in stored.children))


A, B, C = image("a"), image("b"), image("c", layers=(b"shared",))
MODES = pytest.mark.parametrize("release", list(Release))


@MODES
def test_collect__plain(release: Release) -> None:
    """Without --delete-untagged every manifest stays with what it refers to; what none refers to goes."""
    world = World()
    world.push("app", index((A, B)), "v1")
    world.push("app", C)
    world.blobs["sha256:" + "0" * 64] = b""

    found = world.collect(Mode(release))

    assert found.blobs == {"sha256:" + "0" * 64}
    assert found.manifests == frozenset()
    assert {digest for _, digest in found.marked_manifests} == world.revisions["app"]


@MODES
def test_collect__untagged(release: Release) -> None:
    """With --delete-untagged a manifest without a tag goes, with what only it refers to."""
    world = World()
    world.push("app", A, "v1")
    world.push("app", B)

    found = world.collect(Mode(release, delete_untagged=True))

    assert found.manifests == {("app", Digest(B.digest))}
    assert found.blobs == digests(B)
    gone = {("app", digest_of(each)) for each in B.blobs} if release is Release.V3 else set()
    assert found.layer_links == gone


def test_collect__children_of_a_tagged_index() -> None:
    """2.8 deletes the children of a tagged index and their layers; 3.x keeps them, however deep."""
    world = World()
    stored = index((index((A,)), B))
    world.push("app", stored, "v1")

    assert {digest for _, digest in world.collect(V2_UNTAGGED).manifests} == {
        *(each.digest for each in stored.children),
        A.digest,
    }
    assert world.collect(V3_UNTAGGED).manifests == frozenset()
    assert world.collect(V3_UNTAGGED).blobs == frozenset()


@MODES
def test_collect__referrers(release: Release) -> None:
    """Neither release knows that a referrer belongs to its subject."""
    world = World()
    world.push("app", A, "v1")
    attached = world.push("app", referrer("sbom", A))

    assert ("app", attached) in world.collect(Mode(release, delete_untagged=True)).manifests


def test_collect__never_tagged() -> None:
    """A repository that never had a tag ends the collection of 2.8; 3.x takes its blobs and leaves its links."""
    world = World()
    world.push("app", A, "v1")
    world.push("cache", B)

    failed = world.collect(V2_UNTAGGED)
    assert failed.aborts == Abort(Because.NEVER_TAGGED, repository="cache", digest=B.digest)
    assert not failed.blobs
    assert not failed.manifests
    found = world.collect(V3_UNTAGGED)
    assert found.passed_over == {("cache", Digest(B.digest))}
    assert found.manifests == frozenset()
    assert found.blobs == digests(B)


def test_collect__marked_by_a_later_repository() -> None:
    """3.x keeps an untagged manifest that another repository marks, but has given up its layer links by then."""
    world = World()
    world.push("a", A, "keep")
    world.push("a", C)
    world.push("b", C, "v1")

    found = world.collect(V3_UNTAGGED)

    assert found.manifests == frozenset()
    assert found.blobs == frozenset()
    assert found.layer_links == {("a", digest_of(each)) for each in C.blobs}


def test_collect__marked_by_an_earlier_repository() -> None:
    """The other way round the layer links stay: they were marked before."""
    world = World()
    world.push("a", C, "v1")
    world.push("b", A, "keep")
    world.push("b", C)

    assert world.collect(V3_UNTAGGED).layer_links == frozenset()


def test_collect__a_child_that_is_missing_elsewhere() -> None:
    """A child that one repository has lost takes the layers of the same child in a later one with it (3.x)."""
    world = World()
    stored = index((C,))
    world.push("a", stored, "v1")
    world.push("b", stored, "v1")
    whole = world.collect(V3_UNTAGGED)
    world.revisions["a"].remove(C.digest)

    found = world.collect(V3_UNTAGGED)

    assert whole.blobs == frozenset()
    assert found.blobs == {digest_of(each) for each in C.blobs}
    assert world.collect(Mode(Release.V3)).blobs == frozenset()


@pytest.mark.parametrize(
    ("drivers", "expected"),
    [
        (Drivers.TREE, ("a/1", "a", "a/b", "a-b", "ab")),
        (Drivers.KEYS, ("a-b", "a/1", "a", "a/b", "ab")),
    ],
)
def test_collect__order(drivers: Drivers, expected: tuple[str, ...]) -> None:
    """Repositories are read directory by directory, and on S3 by keys."""
    world = World()
    for name in ("ab", "a-b", "a/b", "a", "a/1"):
        world.push(name, A, "v1")

    assert world.collect(Mode(Release.V3, drivers=drivers)).repositories == expected


@MODES
@pytest.mark.parametrize("delete_untagged", [False, True])
def test_collect__a_broken_link(release: Release, delete_untagged: bool) -> None:
    """A revision link that is no digest ends a collection; so does a tag's, where tags are read."""
    world = World()
    world.push("app", A, "v1")
    mode = Mode(release, delete_untagged=delete_untagged)
    world.tags["app"]["broken"] = None

    aborts = world.collect(mode).aborts
    path = "_manifests/tags/broken/current/link"
    assert aborts == (Abort(Because.LINK, repository="app", path=path) if delete_untagged else None)
    world.tags["app"].pop("broken")
    world.odd["app"] = {"sha256/00/link": None}
    aborts = world.collect(mode).aborts
    assert aborts == Abort(Because.LINK, repository="app", path="_manifests/revisions/sha256/00/link")


@pytest.mark.parametrize("drivers", list(Drivers))
def test_collect__without_layers(drivers: Drivers) -> None:
    """Without _layers 3.x fails on a file system; 2.8 knows no such repository, and takes all its blobs."""
    world = World()
    world.push("app", A, "v1")

    found = world.collect(Mode(Release.V3, drivers=drivers), has_layers=False, layers=Links())
    assert (found.aborts is None) is (drivers is Drivers.KEYS)
    assert found.blobs == frozenset()
    assert world.collect(Mode(Release.V2), has_layers=False, layers=Links()).blobs == digests(A)


def test_collect__schema1() -> None:
    """Schema 1 ends a collection of 3.x, not one of 2.8."""
    world = World()
    old = world.push("app", schema1("old"), "v1")

    assert world.collect(Mode(Release.V2)).aborts is None
    found = world.collect(Mode(Release.V3)).aborts
    assert found is not None
    assert (found.because, found.digest) == (Because.SCHEMA1, old)


def test_collect__indexes_without_end() -> None:
    """A thousand indexes in one another, and one whose bytes were exchanged so that it refers to itself, end."""
    world = World()
    nested = [A]
    for _ in range(1500):
        nested.append(index((nested[-1],)))
    for each in nested:
        world.push("app", dataclasses.replace(each, children=()))
    world.tags["app"] = {"v1": Digest(nested[-1].digest)}
    world.blobs[nested[5].digest] = nested[-1].data

    assert world.collect(V3_UNTAGGED).manifests == {("app", Digest(each.digest)) for each in nested[:5]}

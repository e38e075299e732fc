"""What the bytes of a storage belong to: figures against sums made the slow way, and what is easy to get wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from fractions import Fraction

import pytest

from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import RepositoryName
from reconciler.storage.bytes import Accounts, Holdings, Kept, TagShare, in_order
from reconciler.storage.contents import Contents, Illegible
from reconciler.storage.examine import Examined, examine
from reconciler.storage.observe import Reader, holdings_of
from tests.simulators.storage import StoredRegistry, blob_at, sample_registry

SEEDS = range(30)
BIG = b"b" * 10_000


def report(registry: StoredRegistry) -> Examined:
    """Account for a storage, with tags."""
    return examine(Reader(registry.storage), now=registry.now, checking=False, with_tags=True)


def world(
    registry: StoredRegistry,
) -> tuple[list[Holdings], dict[Digest, Contents | Illegible], dict[Digest, int]]:
    """Return everything that was read, at once."""
    reader = Reader(registry.storage)
    reader.list_blobs()
    holdings = [holdings_of(reader.repository(name)) for name in reader.repositories()]
    contents = dict(reader.read_manifests({digest for each in holdings for digest in each.revisions}))
    return holdings, contents, reader.sizes


def referred(digests: Iterable[Digest], contents: dict[Digest, Contents | Illegible]) -> set[Digest]:
    """Return manifests with what each of them names."""
    found = set(digests)
    for digest in list(found):
        each = contents.get(digest)
        if isinstance(each, Contents):
            found |= {need.digest for need in each.needed}
    return found


def freed_by(
    removed: set[tuple[RepositoryName, Digest]],
    holdings: list[Holdings],
    contents: dict[Digest, Contents | Illegible],
    sizes: dict[Digest, int],
) -> int:
    """Return the bytes that a collection frees once these manifests are unlinked, all of them: a set, not a sum."""
    before = {digest for each in holdings for digest in referred(each.revisions, contents)}
    left = [{digest for digest in each.revisions if (each.name, digest) not in removed} for each in holdings]
    after = {digest for digests in left for digest in referred(digests, contents)}
    return sum(sizes.get(digest, 0) for digest in before - after)


def tag_of(found: Examined, repository: str, tag: str) -> TagShare:
    """Return the figures of a tag."""
    (share,) = [each for each in found.tags if (each.repository, each.tag) == (repository, tag)]
    return share


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_nothing_counted_twice(seed: int) -> None:
    """Stored is referenced and unreferenced; the reasons add up to it, and so do repositories' charges."""
    registry = sample_registry(seed)
    registry.storage.files["blobs/README"] = (b"mine", registry.now)
    found = report(registry)
    sizes = {path: len(content) for path, (content, _) in registry.storage.files.items()}
    blobs = sum(size for path, size in sizes.items() if path.endswith("/data") and path.startswith("blobs/"))
    assert found.totals.stored_bytes == blobs
    assert found.totals.stored_bytes == found.totals.referenced_bytes + found.totals.unreferenced_bytes
    assert sum(found.totals.kept.values()) == found.totals.referenced_bytes
    assert sum(found.totals.old.values()) == found.totals.kept[Kept.OLD]
    assert sum(each.attributed_bytes for each in found.repositories) == found.totals.referenced_bytes
    others = found.others
    assert blobs + others.link_bytes + others.upload_bytes + others.unknown_bytes == sum(sizes.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_figures_of_names_against_sets(seed: int) -> None:
    """Referenced and exclusive bytes of each repository and prefix are what sets of digests give."""
    registry = sample_registry(seed)
    found = report(registry)
    holdings, contents, sizes = world(registry)

    def total(digests: set[Digest]) -> int:
        return sum(sizes.get(digest, 0) for digest in digests)

    blobs = {each.name: referred(each.revisions, contents) for each in holdings}
    assert total(set().union(*blobs.values())) == found.totals.referenced_bytes
    shares = [(each, {name for name in blobs if name == each.name}) for each in found.repositories]
    shares += [
        (each, {name for name in blobs if f"{name}/".startswith(f"{each.name}/")}) for each in found.prefixes
    ]
    for share, names in shares:
        mine: set[Digest] = set().union(*(blobs[RepositoryName(name)] for name in names))
        others: set[Digest] = set().union(*(each for name, each in blobs.items() if name not in names))
        assert (share.referenced_bytes, share.exclusive_bytes) == (total(mine), total(mine - others)), share
    assert [each.name for each in found.repositories] == in_order(blobs)
    assert {each.name for each in found.prefixes} == {
        "/".join(name.split("/")[:depth])
        for name in blobs
        for depth in range(1, name.count("/") + 2)
        if sum(f"{other}/".startswith("/".join(name.split("/")[:depth]) + "/") for other in blobs) > 1
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_exclusive_bytes_of_a_tag_are_what_its_deletion_frees(seed: int) -> None:
    """Unlink all that belongs to a tag and to no other, and collect: exactly its exclusive bytes are freed."""
    registry = sample_registry(seed)
    holdings, contents, sizes = world(registry)
    by_name = {each.name: each for each in holdings}
    for share in report(registry).tags:
        if share.siblings:
            assert share.exclusive_bytes == 0
            continue
        repository = by_name[share.repository]
        family = family_of(repository, contents, {share.digest})
        others = {digest for digest in repository.tags.values() if digest != share.digest}
        kept = family_of(repository, contents, others | roots_beside(repository, contents, family))
        removed = {(share.repository, digest) for digest in family - kept}
        assert share.exclusive_bytes == freed_by(removed, holdings, contents, sizes), share


@pytest.mark.parametrize("seed", SEEDS)
def test_attributed_bytes_of_tags_add_up(seed: int) -> None:
    """Each blob is divided by the digests that need it; with what untagged manifests have, all that is referenced."""
    registry = sample_registry(seed)
    found = report(registry)
    holdings, contents, sizes = world(registry)
    families: dict[tuple[RepositoryName, Digest], set[Digest]] = {}
    untagged: set[tuple[RepositoryName, Digest]] = set()
    for each in holdings:
        parts = family_of(each, contents, set(each.tags.values()))
        rest = each.revisions - parts
        tops = {
            one
            for one in rest
            if not any(one in family_of(each, contents, {other}) for other in rest - {one})
        }
        untagged |= {(each.name, digest) for digest in tops}
        for digest in {*each.tags.values(), *tops}:
            of_digest = referred(family_of(each, contents, {digest}), contents)
            families[each.name, digest] = {one for one in of_digest if one in sizes}
    needed_by = Counter(one for family in families.values() for one in family)
    expected = {
        root: sum((Fraction(sizes[one], needed_by[one]) for one in family), Fraction(0))
        for root, family in families.items()
    }
    for root in found.roots:
        key = (root.repository, root.digest)
        assert abs(root.attributed_bytes - expected[key]) <= len(families[key])
        of_tags = [each for each in found.tags if (each.repository, each.digest) == key]
        assert sum(each.attributed_bytes for each in of_tags) == root.attributed_bytes
        assert {each.referenced_bytes for each in of_tags} == {root.referenced_bytes}
    left = sum((expected[key] for key in untagged), Fraction(0))
    total = sum(each.attributed_bytes for each in found.roots) + left
    assert abs(total - found.totals.referenced_bytes) <= len(sizes)
    assert {(each.repository, each.digest) for each in found.roots} == families.keys() - untagged


def test_what_the_trash_needs() -> None:
    """What no tag keeps counts, whether a manifest still has it or nothing does; what a tag shares does not."""
    registry = StoredRegistry()
    registry.image("app", [BIG, b"shared"], "v1")
    gone = registry.image("app", [b"shared", b"only there"], None)
    loose = b"loose blob"
    registry.storage.files[blob_at(digest_of(loose))] = (loose, registry.now)
    _, contents, sizes = world(registry)
    read = contents[gone]
    assert isinstance(read, Contents)
    needed = {gone, *(each.digest for each in read.needed)}
    lost = {digest_of(loose), digest_of(b"not stored")}
    found = examine(Reader(registry.storage), now=registry.now, checking=False, in_trash=needed | lost).trash
    expected = needed - {digest_of(b"shared")}
    assert digest_of(b"shared") in needed
    assert (found.blobs, found.unreferenced_bytes) == (len(expected) + 1, len(loose))
    assert found.bytes == sum(sizes[each] for each in expected) + len(loose)


def roots_beside(
    repository: Holdings, contents: dict[Digest, Contents | Illegible], family: set[Digest]
) -> set[Digest]:
    """Return the manifests of a repository that are no part of a tag: they stay, with all that is theirs."""
    tagged = family_of(repository, contents, set(repository.tags.values()))
    return set(repository.revisions - tagged - family)


def family_of(
    repository: Holdings, contents: dict[Digest, Contents | Illegible], roots: set[Digest]
) -> set[Digest]:
    """Return manifests with their children and referrers, by going over all of them until nothing is added."""
    found = {digest for digest in roots if digest in repository.revisions}
    while True:
        before = len(found)
        for digest in repository.revisions:
            each = contents.get(digest)
            if not isinstance(each, Contents):
                continue
            if digest in found:
                found |= {need.digest for need in each.needed if need.role == "child"} & repository.revisions
            if each.subject in found:
                found.add(digest)
        if len(found) == before:
            return found


def test_two_tags_of_one_digest_have_nothing_exclusively() -> None:
    """Of two tags on one manifest each is kept by the other, so deleting one frees nothing."""
    registry = StoredRegistry()
    registry.image("app", [BIG], "v1")
    registry.image("app", [BIG], "v2")
    found = report(registry)
    assert [(each.exclusive_bytes, each.siblings) for each in found.tags] == [(0, 1), (0, 1)]
    assert found.totals.unreferenced_bytes == 0


def test_exclusive_bytes_do_not_add_up() -> None:
    """Two tags share a layer that nobody else has: neither has it exclusively, both together free it."""
    registry = StoredRegistry()
    one = registry.image("app", [BIG, b"1"], "v1")
    two = registry.image("app", [BIG, b"2"], "v2")
    found = report(registry)
    assert sum(each.exclusive_bytes for each in found.tags) < len(BIG)
    holdings, contents, sizes = world(registry)
    both = {(RepositoryName("app"), one), (RepositoryName("app"), two)}
    assert freed_by(both, holdings, contents, sizes) == found.totals.stored_bytes


def test_a_mount_costs_nothing_and_is_shared() -> None:
    """A layer that two repositories mount is exclusive to neither, and each is charged half."""
    registry = StoredRegistry()
    for name in ("a", "b"):
        registry.image(name, [BIG], "v1")
    a, b = report(registry).repositories
    assert (a.exclusive_bytes, b.exclusive_bytes) == (0, 0)
    assert a.shared_bytes == a.referenced_bytes == b.referenced_bytes
    assert a.attributed_bytes + b.attributed_bytes == a.referenced_bytes


def test_an_untagged_manifest_owns_its_layers() -> None:
    """What a moved tag left behind keeps its layers: the tag that shares them does not have them exclusively."""
    registry = StoredRegistry()
    registry.image("app", [BIG, b"old"], "latest")
    registry.image("app", [BIG], "latest")
    found = report(registry)
    assert tag_of(found, "app", "latest").exclusive_bytes < len(BIG)
    assert found.totals.kept[Kept.OLD] == found.totals.old["7d"] > 0
    later = examine(Reader(registry.storage), now=registry.now + timedelta(days=31), checking=False)
    assert later.totals.old["90d"] == found.totals.kept[Kept.OLD]


def test_why_bytes_are_kept() -> None:
    """Each blob is counted under the first reason that holds, and what no manifest refers to is unreferenced."""
    registry = StoredRegistry()
    child = registry.image("app", [b"c" * 10])
    tagged = registry.index("app", [child], "v1")
    registry.image("app", [b"r" * 100], subject=tagged)
    registry.image("app", [b"u" * 1000])
    registry.blob("app", b"x" * 10_000)
    kept = report(registry).totals
    assert kept.kept[Kept.TAGGED] == registry.size(tagged)
    assert 10 < kept.kept[Kept.CHILDREN] - registry.size(child) < 300
    assert 100 < kept.kept[Kept.REFERRERS] < 1000
    assert 1000 < kept.kept[Kept.UNTAGGED] < 2000
    assert kept.unreferenced_bytes == 10_000


def test_a_referrer_belongs_to_its_subjects_tag() -> None:
    """A signature by ``subject`` is part of the tag that it is attached to: its bytes are freed with it."""
    registry = StoredRegistry()
    image = registry.image("app", [b"1"], "v1")
    registry.image("app", [BIG], subject=image)
    assert tag_of(report(registry), "app", "v1").exclusive_bytes > len(BIG)


def test_the_size_of_the_file_counts() -> None:
    """Sizes are those of files, not what manifests state; what is not stored counts nothing and is counted."""
    registry = StoredRegistry()
    registry.image("app", [BIG], "v1", elsewhere=b"foreign")
    before = report(registry).totals
    del registry.storage.files[blob_at(digest_of(BIG))]
    after = report(registry).totals
    assert before.referenced_bytes - after.referenced_bytes == len(BIG)
    assert (before.missing, after.missing) == (0, 1)


def test_repositories_come_in_order() -> None:
    """Repositories of a prefix have to come side by side; another order is refused, not miscounted."""
    assert in_order(["b", "a-b/c", "a/b", "a"]) == ["a", "a/b", "a-b/c", "b"]
    accounts = Accounts({}, now=StoredRegistry().now)
    accounts.add(Holdings(name=RepositoryName("b")), {})
    with pytest.raises(ValueError, match="in_order"):
        accounts.add(Holdings(name=RepositoryName("a")), {})

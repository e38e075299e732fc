"""Listings: nothing that can be shown stays hidden, whatever the page size."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from indexer.common.errors import RegistryMisbehaved
from indexer.oci.digest import parse_digest
from indexer.oci.reference import RepositoryName
from reconciler.registry import catalog, tags
from tests.contract.conftest import StartSubject, Subject, push
from tests.fixtures.storage import tags_of
from tests.simulators.events import Version
from tools.sample_images import oci_image

APP = RepositoryName("team/app")


async def push_everywhere(subject: Subject, repositories: Iterable[str]) -> None:
    """Push one small image to every repository."""
    image = oci_image("a", layer_sizes=(1,))
    for repository in repositories:
        await push(subject.client, repository, image, "latest")


async def test_list_tags__names(subject: Subject) -> None:
    """Every tag is listed, in the registry's order, once."""
    for tag in ("b", "a", "1.0"):
        await push(subject.client, APP, oci_image(tag), tag)

    listing = await subject.client.list_tags(APP)

    assert sorted(listing.names) == ["1.0", "a", "b"]
    assert listing.complete
    assert not listing.unknown_repository
    assert listing.registry_clock is not None


async def test_list_tags__three_ways_to_say_none(subject: Subject) -> None:
    """Never existed, only digests, and all tags deleted: no names each time."""
    digest = await push(subject.client, "emptied", oci_image("a"), "latest")
    await subject.client.delete_manifest(RepositoryName("emptied"), digest)
    await push(subject.client, "only/digests", oci_image("a"))

    emptied = await subject.client.list_tags(RepositoryName("emptied"))
    only_digests = await subject.client.list_tags(RepositoryName("only/digests"))
    never = await subject.client.list_tags(RepositoryName("never/was"))

    assert [tuple(each.names) for each in (emptied, only_digests, never)] == [(), (), ()]
    assert [each.unknown_repository for each in (emptied, only_digests, never)] == [False, True, True]
    assert all(each.complete for each in (emptied, only_digests, never))


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 5])
async def test_list_tags__paged(subject: Subject, page_size: int) -> None:
    """Pages are followed to their end, full last page or not; 2.8 has none."""
    names = {f"v{number}" for number in range(4)}
    for name in names:
        await push(subject.client, APP, oci_image("a"), name)

    listing = await tags.list_tags(subject.client._transport, APP, page_size=page_size)

    assert set(listing.names) == names
    assert len(listing.names) == len(names)
    assert listing.complete


async def test_list_tags__pages_smaller_than_asked(start_subject: StartSubject) -> None:
    """A registry with smaller pages than asked for is followed too."""
    subject = await start_subject(max_tags=2)
    for name in ("a", "b", "c", "d", "e"):
        await push(subject.client, APP, oci_image("a"), name)

    listing = await tags.list_tags(subject.client._transport, APP, page_size=100)

    assert sorted(listing.names) == ["a", "b", "c", "d", "e"]


async def test_list_repositories__one_page(subject: Subject) -> None:
    """A catalog of one page is complete, sorted, and told to whoever listens."""
    told: list[str] = []
    await push_everywhere(subject, ["b", "a/x", "a"])

    listing = await subject.client.list_repositories(on_names=told.extend)

    assert listing.names == ("a", "a/x", "b")
    assert sorted(told) == ["a", "a/x", "b"]
    assert listing.complete
    assert listing.reasons == ()


async def test_list_repositories__empty(subject: Subject) -> None:
    """An empty registry has an empty catalog."""
    listing = await subject.client.list_repositories()

    assert (listing.names, listing.complete) == ((), True)


NESTED = [
    "debian",
    "debian/11",
    "debian/12",
    "debian/12/slim",
    "debian/sid",
    "node",
    "node/20",
    "node/20/1",
    "z",
]


@pytest.mark.parametrize("page_size", range(1, 12))
async def test_list_repositories__digit_leading_children(subject: Subject, page_size: int) -> None:
    """Repositories nested under others with digits first are all found at every page size.

    Without care 2.8 ends its catalog between child and parent, and 3.x drops the connection there.
    """
    await push_everywhere(subject, NESTED)

    listing = await catalog.list_repositories(subject.client._transport, page_size=page_size)

    assert listing.names == tuple(sorted(NESTED))
    assert listing.complete


async def test_list_repositories__run_of_children_longer_than_a_page(subject: Subject) -> None:
    """A parent behind more children than any page holds is found by asking for it."""
    names = ["debian", *(f"debian/{number}" for number in range(12))]
    await push_everywhere(subject, names)

    listing = await catalog.list_repositories(subject.client._transport, page_size=3)

    assert set(listing.names) == set(names)


@pytest.mark.parametrize("seed", range(3))
async def test_list_repositories__random_names(subject: Subject, seed: int) -> None:
    """Random nested names, at a random page size, are all found."""
    source = random.Random(seed)
    names: set[str] = set()
    while len(names) < 25:
        depth = source.randint(1, 3)
        names.add(
            "/".join(source.choice(["a", "a1", "1", "2", "b-1", "b", "b.c", "0x"]) for _ in range(depth))
        )
    await push_everywhere(subject, sorted(names))

    listing = await catalog.list_repositories(subject.client._transport, page_size=source.randint(2, 12))

    assert listing.names == tuple(sorted(names))
    assert listing.complete


async def test_list_repositories__small_limit(start_subject: StartSubject) -> None:
    """A registry that allows only small pages is asked for smaller ones until it agrees."""
    subject = await start_subject(max_entries=7)
    names = [f"r{number}" for number in range(20)]
    await push_everywhere(subject, names)

    listing = await subject.client.list_repositories()

    assert set(listing.names) == set(names)
    assert listing.complete


@pytest.mark.parametrize("max_entries", [1, 2])
async def test_list_repositories__tiny_limit(start_subject: StartSubject, max_entries: int) -> None:
    """Where hardly any page size is accepted the walk is complete all the same."""
    subject = await start_subject(max_entries=max_entries)
    names = [f"r{number}" for number in range(5)]
    await push_everywhere(subject, names)

    listing = await subject.client.list_repositories()

    assert (set(listing.names), listing.complete) == (set(names), True)


async def test_list_tags__stray_directories(start_subject: StartSubject) -> None:
    """What a NAS or a file manager leaves beside the tags is listed by the registry, and is no tag."""
    subject = await start_subject()
    if subject.server is None:
        pytest.skip("the storage of a real registry")
    await push(subject.client, APP, oci_image("a"), "t")
    for stray in ("@eaDir", ".DS_Store", "x" * 200):
        (tags_of(subject.server, APP) / stray).mkdir()

    listing = await subject.client.list_tags(APP)

    assert (tuple(listing.names), listing.complete, listing.left_out) == (("t",), True, 3)


async def test_list_repositories__no_size_accepted(start_subject: StartSubject) -> None:
    """Where every size tried is refused, nothing is concluded."""
    subject = await start_subject(max_entries=2)

    with pytest.raises(RegistryMisbehaved, match="no page size"):
        await catalog.list_repositories(subject.client._transport, page_size=3)


async def test_list_repositories__what_counts_as_one(subject: Subject) -> None:
    """2.8 lists what has blobs, 3.x what has manifests; a repository emptied of tags stays."""
    await subject.client.put_blob(RepositoryName("only/blobs"), b"x")
    await push(subject.client, "only/digests", oci_image("a"))
    image = oci_image("b")
    await push(subject.client, "emptied", image, "latest")
    await subject.client.delete_manifest(RepositoryName("emptied"), parse_digest(image.digest))

    listing = await subject.client.list_repositories()

    expected = {"only/digests", "emptied"} | ({"only/blobs"} if subject.version is Version.V2_8 else set())
    assert set(listing.names) == expected

"""Tags that a registry does not list: which they can be, which are asked about, and what that costs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from indexer.common.errors import RegistryDenied, RegistryUnavailable
from indexer.oci.reference import RepositoryName, TagName, parse_tag_name
from reconciler.drift import hidden
from reconciler.drift.hidden import HiddenTags
from reconciler.registry import hidden_tags
from reconciler.registry.answers import TagListing
from reconciler.registry.hidden_tags import PAGE
from reconciler.registry.names import TagNames
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import Version
from tests.simulators.state import RegistryState

APP = RepositoryName("team/app")
IMAGE = "application/vnd.oci.image.manifest.v1+json"


def names(*texts: str) -> TagNames:
    return TagNames.of(map(parse_tag_name, texts))


def registry_with(*tags: str, version: Version = Version.V3, is_on_s3: bool = True) -> DirectRegistry:
    """A registry with these tags, all on one manifest."""
    state = RegistryState(version, is_on_s3=is_on_s3)
    for tag in tags:
        state.push(APP, b"{}", media_type=IMAGE, tag=tag)
    return DirectRegistry(state)


class Remembered(list[bool]):
    """What was remembered of the registry, in order."""

    async def __call__(self, hides: bool, because: str) -> None:
        assert because
        self.append(hides)


def hidden_of(
    registry: DirectRegistry, *, requests: int = 10_000, remember: Remembered | None = None
) -> HiddenTags:
    return HiddenTags(
        registry, requests=requests, limit=asyncio.Semaphore(4), remember=remember, chance=random.Random(1)
    )


async def complete(registry: DirectRegistry, hidden_: HiddenTags) -> list[TagName]:
    return list((await hidden_.complete(APP, await registry.list_tags(APP))).names)


def pages_of(registry: DirectRegistry) -> int:
    return sum(call[0] == "list_tags_behind" for call in registry.asked)


@pytest.mark.parametrize(
    ("name", "tag", "hidden_by"),
    [
        ("build-10", "build-1", True),
        ("build-1a", "build-1", True),
        ("build-1_a", "build-1", True),
        ("build-1-a", "build-1", False),
        ("build-1.a", "build-1", False),
        ("build-1", "build-1", False),
        ("build-2", "build-1", False),
        ("build-1", "build-10", False),
    ],
)
def test_is_hidden_by__what_goes_on_after_the_directory(name: str, tag: str, hidden_by: bool) -> None:
    """A letter, a digit or ``_`` sorts after the ``/`` of the directory; ``-`` and ``.`` before it."""
    assert hidden_tags.is_hidden_by(name, tag) is hidden_by


@pytest.mark.parametrize(
    ("listed", "shown"),
    [
        ((), False),
        (("a",), False),
        (("1", "2", "3"), False),
        (("1", "1-a", "1.b"), False),
        (("1", "1-a", "1-ab"), True),
        (("1", "1-a", "1.b", "10"), True),
        (("a", "b", "bc"), True),
        (("v", "v-1", "v-1-x", "v-2", "w"), False),
    ],
)
def test_shows_what_could_hide__two_of_which_one_hides_the_other(
    listed: tuple[str, ...], shown: bool
) -> None:
    """A listing that has both comes from a registry that hides nothing."""
    assert hidden_tags.shows_what_could_hide(names(*listed)) is shown


def test_shows_what_could_hide__is_what_the_simulated_listing_never_does() -> None:
    """Whatever is stored, 3.1 on S3 lists no such two; and it lists all wherever no such two are stored."""
    source = random.Random(7)
    for _ in range(300):
        stored = {"".join(source.choices("1a-._", k=source.randint(1, 4))).lstrip("-.") for _ in range(12)}
        stored.discard("")
        registry = registry_with(*stored)
        listed = registry.state.list_tags(APP) or []
        assert not hidden_tags.shows_what_could_hide(names(*listed))
        assert (set(listed) == stored) is not hidden_tags.shows_what_could_hide(names(*stored))


@pytest.mark.parametrize(
    ("page", "listed", "found"),
    [
        (("build-10", "build-1a"), ("build-1",), ["build-10", "build-1a"]),
        (("build-10", "build-11"), ("build-1", "build-11"), ["build-10"]),
        (("build-10", "build-2"), ("build-1",), ["build-10"]),
        (("build-2", "c"), ("build-1", "build-2"), []),
        ((), ("build-1",), []),
    ],
    ids=["all of it", "some is listed", "one pushed since the listing", "what follows", "nothing"],
)
def test_hidden_in__is_hidden_by_the_tag_and_not_listed(
    page: tuple[str, ...], listed: tuple[str, ...], found: list[str]
) -> None:
    """Only what the tag hides, and only what the listing lacks, shows that a registry hides tags."""
    hidden = hidden_tags.hidden_in(list(names(*page)), tag=parse_tag_name("build-1"), listed=names(*listed))
    assert found == hidden


def test_worth_asking__all_that_may_go_on() -> None:
    """All of a few, the shortest first; a name of the greatest length hides nothing."""
    longest = "x" * 128
    assert hidden_tags.worth_asking(names("aa", "b", longest), most=10, chance=random.Random(1)) == [
        "b",
        "aa",
    ]


def test_worth_asking__of_many_the_shortest_and_others_by_chance() -> None:
    """Every walk asks about the shortest; which others it asks about differs, so that each has its turn."""
    many = names(*(f"{number:05}" for number in range(500)), "a", "b")
    chosen = [hidden_tags.worth_asking(many, most=40, chance=random.Random(seed)) for seed in range(200)]
    assert all(len(set(each)) == 40 for each in chosen)
    assert all({"a", "b"} <= set(each) for each in chosen)
    assert set().union(*chosen) == set(many)


async def test_complete__what_hides_in_turn() -> None:
    """Behind a hidden tag more is hidden: all of it is found."""
    stored = ["build-1", "build-10", "build-100", "build-11", "build-1-a", "build-2", "build-20", "z"]
    registry, remembered = registry_with(*stored), Remembered()

    assert list((await registry.list_tags(APP)).names) == ["build-1", "build-1-a", "build-2", "z"]
    assert await complete(registry, hidden_of(registry, remember=remembered)) == sorted(stored)
    assert remembered == [True]


async def test_complete__more_than_a_page_behind_one_tag() -> None:
    """The pages behind a tag are followed to the end of what it hides."""
    stored = ["v1", *(f"v1{number:04}" for number in range(PAGE * 2 + 5)), "w"]
    registry = registry_with(*stored)

    assert await complete(registry, hidden_of(registry)) == sorted(stored)


@pytest.mark.parametrize("seed", range(20))
async def test_complete__random_names(seed: int) -> None:
    """Whatever is stored is found, where the requests suffice."""
    source = random.Random(seed)
    stored = {"".join(source.choices("01a_-.", k=source.randint(1, 5))).lstrip("-.") for _ in range(60)} - {
        ""
    }
    registry = registry_with(*stored)

    assert await complete(registry, hidden_of(registry)) == sorted(stored)


async def test_complete__one_request_where_directories_are_read() -> None:
    """A registry that does not know a repository that never was hides nothing: no page is asked for."""
    registry, remembered = registry_with("1", "2", is_on_s3=False), Remembered()
    hidden_ = hidden_of(registry, remember=remembered)

    for _ in range(3):
        assert await complete(registry, hidden_) == ["1", "2"]
    assert pages_of(registry) == 0
    assert sum(call == ("list_tags", hidden_tags.NEVER_THERE) for call in registry.asked) == 1
    assert remembered == [False]


async def test_complete__no_request_where_the_listing_shows_it() -> None:
    """A listing with two of which one would hide the other costs nothing at all."""
    registry, remembered = registry_with("1", "10", is_on_s3=False), Remembered()

    assert await complete(registry, hidden_of(registry, remember=remembered)) == ["1", "10"]
    assert [call[0] for call in registry.asked] == ["list_tags"]
    assert remembered == [False]


async def test_complete__bounded_by_walk_and_by_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is asked for than a walk and a repository may; what is found by then counts."""
    stored = [f"t-{number:03}" for number in range(100)]
    registry = registry_with(*stored, *(f"{name}0" for name in stored))

    assert len(await complete(registry, hidden_of(registry, requests=11))) > len(stored)
    assert pages_of(registry) == 10
    registry.asked.clear()
    monkeypatch.setattr(hidden, "PER_REPOSITORY", 30)
    await complete(registry, hidden_of(registry))
    assert 30 <= pages_of(registry) < 30 + hidden.AT_A_TIME
    registry.asked.clear()
    assert await complete(registry, hidden_of(registry, requests=0)) == stored
    assert [call[0] for call in registry.asked] == ["list_tags"]


async def test_complete__a_few_requests_without_evidence() -> None:
    """Where nothing was learnt of the registry only a few tags are asked about."""

    class Denying(DirectRegistry):
        async def list_tags(self, repository: RepositoryName) -> TagListing:
            if repository == hidden_tags.NEVER_THERE:
                raise RegistryDenied("not yours")
            return await super().list_tags(repository)

    state = registry_with(*(f"t-{number:03}" for number in range(100))).state
    registry, remembered = Denying(state), Remembered()

    await complete(registry, hidden_of(registry, remember=remembered))

    assert pages_of(registry) == hidden.WITHOUT_EVIDENCE
    assert remembered == []


async def test_complete__a_registry_without_pages_hides_nothing() -> None:
    """2.8 answers a page with everything: nothing is taken for hidden, and it is asked once."""

    class Denying(DirectRegistry):
        async def list_tags(self, repository: RepositoryName) -> TagListing:
            if repository == hidden_tags.NEVER_THERE:
                raise RegistryDenied("not yours")
            return await super().list_tags(repository)

    registry, remembered = Denying(registry_with("a", "b", version=Version.V2_8).state), Remembered()
    hidden_ = hidden_of(registry, remember=remembered)

    assert await complete(registry, hidden_) == ["a", "b"]
    assert await complete(registry, hidden_) == ["a", "b"]
    assert remembered == [False]
    assert pages_of(registry) <= 2


async def test_complete__a_tag_pushed_meanwhile_is_no_evidence() -> None:
    """A tag that came after the listing is found, and the registry is not taken for one that hides."""

    class Late(DirectRegistry):
        """Nothing is hidden; but it has "no tags" of what never was, and a push comes after the first listing."""

        async def list_tags(self, repository: RepositoryName) -> TagListing:
            if repository == hidden_tags.NEVER_THERE:
                raise RegistryDenied("not yours")
            return await super().list_tags(repository)

        async def list_tags_behind(
            self, repository: RepositoryName, *, last: str, size: int
        ) -> Sequence[TagName]:
            self.state.push(APP, b"{}", media_type=IMAGE, tag="10")
            return await super().list_tags_behind(repository, last=last, size=size)

    registry, remembered = Late(registry_with("1", "2", is_on_s3=False).state), Remembered()

    assert await complete(registry, hidden_of(registry, remember=remembered)) == ["1", "10", "2"]
    assert remembered == []


async def test_complete__a_registry_that_goes_away_is_said() -> None:
    """Nothing is concluded from a page that was not answered by anybody."""
    registry = registry_with("1", "10")
    hidden_ = hidden_of(registry)
    listing = await registry.list_tags(APP)
    await hidden_.complete(APP, listing)
    registry.failures.extend([RegistryUnavailable("away")] * 4)

    with pytest.raises(RegistryUnavailable):
        await hidden_.complete(APP, listing)

"""Bytes that a plan frees, and the budget: sets, in which nothing is counted twice."""

from __future__ import annotations

from collections.abc import Sequence

from indexer.policies.facts import ManifestFacts
from indexer.policies.families import Families
from indexer.policies.freed import freed_by_each, freed_bytes, owners_of
from indexer.policies.limits import Nominated, within_budget
from tests.fixtures.cleanup import ago, d, manifest, repository, tag

LAYER = ("layer", 1000)


def image(name: str, *layers: tuple[str, int], subject: str | None = None) -> ManifestFacts:
    return manifest(name, blobs=layers, subject=subject)


def test_freed__two_that_share_a_layer() -> None:
    """A layer of two manifests is freed by neither alone, and once by both."""
    one, other = image("a", LAYER), image("b", LAYER)
    owners = owners_of([one, other])
    assert (1, 1, 1002) == (
        freed_bytes([one], owners),
        freed_bytes([other], owners),
        freed_bytes([one, other], owners),
    )
    assert [1, 1001] == freed_by_each([one, other], owners)


def test_freed__what_others_hold() -> None:
    """What another repository holds is not freed, nor is what nobody knows the owners of."""
    one = image("a", LAYER)
    assert 0 == freed_bytes([one], owners_of([one, one]))
    assert 0 == freed_bytes([one, one], {})
    assert 1 == freed_bytes([one], {one.digest: 1})


def test_freed__a_layer_twice_in_one_manifest() -> None:
    """A layer that a manifest names twice is one blob."""
    one = image("a", LAYER, LAYER)
    assert 1001 == freed_bytes([one], owners_of([one]))


def stay(budget: int, images: Sequence[ManifestFacts], *names: str) -> set[str]:
    """The tags that stay of those that are nominated, of which the first was used longest ago."""
    tags = [tag(each, each, 10) for each in names]
    facts = repository(tags, images)
    nominated = [
        Nominated(repository="r", tag=each, digest=d(each), last_used_at=ago(100 - number))
        for number, each in enumerate(names)
    ]
    families = {"r": Families(facts.manifests, facts.tags)}
    return {
        name
        for _, name in within_budget(budget, nominated, {"r": [each.digest or "" for each in tags]}, families)
    }


def test_budget__takes_the_least_recently_used() -> None:
    """As long as more is held than the budget, the tag that was used longest ago goes next."""
    images = [image("a", ("la", 100)), image("b", ("lb", 100)), image("c", ("lc", 100))]
    assert {"a", "b", "c"} == stay(303, images, "a", "b", "c")
    assert {"b", "c"} == stay(302, images, "a", "b", "c")
    assert {"c"} == stay(200, images, "a", "b", "c")
    assert set() == stay(0, images, "a", "b", "c")


def test_budget__counts_shared_layers_once() -> None:
    """What two tags share is held until both are gone, and what is attached is held with its subject."""
    images = [image("a", LAYER), image("b", LAYER), image("c", ("lc", 10))]
    assert {"c"} == stay(1000, images, "a", "b", "c")
    attached = [*images, image("s", ("big", 5000), subject="a")]
    assert {"b", "c"} == stay(6000, attached, "a", "b", "c")

"""The simulated registry's own rules, where no real registry can be asked."""

from __future__ import annotations

from typing import Any

import pytest

from indexer.common.errors import RegistryUnavailable
from indexer.oci import media_types
from indexer.oci.digest import digest_of, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import Confirmed, Deletion, Found, NotFound
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import Version
from tests.simulators.registry import SimulatedRegistry
from tests.simulators.state import CatalogPanic, RegistryState

APP = RepositoryName("team/app")
LATEST = TagName("latest")
HERE, GONE = (parse_digest("sha256:" + character * 64) for character in "ab")
TRUTH: dict[str, Any] = {
    "registry": "2.8.2",
    "repositories": {
        "team/app": {
            "tags": {
                "latest": {"digest": HERE, "mediaType": media_types.OCI_MANIFEST, "size": 401},
                "broken": {"digest": GONE, "mediaType": media_types.OCI_MANIFEST, "size": 5, "broken": "x"},
            },
            "manifests": {HERE: {"mediaType": media_types.OCI_MANIFEST, "size": 401, "tags": ["latest"]}},
            "dirs": ["_layers", "_manifests", "_uploads"],
        },
        "only/uploads": {"tags": {}, "manifests": {}, "dirs": ["_uploads"]},
        "emptied": {"tags": {}, "manifests": {}, "dirs": ["_layers", "_manifests"]},
    },
    "api": {"catalog": ["emptied", "team/app"], "tags_list": {"emptied": {"status": 200, "tags": None}}},
}


async def test_from_truth__answers_looks() -> None:
    """A capture's truth is enough to settle every look, and a tag without its manifest stays broken."""
    registry = DirectRegistry(RegistryState.from_truth(TRUTH))

    look = await registry.head_tag(APP, LATEST)
    assert isinstance(look, Found)
    assert (look.digest, look.size, look.media_type) == (HERE, 401, media_types.OCI_MANIFEST)
    assert isinstance(await registry.head_tag(APP, LATEST, if_digest=HERE), Confirmed)
    assert isinstance(await registry.head_tag(APP, TagName("broken")), NotFound)
    assert isinstance(await registry.head_tag(APP, TagName("broken"), if_digest=GONE), Confirmed)
    assert isinstance(await registry.head_manifest(APP, GONE), NotFound)
    assert isinstance(await registry.get_manifest(APP, HERE), NotFound)
    assert (await registry.list_repositories()).names == ("emptied", "team/app")
    assert set((await registry.list_tags(APP)).names) == {"latest", "broken"}
    assert not (await registry.list_tags(RepositoryName("emptied"))).unknown_repository
    assert (await registry.list_tags(RepositoryName("only/uploads"))).unknown_repository


async def test_from_truth__over_http() -> None:
    """The client can look at a capture's truth; bytes that the capture lacks read as unknown."""
    async with (
        SimulatedRegistry(RegistryState.from_truth(TRUTH)) as simulated,
        RegistryClient(TransportSettings(base_url=simulated.url)) as client,
    ):
        look = await client.head_tag(APP, LATEST)
        assert isinstance(look, Found)
        assert (look.digest, look.size, look.media_type) == (HERE, 401, media_types.OCI_MANIFEST)
        assert isinstance(await client.head_tag(APP, LATEST, if_digest=HERE), Confirmed)
        assert isinstance(await client.head_tag(APP, TagName("broken")), NotFound)
        assert isinstance(await client.get_manifest(APP, HERE), NotFound)
        assert (await client.list_repositories()).names == ("emptied", "team/app")


def catalog_of(version: Version, *names: str) -> RegistryState:
    """Return a registry that holds these repositories."""
    state = RegistryState(version)
    for name in names:
        state.push_blob(name, b"x")
        state.push(name, b"{}", media_type=media_types.OCI_MANIFEST, tag="t")
    return state


def test_catalog_page__ends_between_child_and_parent() -> None:
    """2.8 loses its link there; 3.x panics; one page for everything is right on both."""
    names = ("debian", "debian/12", "node")
    old, new = catalog_of(Version.V2_8, *names), catalog_of(Version.V3, *names)

    assert old.catalog_page(1, "") == (["debian/12"], False)
    with pytest.raises(CatalogPanic):
        new.catalog_page(1, "")
    for state in (old, new):
        assert state.catalog_page(100, "") == (["debian/12", "debian", "node"], False)
        assert state.catalog_page(2, "") == (["debian/12", "debian"], True)
        assert state.catalog_page(100, "debian/12") == (["node"], False)


def test_catalog_page__cut_short_and_omitted() -> None:
    """Listings can be made to end early and to leave names out."""
    state = catalog_of(Version.V3, "a", "b", "c")
    state.catalog_ends_after = 2
    state.omitted_repositories.add("a")

    assert state.catalog_page(100, "") == (["b", "c"], False)
    state.catalog_ends_after = 1
    assert state.catalog_page(100, "") == (["b"], False)


def test_list_tags__omitted() -> None:
    """A tag can exist and not be listed."""
    state = catalog_of(Version.V3, APP)
    state.omitted_tags.add((APP, "t"))

    assert state.list_tags(APP) == []
    assert state.link_of(APP, "t") == digest_of(b"{}")


def test_mount__tells_only_when_it_succeeds() -> None:
    """A mount of what is not there sends nothing."""
    state = catalog_of(Version.V3, "source")
    told: list[dict[str, Any]] = []
    state.listeners.append(told.append)

    assert not state.mount_blob("target", digest_of(b"absent"), "source")
    assert state.mount_blob("target", digest_of(b"x"), "source")
    assert [event["target"]["fromRepository"] for event in told] == ["source"]


def test_remove_silently__tells_nothing() -> None:
    """What is done behind the registry's back makes no event."""
    state = catalog_of(Version.V3, "a", "b")
    state.listeners.append(lambda event: pytest.fail(f"told {event}"))

    state.remove_silently("a")
    state.remove_silently("b", tag="t")

    assert list(state.repositories) == ["b"]
    assert state.list_tags("b") == []


async def test_direct__failures_and_changes_under_way() -> None:
    """A look can be made to fail, and the world to change before it is answered; every call is on record."""
    state = catalog_of(Version.V3, APP)
    registry = DirectRegistry(state)
    registry.failures.append(RegistryUnavailable("down"))
    with pytest.raises(RegistryUnavailable):
        await registry.head_tag(APP, TagName("t"))

    registry.before_answer = lambda: state.remove_silently(APP, tag="t")
    look = await registry.head_tag(APP, TagName("t"))

    assert isinstance(look, NotFound)
    assert registry.asked == [("head_tag", APP, "t")] * 2


@pytest.mark.parametrize(
    ("version", "expected"), [(Version.V2_8, Deletion.UNSUPPORTED), (Version.V3, Deletion.ACCEPTED)]
)
async def test_direct__deletes_tags_where_the_version_can(version: Version, expected: Deletion) -> None:
    """Only 3.x deletes a tag alone."""
    registry = DirectRegistry(catalog_of(version, APP))

    assert await registry.delete_tag(APP, TagName("t")) is expected

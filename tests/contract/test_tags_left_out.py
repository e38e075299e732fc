"""Tags that tags/list hides are found whatever the storage, and a registry that hides none is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from indexer.oci.reference import RepositoryName, TagName
from reconciler.drift.hidden import HiddenTags
from reconciler.registry import hidden_tags
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.contract.conftest import IMPATIENT, push
from tests.simulators.events import Version
from tests.simulators.registry import SimulatedRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import oci_image

APP = RepositoryName("team/app")
STORED = sorted(
    [
        *("0.1.2", "0.1.20", "0.1.2-rc", "1", "1-a", "1.b", "10", "1A", "1_0", "1a", "z"),
        *("build-1", "build-10", "build-100", "build-11", "build-2", "build-20", "build-3"),
    ]
)
HIDDEN = {"0.1.20", "10", "1A", "1_0", "1a", "build-10", "build-100", "build-11", "build-20"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A registry with its storage; ``hides``: what its listing leaves out of ``STORED``."""

    client: RegistryClient
    hides: frozenset[str]


@pytest.fixture(
    params=[
        pytest.param((Version.V3, True, False), id="simulated-3.x-s3"),
        pytest.param((Version.V3, False, False), id="simulated-3.x"),
        pytest.param((Version.V2_8, True, False), id="simulated-2.8-s3"),
        pytest.param((Version.V3, True, True), id="real-3.x-s3", marks=pytest.mark.registry),
        pytest.param((Version.V3, False, True), id="real-3.x", marks=pytest.mark.registry),
        pytest.param((Version.V2_8, True, True), id="real-2.8-s3", marks=pytest.mark.registry),
    ]
)
async def stored(request: pytest.FixtureRequest) -> AsyncIterator[Stored]:
    """A registry that holds ``STORED``."""
    version, on_s3, is_real = request.param
    if is_real:
        extra = request.getfixturevalue("s3").storage() if on_s3 else {}
        major = 2 if version is Version.V2_8 else 3
        server = request.getfixturevalue("start_registry")(major, extra=extra)
        async with _client(server.url) as client:
            yield await _filled(client, version, on_s3=on_s3)
    else:
        state = RegistryState(version, is_on_s3=on_s3)
        async with SimulatedRegistry(state) as simulated, _client(simulated.url) as client:
            yield await _filled(client, version, on_s3=on_s3)


def _client(url: str) -> RegistryClient:
    return RegistryClient(TransportSettings(base_url=url, retry=IMPATIENT))


async def _filled(client: RegistryClient, version: Version, *, on_s3: bool) -> Stored:
    image = oci_image("a", layer_sizes=(1,))
    await push(client, APP, image, STORED[0])
    for tag in STORED[1:]:
        await client.put_manifest(APP, TagName(tag), image.manifest.data, media_type=image.media_type)
    return Stored(client, frozenset(HIDDEN if on_s3 and version is Version.V3 else ()))


async def test_list_tags__what_is_hidden(stored: Stored) -> None:
    """What this suite says of a registry is what it does; each hidden tag is served all the same."""
    listing = await stored.client.list_tags(APP)

    assert set(STORED) - set(listing.names) == stored.hides
    assert hidden_tags.shows_what_could_hide(listing.names) is not bool(stored.hides)
    for tag in sorted(stored.hides):
        look = await stored.client.head_tag(APP, TagName(tag))
        assert getattr(look, "digest", None) is not None


async def test_list_tags__of_a_repository_that_never_was(stored: Stored) -> None:
    """What hides tags also has "no tags" where everything else knows no such repository."""
    listing = await stored.client.list_tags(hidden_tags.NEVER_THERE)

    assert not listing.names
    assert listing.unknown_repository is not bool(stored.hides)


async def test_complete__everything_stored(stored: Stored) -> None:
    """Everything is found; of a registry that hides nothing it is the listing alone that says so."""
    learnt: list[bool] = []

    async def remember(hides: bool, _because: str) -> None:
        learnt.append(hides)

    hidden = HiddenTags(stored.client, requests=1000, limit=asyncio.Semaphore(4), remember=remember)

    listing = await hidden.complete(APP, await stored.client.list_tags(APP))

    assert list(listing.names) == STORED
    assert listing.complete
    assert learnt == [bool(stored.hides)]

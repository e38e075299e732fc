"""What registries tell: the simulated and the real one tell the same things in the same words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from indexer.oci.digest import Digest, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import Confirmed, Found, ManifestContent, NotFound
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.contract.conftest import IMPATIENT, push
from tests.fixtures.registries import StartRegistry
from tests.simulators.events import Version
from tests.simulators.registry import SimulatedRegistry
from tests.simulators.state import RegistryState
from tools.registry_server import Endpoint
from tools.sample_images import multi_platform, oci_image

APP = RepositoryName("team/app")
LATEST = TagName("latest")
TOKEN = "token"


class Receiver:
    """An endpoint that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.content_types: set[str] = set()
        self.tokens: set[str | None] = set()
        self.url = ""
        self.answers: list[int] = []
        self._changed = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.Response:
        """Take one notification; refuse it where a refusal is due."""
        envelope = await request.json()
        async with self._changed:
            if self.answers:
                return web.Response(status=self.answers.pop(0))
            self.content_types.add(request.content_type)
            self.tokens.add(request.headers.get("Authorization"))
            self.events += envelope["events"]
            self._changed.notify_all()
        return web.Response(status=202)

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Return the events once there are ``count``."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.events) >= count)
        return self.events


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint on a port of its own."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/notifications", receiver.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/notifications"
    yield receiver
    await runner.cleanup()


@pytest.fixture(
    params=[
        pytest.param((Version.V2_8, False), id="simulated-2.8"),
        pytest.param((Version.V3, False), id="simulated-3.x"),
        pytest.param((Version.V2_8, True), id="real-2.8", marks=pytest.mark.registry),
        pytest.param((Version.V3, True), id="real-3.x", marks=pytest.mark.registry),
    ]
)
async def told(
    request: pytest.FixtureRequest, receiver: Receiver
) -> AsyncIterator[tuple[Version, RegistryClient]]:
    """A registry that tells the receiver everything, and a client of it."""
    version, is_real = request.param
    if is_real:
        start_registry: StartRegistry = request.getfixturevalue("start_registry")
        endpoint = Endpoint(receiver.url, TOKEN, ignore={})
        server = start_registry(2 if version is Version.V2_8 else 3, notifications=[endpoint])
        async with RegistryClient(TransportSettings(base_url=server.url, retry=IMPATIENT)) as client:
            yield version, client
        return
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        SimulatedRegistry(
            RegistryState(version), endpoint_url=receiver.url, endpoint_headers=headers
        ) as simulated,
        RegistryClient(TransportSettings(base_url=simulated.url, retry=IMPATIENT)) as client,
    ):
        yield version, client


def shape(event: dict[str, Any]) -> tuple[str, str, str, str]:
    """Reduce an event to what it is about: action, method, kind of content, tag."""
    target = event["target"]
    content = target.get("mediaType", "").rpartition("/")[2].removeprefix("vnd.oci.image.")
    return event["action"], event["request"]["method"], content, target.get("tag", "")


async def test_events__of_every_operation(told: tuple[Version, RegistryClient], receiver: Receiver) -> None:
    """Each operation makes just the events it was measured to make; conditional looks make none."""
    version, client = told
    image = oci_image("a", layer_sizes=(1,))
    digest = await push(client, APP, image, "latest")
    assert isinstance(await client.head_tag(APP, LATEST, if_digest=digest), Confirmed)
    assert isinstance(await client.head_tag(APP, TagName("never")), NotFound)
    await client.list_tags(APP)
    await client.list_repositories()
    assert isinstance(await client.head_tag(APP, LATEST), Found)
    assert isinstance(await client.get_manifest(APP, digest), ManifestContent)
    await client.get_blob(APP, parse_digest(image.blobs[0].digest), limit=10_000)
    await push(client, APP, image, "stable")
    await client.delete_manifest(APP, digest)

    manifest = "manifest.v1+json"
    pushed = [("push", "PUT", "octet-stream", "")] * 2
    expected = [
        *pushed,
        ("push", "PUT", manifest, "latest"),
        ("pull", "HEAD", manifest, "latest"),
        ("pull", "GET", manifest, ""),
        ("pull", "GET", "octet-stream", ""),
        *pushed,
        ("push", "PUT", manifest, "stable"),
        ("delete", "DELETE", "", ""),
        ("delete", "DELETE", "", "latest"),
        ("delete", "DELETE", "", "stable"),
    ]
    events = await receiver.wait_for(len(expected))
    assert sorted(shape(event) for event in events) == sorted(expected)
    assert [shape(event) for event in events[:10]] == expected[:10]  # 3.x deletes tags in any order
    assert receiver.content_types == {version.events_media_type}
    assert receiver.tokens == {f"Bearer {TOKEN}"}


async def test_events__field_by_field(told: tuple[Version, RegistryClient], receiver: Receiver) -> None:
    """An event of each kind has the fields of its version, no more and no fewer."""
    version, client = told
    digest = await push(client, APP, oci_image("a", layer_sizes=()), "latest")
    await client.delete_manifest(APP, digest)

    blob, manifest, deleted, untagged = await receiver.wait_for(4)

    stored = {"mediaType", "digest", "size", "length", "repository", "url"}
    absent: dict[str, Any] = {"mediaType": "", "digest": "", "size": 0} if version is Version.V3 else {}
    assert set(blob["target"]) == stored
    assert set(manifest["target"]) == {*stored, "tag"}
    assert manifest["target"]["url"].endswith(f"/v2/{APP}/manifests/{digest}")
    assert deleted["target"] == {**absent, "repository": APP, "digest": digest}
    assert untagged["target"] == {**absent, "repository": APP, "tag": "latest"}
    for event in (blob, manifest, deleted, untagged):
        assert set(event) == {"id", "timestamp", "action", "target", "request", "actor", "source"}
        assert set(event["request"]) == {"id", "addr", "host", "method", "useragent"}
        assert set(event["source"]) == {"addr", "instanceID"}
        assert event["actor"] == {}
    assert deleted["request"]["id"] == untagged["request"]["id"]


async def test_events__index_with_children(told: tuple[Version, RegistryClient], receiver: Receiver) -> None:
    """Children of an index are pushed by digest and carry no tag; the index carries it."""
    _, client = told
    await push(client, APP, multi_platform("a"), "latest")

    events = await receiver.wait_for(2 * 4 + 1)
    manifests = [
        shape(event) for event in events if event["target"]["mediaType"] != "application/octet-stream"
    ]
    assert manifests == [
        ("push", "PUT", "manifest.v1+json", ""),
        ("push", "PUT", "manifest.v1+json", ""),
        ("push", "PUT", "index.v1+json", "latest"),
    ]


async def test_events__only_3x_deletes_tags(told: tuple[Version, RegistryClient], receiver: Receiver) -> None:
    """A tag deleted alone is one event on 3.x, and nothing on 2.8."""
    version, client = told
    await push(client, APP, oci_image("a", layer_sizes=()), "latest")
    await client.delete_tag(APP, LATEST)
    await client.put_blob(APP, b"last")  # its event comes after whatever came before

    events = await receiver.wait_for(4 if version is Version.V3 else 3)
    deletes = [event["target"].get("tag") for event in events if event["action"] == "delete"]
    assert deletes == (["latest"] if version is Version.V3 else [])


async def test_events__refused_ones_come_again(
    told: tuple[Version, RegistryClient], receiver: Receiver
) -> None:
    """A refused notification blocks those behind it and comes again, the same, until it is taken."""
    _, client = told
    receiver.answers[:] = [500, 400, 404]
    await client.put_blob(APP, b"one")
    await client.put_blob(APP, b"two")

    first, second = await receiver.wait_for(2)
    assert [each["target"]["size"] for each in (first, second)] == [3, 3]
    assert len({first["id"], second["id"]}) == 2


async def test_simulated__event_before_link() -> None:
    """A push's event is out before the tag link is written, as on both versions."""
    told: list[str] = []
    seen: list[Digest | None] = []

    async def before_link(repository: str, tag: str) -> None:
        assert told[-1] == tag
        seen.append(simulated.state.link_of(repository, tag))

    async with (
        SimulatedRegistry() as simulated,
        RegistryClient(TransportSettings(base_url=simulated.url)) as client,
    ):
        simulated.state.listeners.append(lambda event: told.append(event["target"].get("tag", "")))
        simulated.before_link = before_link
        first = await push(client, APP, oci_image("a"), "latest")
        await push(client, APP, oci_image("b"), "latest")

    assert seen == [None, first]


async def test_simulated__restart_loses_its_queue(receiver: Receiver) -> None:
    """What was not delivered when a registry restarts never comes; the instance id tells."""
    async with (
        SimulatedRegistry(endpoint_url=receiver.url) as simulated,
        RegistryClient(TransportSettings(base_url=simulated.url)) as client,
    ):
        await client.put_blob(APP, b"event")
        await simulated.delivered()
        simulated.is_delivering = False
        await client.put_blob(APP, b"lost")
        assert simulated.restart() == 1
        simulated.is_delivering = True
        await client.put_blob(APP, b"told again")
        await simulated.delivered()

    assert [event["target"]["size"] for event in receiver.events] == [len(b"event"), len(b"told again")]
    assert len({event["source"]["instanceID"] for event in receiver.events}) == 2

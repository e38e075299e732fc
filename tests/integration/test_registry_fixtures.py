from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

from aiohttp import web

from tools.ports import free_port
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER, Endpoint, RegistryServer
from tools.sample_images import DOCKER_LIST, Pusher, artifact, docker_image, index, multi_platform, oci_image

if TYPE_CHECKING:
    from tests.fixtures.registries import StartRegistry


def test_registry__takes_every_sample_image(registry: RegistryServer) -> None:
    """Each kind of sample image is accepted by a real registry under the digest we computed."""
    plain = oci_image("plain", labels={"team": "a"}, annotations={"note": "b"})
    images = {
        "plain": plain,
        "docker": docker_image("docker"),
        "multi": multi_platform("multi"),
        "list": index(
            [docker_image("one"), docker_image("two", platform="linux/arm64")], media_type=DOCKER_LIST
        ),
        "attached": artifact("sbom", subject=plain),
    }
    with closing(Pusher(registry.url)) as pusher:
        for tag, image in images.items():
            assert pusher.push("team/app", image, tag) == pusher.digest_of("team/app", tag)


def test_registry__keeps_its_content_when_killed(registry: RegistryServer) -> None:
    """A registry killed and started again has the same address and content."""
    address = registry.url
    with closing(Pusher(registry.url)) as pusher:
        digest = pusher.push("app", oci_image("kept"), "v1")
        registry.kill()
        registry.start()
        assert (registry.url, pusher.digest_of("app", "v1")) == (address, digest)


def test_registry__deletes(registry: RegistryServer) -> None:
    """Deleting by digest is allowed."""
    with closing(Pusher(registry.url)) as pusher:
        digest = pusher.push("app", oci_image("gone"), "v1")
        assert pusher.delete("app", digest).status == 202
        assert pusher.digest_of("app", "v1") is None


def test_registry__asks_for_a_password(start_registry: StartRegistry, registry_version: int) -> None:
    """With htpasswd, strangers are refused and the tester is not."""
    server = start_registry(registry_version, htpasswd=True)
    with closing(Pusher(server.url)) as stranger:
        assert stranger.request("GET", "/v2/").status == 401
    with closing(Pusher(server.url, username=HTPASSWD_USER, password=HTPASSWD_PASSWORD)) as tester:
        assert tester.push("app", oci_image("secret"), "v1")


async def test_registry__posts_notifications(start_registry: StartRegistry, registry_version: int) -> None:
    """A push arrives at the endpoint with its token; the blobs' events stay away."""
    announced: asyncio.Queue[tuple[str, dict[str, list[dict[str, str]]]]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        announced.put_nowait((request.headers["Authorization"], await request.json()))
        return web.Response(status=202)

    application = web.Application()
    application.router.add_post("/notifications", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        endpoint = Endpoint(f"http://127.0.0.1:{port}/notifications", token="word")
        server = start_registry(registry_version, notifications=[endpoint])
        with closing(Pusher(server.url)) as pusher:
            await asyncio.to_thread(pusher.push, "app", oci_image("event"), "v1")
        async with asyncio.timeout(60):
            authorization, envelope = await announced.get()
    finally:
        await runner.cleanup()
    assert authorization == "Bearer word"
    assert [event["action"] for event in envelope["events"]] == ["push"]

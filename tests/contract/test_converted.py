"""Registries behind something that narrows our Accept header: what they convert is not believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from indexer.common.errors import RegistryMisbehaved
from indexer.oci.digest import Digest, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import Confirmed, Found, NotFound
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.contract.conftest import IMPATIENT, StartSubject, Subject, push
from tools.sample_images import DOCKER_LIST, Blob, Image, docker_image, index, multi_platform, oci_image

APP = RepositoryName("team/app")
DOCKER_ONLY = "application/vnd.docker.distribution.manifest.v2+json"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def with_history(image: Image) -> Image:
    """Give a Docker image the history without which 2.8 cannot convert it."""
    manifest, config = json.loads(image.manifest.data), json.loads(image.blobs[0].data)
    config["history"] = [{"created": config["created"], "created_by": "ADD"} for _ in image.blobs[1:]]
    blob = Blob(image.blobs[0].media_type, json.dumps(config).encode())
    content = json.dumps({**manifest, "config": blob.descriptor()}).encode()
    return replace(image, manifest=Blob(image.media_type, content), blobs=(blob, *image.blobs[1:]))


IMAGES = {
    "image": with_history(docker_image("a")),
    "list": index([docker_image("b"), docker_image("c", platform="linux/arm64")], media_type=DOCKER_LIST),
    "oci": oci_image("d"),
    "index": multi_platform("e"),
}


@asynccontextmanager
async def proxy(url: str, altered: Mapping[str, str | None]) -> AsyncIterator[str]:
    """A proxy that sets request headers, or with None takes them away."""

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name not in altered}
        headers |= {name: value for name, value in altered.items() if value is not None}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url + request.path_qs, headers=headers) as answer,
        ):
            body = await answer.read()
            kept: dict[str, Any] = {
                name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP
            }
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, headers=kept, body=body or None)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def real(start_subject: StartSubject) -> Subject:
    """A real registry with one tag of each kind; the simulated ones convert nothing."""
    subject = await start_subject()
    if subject.server is None:
        pytest.skip("only a real registry converts")
    for tag, image in IMAGES.items():
        await push(subject.client, APP, image, tag)
    return subject


def client_at(url: str) -> RegistryClient:
    """Return a client of what listens at ``url``."""
    return RegistryClient(TransportSettings(base_url=url, retry=IMPATIENT))


@pytest.mark.parametrize("accept", ["*/*", DOCKER_ONLY], ids=["any", "docker"])
@pytest.mark.parametrize("tag", IMAGES)
async def test_look_at_tag__accept_narrowed(real: Subject, accept: str, tag: str) -> None:
    """Behind a proxy that narrows Accept a tag is where it is, or nothing follows; it neither moves nor is gone."""
    digest = parse_digest(IMAGES[tag].digest)
    async with proxy(real.url, {"Accept": accept}) as url, client_at(url) as client:
        confirmed = await client.head_tag(APP, TagName(tag), if_digest=digest)
        try:
            found: object = await client.head_tag(APP, TagName(tag))
        except RegistryMisbehaved as error:
            found = str(error)
        gone = await client.head_tag(APP, TagName("gone"))

    # 3.1.1 has no conversion for some, and says 400 (to a HEAD without a word).
    assert "Accept header" in str(found) or str(found).endswith(": 400") or _digest(found) == digest
    assert isinstance(confirmed, Confirmed)
    assert isinstance(gone, NotFound)


def _digest(look: object) -> Digest | None:
    return look.digest if isinstance(look, Found) else None


@pytest.mark.parametrize("altered", [{}, {"If-None-Match": None}], ids=["nothing", "conditions"])
async def test_look_at_tag__accept_kept(real: Subject, altered: dict[str, str | None]) -> None:
    """Behind a proxy that leaves Accept alone every kind is found, even where conditions are lost on the way."""
    async with proxy(real.url, altered) as url, client_at(url) as client:
        for tag, image in IMAGES.items():
            found = await client.head_tag(APP, TagName(tag))
            assert isinstance(found, Found)
            assert found.digest == image.digest


async def test_look_at_tag__digest_on_record(real: Subject) -> None:
    """A digest that is on record is believed without a second request; another Docker image costs one."""
    asked = real.client._transport
    sent: list[str] = []
    send = asked.send

    async def counted(request: Any) -> Any:
        sent.append(request.method)
        return await send(request)

    asked.send = counted  # type: ignore[method-assign]
    digest = parse_digest(IMAGES["image"].digest)

    await real.client.head_tag(APP, TagName("image"), on_record=digest)
    assert sent == ["HEAD"]
    await real.client.head_tag(APP, TagName("image"))
    assert sent == ["HEAD", "HEAD", "HEAD"]

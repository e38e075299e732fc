"""The counters at a real registry's debug address, 2.8 and 3.x: what they count, and where they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web

from indexer.common.errors import RegistryMisbehaved, RegistryUnavailable
from reconciler.loss.observe import Unread, sample_all
from reconciler.registry.debug_counters import PROMETHEUS_PATH, read_debug
from reconciler.registry.endpoint_counters import DebugReading, DebugSource, EndpointCounters
from tests.fixtures.registries import StartRegistry
from tools.ports import free_port
from tools.registry_server import Endpoint, RegistryServer
from tools.sample_images import Pusher, oci_image

TOKEN = "secret-of-the-test"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as opened:
        yield opened


@asynccontextmanager
async def receiver(status: int, *, location: str | None = None) -> AsyncIterator[str]:
    """A door that answers every POST with ``status``, and every GET with 200."""

    async def post(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, headers={} if location is None else {"Location": location})

    async def get(_request: web.Request) -> web.Response:
        return web.Response(text="a page")

    app = web.Application()
    app.router.add_post("/{path:.*}", post)
    app.router.add_get("/{path:.*}", get)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/notifications"
    finally:
        await runner.cleanup()


async def push(registry: RegistryServer) -> None:
    def work() -> None:
        with Pusher(registry.url) as pusher:
            pusher.push("team/app", oci_image("counted"), "v1")

    await asyncio.to_thread(work)


async def read_until(
    client: httpx.AsyncClient, address: str, holds: Callable[[EndpointCounters], bool]
) -> DebugReading:
    """Read until the first endpoint's counters are so; 10 s are more than it takes."""
    async with asyncio.timeout(60):
        while True:
            reading = await read_debug(client, address)
            if reading.endpoints and holds(reading.endpoints[0].counters):
                return reading
            await asyncio.sleep(0.02)


async def test_counters__delivered(
    client: httpx.AsyncClient, start_registry: StartRegistry, registry_version: int
) -> None:
    """One push, quiet otherwise: one event, one success, a 202; and the configuration as it was written."""
    async with receiver(202) as url:
        registry = await asyncio.to_thread(
            start_registry, registry_version, notifications=[Endpoint(url, TOKEN)]
        )
        await push(registry)
        reading = await read_until(client, registry.debug_url, lambda c: c.successes > 0)
    (endpoint,) = reading.endpoints
    configuration = endpoint.configuration
    assert DebugSource.EXPVAR == reading.source
    assert EndpointCounters(events=1, successes=1, statuses={202: 1}) == endpoint.counters
    assert configuration is not None
    assert (url, (f"Bearer {TOKEN}",), 5.0, 1, 0.2) == (
        configuration.url,
        configuration.authorization,
        configuration.timeout_seconds,
        configuration.threshold,
        configuration.backoff_seconds,
    )
    assert {"application/octet-stream"} == configuration.ignored_media_types
    assert {"pull"} == configuration.ignored_actions


async def test_counters__refused(
    client: httpx.AsyncClient, start_registry: StartRegistry, registry_version: int
) -> None:
    """A refused event stays pending, and every attempt counts as a failure with its status."""
    async with receiver(401) as url:
        registry = await asyncio.to_thread(start_registry, registry_version, notifications=[Endpoint(url)])
        await push(registry)
        reading = await read_until(client, registry.debug_url, lambda c: c.failures > 1)
    counters = reading.endpoints[0].counters
    assert (1, 1, 0, 0) == (counters.events, counters.pending, counters.successes, counters.errors)
    assert {401: counters.failures} == counters.statuses


async def test_counters__redirected(
    client: httpx.AsyncClient, start_registry: StartRegistry, registry_version: int
) -> None:
    """A redirect is followed as a GET, and *its* answer is counted: the lost event is a success with 200."""
    async with receiver(301, location="/elsewhere") as url:
        registry = await asyncio.to_thread(start_registry, registry_version, notifications=[Endpoint(url)])
        await push(registry)
        reading = await read_until(client, registry.debug_url, lambda c: c.successes > 0 and not c.pending)
    assert EndpointCounters(events=1, successes=1, statuses={200: 1}) == reading.endpoints[0].counters


async def test_counters__time_out_of_nanoseconds(
    client: httpx.AsyncClient, start_registry: StartRegistry, registry_version: int
) -> None:
    """With a time-out of 500 ns every attempt is an error without a status."""
    async with receiver(202) as url:
        endpoint = Endpoint(url, timeout="500ns")
        registry = await asyncio.to_thread(start_registry, registry_version, notifications=[endpoint])
        await push(registry)
        reading = await read_until(client, registry.debug_url, lambda c: c.errors > 1)
    counters = reading.endpoints[0].counters
    assert (1, 1, 0, 0, {}) == (
        counters.events,
        counters.pending,
        counters.successes,
        counters.failures,
        counters.statuses,
    )


async def test_counters__ignored_events_are_not_counted(
    client: httpx.AsyncClient, start_registry: StartRegistry, registry_version: int
) -> None:
    """What the ignore block swallows is in no counter, so the counters are of what we can have received."""
    async with receiver(202) as url:
        registry = await asyncio.to_thread(start_registry, registry_version, notifications=[Endpoint(url)])
        await push(registry)  # two blobs of layers and a config, ignored; one manifest
        reading = await read_until(client, registry.debug_url, lambda c: c.successes > 0)
    assert 1 == reading.endpoints[0].counters.events


async def test_prometheus__3x_alone_counts(
    client: httpx.AsyncClient, start_registry: StartRegistry, registry_version: int
) -> None:
    """3.x has the same counters for Prometheus; 2.8 has metrics, and none of notifications."""
    async with receiver(202) as url:
        registry = await asyncio.to_thread(start_registry, registry_version, notifications=[Endpoint(url)])
        await push(registry)
        by_expvar = await read_until(
            client, registry.debug_url, lambda c: c.successes > 0 and c.pending == 0
        )  # they are counted one after the other
        async with only_prometheus(client, registry.debug_url) as address:
            reading = await read_debug(client, address)
    assert DebugSource.PROMETHEUS == reading.source
    expected = [(by_expvar.endpoints[0].name, by_expvar.endpoints[0].counters)] if registry.major > 2 else []
    assert expected == [(endpoint.name, endpoint.counters) for endpoint in reading.endpoints]


async def test_address__with_either_path(client: httpx.AsyncClient, registry: RegistryServer) -> None:
    """The address may be given as people have it: bare, or with one of the paths."""
    for path in ("", "/", "/debug/vars", PROMETHEUS_PATH):
        reading = await read_debug(client, registry.debug_url + path)
        assert (registry.debug_url, DebugSource.EXPVAR, ()) == (
            reading.address,
            reading.source,
            reading.endpoints,
        )


async def test_address__not_a_debug_address(client: httpx.AsyncClient, registry: RegistryServer) -> None:
    """The registry's own address, another service, and nobody at all are told apart."""
    with pytest.raises(RegistryMisbehaved, match="neither"):
        await read_debug(client, registry.url)
    async with receiver(202) as url:
        with pytest.raises(RegistryMisbehaved, match="not JSON"):
            await read_debug(client, url)
    with pytest.raises(RegistryUnavailable):
        await read_debug(client, f"http://127.0.0.1:{free_port()}")


@asynccontextmanager
async def only_prometheus(client: httpx.AsyncClient, debug_url: str) -> AsyncIterator[str]:
    """A proxy that lets a registry's metrics out and nothing else, as many set them up."""

    async def metrics(_request: web.Request) -> web.Response:
        answer = await client.get(debug_url + PROMETHEUS_PATH)
        return web.Response(body=answer.content)

    app = web.Application()
    app.router.add_get(PROMETHEUS_PATH, metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_debug__drips(client: httpx.AsyncClient) -> None:
    """An address that never comes to an end is given up, and does not hide another."""
    dripping = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not dripping.is_set():
            await response.write(b" ")
            await asyncio.sleep(0.01)
        return response

    async def counters(_request: web.Request) -> web.Response:
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_get("/slow/{path:.*}", drip)
    app.router.add_get("/{path:.*}", counters)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        found = await sample_all(client, [f"{base}/slow", base], token=None, deadline_seconds=0.5)
    finally:
        dripping.set()
        await runner.cleanup()

    slow, fast = found.values()
    assert isinstance(slow, Unread)
    assert "no whole answer" in slow.because
    assert isinstance(fast, Unread)
    assert "no whole answer" not in fast.because

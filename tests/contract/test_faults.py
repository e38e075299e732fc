"""What stands between us and a registry: whatever goes wrong, nothing is concluded from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from indexer.common.errors import (
    ConfigurationError,
    RegistryDenied,
    RegistryError,
    RegistryMisbehaved,
    RegistryUnavailable,
    TokenServerMisbehaved,
    TokenServerUnavailable,
)
from indexer.inventory.own_requests import Claim, key_of, split_claim, weigh_claim
from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import RepositoryName, TagName
from indexer.oci.user_agent import is_ours
from reconciler.registry import catalog, tags
from reconciler.registry.answers import Confirmed, Found
from reconciler.registry.auth import Credentials
from reconciler.registry.client import RegistryClient
from reconciler.registry.pacing import Pace
from reconciler.registry.retrying import RetryPolicy
from reconciler.registry.transport import TransportSettings
from tests.contract.conftest import push
from tests.simulators.faults import Break, Fault
from tests.simulators.registry import SimulatedRegistry, skewed
from tools.ports import free_port
from tools.sample_images import oci_image

APP = RepositoryName("team/app")
LATEST = TagName("latest")
ONCE = RetryPolicy(attempts=1)
IMPATIENT = RetryPolicy(first_wait_seconds=0.001, longest_wait_seconds=0.01)

Ask = Callable[[RegistryClient], Awaitable[object]]
ASK: dict[str, Ask] = {
    "ping": lambda client: client.ping(),
    "catalog": lambda client: client.list_repositories(),
    "tags": lambda client: client.list_tags(APP),
    "tag": lambda client: client.head_tag(APP, LATEST),
    "manifest": lambda client: client.head_manifest(APP, digest_of(b"?")),
    "content": lambda client: client.get_manifest(APP, digest_of(b"?")),
    "blob": lambda client: client.get_blob(APP, digest_of(b"?"), limit=1000),
    "blob's presence": lambda client: client.has_blob(APP, digest_of(b"?")),
    "delete": lambda client: client.delete_manifest(APP, digest_of(b"?")),
}
every_ask = pytest.mark.parametrize("ask", ASK.values(), ids=ASK.keys())


@pytest.fixture
async def simulated() -> AsyncIterator[SimulatedRegistry]:
    """A simulated registry, empty."""
    async with SimulatedRegistry() as registry:
        yield registry


def client_of(url: str, **fields: Any) -> RegistryClient:
    """Return a client that gives up soon."""
    return RegistryClient(
        TransportSettings(**{"base_url": url, "retry": IMPATIENT, "timeout_seconds": 5, **fields})
    )


def for_ever(**fields: Any) -> Fault:
    """Return a fault of every request."""
    return Fault(**{"times": 10**9, **fields})


@every_ask
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_status__try_again(simulated: SimulatedRegistry, ask: Ask, status: int) -> None:
    """A registry that cannot just now is unavailable, with or without the registry's own error body."""
    simulated.faults.append(for_ever(status=status, body=b'{"errors":[{"code":"UNKNOWN"}]}'))

    async with client_of(simulated.url, retry=ONCE) as client:
        with pytest.raises(RegistryUnavailable, match=str(status)):
            await ask(client)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:{port}", "cannot connect to 127.0.0.1:{port} (Connection refused)"),
        ("https://127.0.0.1:{port}", "cannot connect to 127.0.0.1:{port} (Connection refused)"),
        (
            "http://registry.invalid:{port}",
            "cannot connect to registry.invalid:{port} (the name cannot be resolved)",
        ),
    ],
)
async def test_unreachable__said_in_words(url: str, said: str) -> None:
    """Where nothing listens, or a name means nothing, host, port and reason are said and nothing of our driver."""
    port = free_port()

    async with client_of(url.format(port=port), retry=ONCE) as client:
        with pytest.raises(RegistryUnavailable) as failed:
            await client.ping()

    assert str(failed.value) == f"GET /v2/: {said.format(port=port)}"


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, TokenServerUnavailable), (404, TokenServerMisbehaved), (None, TokenServerUnavailable)],
)
async def test_token_server__fails(
    simulated: SimulatedRegistry, status: int | None, error: type[RegistryError]
) -> None:
    """A token server's failure is its own, not the registry's, and nothing that it wrote is quoted."""
    async with SimulatedRegistry() as tokens:
        tokens.faults.append(for_ever(status=status or 500, body=b"inner words"))
        url = tokens.url if status is not None else f"http://127.0.0.1:{free_port()}"
        challenge = {"WWW-Authenticate": f'Bearer realm="{url}/token",service="s",scope="x:y:z"'}
        simulated.faults.append(for_ever(status=401, headers=challenge))

        async with client_of(simulated.url, retry=ONCE) as client:
            with pytest.raises(error, match="token server") as failed:
                await client.ping()

    assert "inner words" not in str(failed.value)


@every_ask
@pytest.mark.parametrize("status", [401, 403])
async def test_status__denied(simulated: SimulatedRegistry, ask: Ask, status: int) -> None:
    """A refusal concludes nothing and is not repeated."""
    simulated.faults.append(for_ever(status=status))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryDenied, match=str(status)):
            await ask(client)
    assert len(simulated.seen) == 1


@every_ask
@pytest.mark.parametrize("status", [200, 404, 400])
async def test_html__is_no_registry(simulated: SimulatedRegistry, ask: Ask, status: int) -> None:
    """A login page with 200 and a proxy's 404 are not a registry's answers."""
    simulated.faults.append(Fault.html(status=status, times=10**9))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryMisbehaved):
            await ask(client)


@every_ask
async def test_json__of_another_service(simulated: SimulatedRegistry, ask: Ask) -> None:
    """JSON of the wrong shape is not a registry's answer, whatever the status."""
    for status in (200, 404):
        headers = {"Content-Type": "application/json"}
        simulated.faults[:] = [for_ever(status=status, headers=headers, body=b'{"message": "not found"}')]

        async with client_of(simulated.url) as client:
            with pytest.raises(RegistryMisbehaved):
                await ask(client)


@every_ask
async def test_redirect__is_not_followed(simulated: SimulatedRegistry, ask: Ask) -> None:
    """A redirect elsewhere is reported; no request, and no password, goes there."""
    async with SimulatedRegistry() as elsewhere:
        headers = {"Location": f"{elsewhere.url}/v2/"}
        simulated.faults.append(for_ever(method="", status=301, headers=headers))
        async with client_of(simulated.url, credentials=Credentials("robot", "secret")) as client:
            with pytest.raises(RegistryError):
                await ask(client)
        assert all("Authorization" not in headers for _, _, headers in elsewhere.seen)


@every_ask
@pytest.mark.parametrize("broken", [Break.RESET, Break.CUT_SHORT])
async def test_connection__breaks(simulated: SimulatedRegistry, ask: Ask, broken: Break) -> None:
    """A connection that closes early is an unavailable registry, not an empty answer."""
    simulated.faults.append(for_ever(broken=broken))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryUnavailable):
            await ask(client)


@every_ask
@pytest.mark.parametrize("broken", [Break.STALL, Break.STALL_IN_BODY])
async def test_connection__stalls(simulated: SimulatedRegistry, ask: Ask, broken: Break) -> None:
    """Every request has a deadline, before and inside the answer."""
    simulated.faults.append(for_ever(broken=broken))
    fields = {"timeout_seconds": 0.1, "listing_timeout_seconds": 0.1, "retry": ONCE}

    async with client_of(simulated.url, **fields) as client, asyncio.timeout(60):
        with pytest.raises(RegistryUnavailable, match=r"within 0\.1 s"):
            await ask(client)


@every_ask
async def test_nobody_there(ask: Ask) -> None:
    """A port nobody listens on is an unavailable registry."""
    async with client_of(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(RegistryUnavailable):
            await ask(client)


async def test_not_http() -> None:
    """Something that does not speak HTTP is named as such."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    async with server, client_of(f"http://{host}:{port}") as client:
        with pytest.raises(RegistryMisbehaved, match="not the expected protocol"):
            await client.ping()


async def test_retry__outlives_a_short_failure(simulated: SimulatedRegistry) -> None:
    """A few failures in a row are not seen by the caller."""
    digest = await prepared(simulated)
    simulated.faults += [
        Fault(times=1, status=503),
        Fault(times=1, broken=Break.RESET),
        Fault(times=1, status=502),
    ]

    async with client_of(simulated.url) as client:
        assert isinstance(await client.head_tag(APP, LATEST, if_digest=digest), Confirmed)


async def test_retry__waits_as_asked(simulated: SimulatedRegistry) -> None:
    """``Retry-After`` is kept; one that is too long is handed to the caller at once."""
    simulated.faults.append(Fault(status=429, headers={"Retry-After": "3600"}))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryUnavailable) as caught:
            await client.ping()
        assert caught.value.retry_after_seconds == 3600
        assert (await client.ping()).api_version is not None
    assert len(simulated.seen) == 2


async def test_retry__budget_is_shared(simulated: SimulatedRegistry) -> None:
    """A registry that is down is not asked four times for everything."""
    simulated.faults.append(for_ever(status=503))
    policy = RetryPolicy(first_wait_seconds=0.001, longest_wait_seconds=0.002, budget=6)

    async with client_of(simulated.url, retry=policy) as client:
        for _ in range(50):
            with pytest.raises(RegistryUnavailable):
                await client.ping()
    assert len(simulated.seen) == 50 + 6


async def test_retry__dates_the_attempt_that_was_answered(simulated: SimulatedRegistry) -> None:
    """A look is dated by the request that was answered, not by one that failed before it."""
    moments = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(9))
    simulated.faults.append(Fault(status=503))
    settings = TransportSettings(base_url=simulated.url, retry=IMPATIENT)

    async with RegistryClient(settings, clock=lambda: next(moments)) as client:
        ping = await client.ping()

    assert ping.observed_at > datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("by", [-3600, 3600])
async def test_clock__skewed(simulated: SimulatedRegistry, by: int) -> None:
    """A look is dated by whichever clock is behind."""
    simulated.state.clock = skewed(lambda: datetime.now(UTC), by)

    async with client_of(simulated.url) as client:
        ping = await client.ping()

    assert ping.registry_clock is not None
    assert ping.as_of == (ping.registry_clock if by < 0 else ping.observed_at)


async def test_date__missing_or_odd(simulated: SimulatedRegistry) -> None:
    """Without a usable Date header our clock alone dates the answer."""
    headers = {"Date": "yesterday", "Content-Type": "application/json"}
    simulated.faults.append(Fault(status=200, headers=headers, body=b"{}"))

    async with client_of(simulated.url) as client:
        ping = await client.ping()

    assert (ping.registry_clock, ping.as_of, ping.api_version) == (None, ping.observed_at, None)


async def prepared(simulated: SimulatedRegistry) -> Digest:
    """Push one image to team/app:latest and forget the requests that took."""
    async with client_of(simulated.url) as client:
        digest = await push(client, APP, oci_image("a"), "latest")
    simulated.seen.clear()
    return digest


async def test_look_at_tag__proxy_answers_the_head(simulated: SimulatedRegistry) -> None:
    """A HEAD's 404 is believed only when a GET says so too: here a proxy made it up."""
    digest = await prepared(simulated)
    simulated.faults.append(Fault(method="HEAD", status=404))

    async with client_of(simulated.url) as client:
        look = await client.head_tag(APP, LATEST)

    assert isinstance(look, Found)
    assert look.digest == digest
    assert [method for method, _, _ in simulated.seen] == ["HEAD", "GET"]


async def test_look_at_tag__headers_taken_away(simulated: SimulatedRegistry) -> None:
    """Where a proxy strips the digest header the bytes are read and hashed."""
    image = oci_image("a")
    digest = await prepared(simulated)
    simulated.faults.append(Fault(method="HEAD", status=200, headers={"Content-Type": image.media_type}))
    simulated.faults.append(
        Fault(method="GET", status=200, headers={"Content-Type": image.media_type}, body=image.manifest.data)
    )

    async with client_of(simulated.url) as client:
        look = await client.head_tag(APP, LATEST)

    assert isinstance(look, Found)
    assert (look.digest, look.size) == (digest, image.manifest.size)


async def test_look_at_tag__unasked_304(simulated: SimulatedRegistry) -> None:
    """A 304 to a request without a condition (a cache) confirms nothing."""
    simulated.faults.append(Fault(status=304))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryMisbehaved, match="without a condition"):
            await client.head_tag(APP, LATEST)


async def test_look_at_manifest__answers_about_another(simulated: SimulatedRegistry) -> None:
    """A digest other than the one asked for is no answer."""
    headers = {"Content-Type": oci_image("a").media_type, "Content-Length": "5"}
    headers |= {"Docker-Content-Digest": digest_of(b"other")}
    simulated.faults.append(Fault(method="HEAD", status=200, headers=headers))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryMisbehaved, match="answered about"):
            await client.head_manifest(APP, digest_of(b"this"))


async def test_conditions__on_tags_only(simulated: SimulatedRegistry) -> None:
    """``If-None-Match`` is never sent about a digest, and every manifest request accepts all four types."""
    digest = await prepared(simulated)

    async with client_of(simulated.url) as client:
        await client.head_tag(APP, LATEST, if_digest=digest)
        await client.head_manifest(APP, digest)
        await client.get_manifest(APP, digest)

    conditions = [headers.get("If-None-Match") for _, _, headers in simulated.seen]
    assert conditions == [f'"{digest}"', None, None]
    assert all(headers["Accept"].count("application/vnd.") == 4 for _, _, headers in simulated.seen)
    assert all(is_ours(headers["User-Agent"]) for _, _, headers in simulated.seen)


async def test_own_requests__each_send_is_signed_for_the_registry_alone(simulated: SimulatedRegistry) -> None:
    """A send has a value of its own for its method and path, repeats too; storage and token servers get none."""
    key = key_of(b"secret")
    digest = await prepared(simulated)
    async with SimulatedRegistry() as storage:
        storage.faults.append(for_ever(status=200, body=b"config"))
        location = f"{storage.url}/config"
        simulated.faults += [
            Fault(path="manifests", status=503),
            Fault(path="blobs", status=307, headers={"Location": location}),
        ]
        async with client_of(simulated.url, own_key=key) as client:
            await client.head_tag(APP, LATEST)
            await client.get_manifest(APP, digest)
            await client.get_blob(APP, digest_of(b"config"), limit=100)
        elsewhere = [split_claim(headers["User-Agent"])[1] for _, _, headers in storage.seen]
    values = [
        (split_claim(headers["User-Agent"])[1], method, path) for method, path, headers in simulated.seen
    ]
    assert ["HEAD", "HEAD", "GET", "GET"] == [method for _, method, _ in values]
    assert len(values) == len({value for value, _, _ in values})
    assert {Claim.OWN} == {
        weigh_claim(value or "", key=key, method=method, path=path, at=datetime.now(UTC))
        for value, method, path in values
    }
    assert [""] == elsewhere


async def test_own_requests__by_the_clock_of_the_registry(simulated: SimulatedRegistry) -> None:
    """The registry dates its events, so the value is dated by the registry's last answer."""
    key, hours = key_of(b"secret"), timedelta(hours=3)
    settings = TransportSettings(base_url=simulated.url, retry=IMPATIENT, own_key=key)
    async with RegistryClient(settings, clock=lambda: datetime.now(UTC) - hours) as client:
        await client.ping()
        await client.ping()
    first, second = (split_claim(headers["User-Agent"])[1] or "" for _, _, headers in simulated.seen)
    found = [
        weigh_claim(value, key=key, method="GET", path="/v2/", at=datetime.now(UTC))
        for value in (first, second)
    ]
    assert [Claim.OUTDATED, Claim.OWN] == found


async def test_content__does_not_hash(simulated: SimulatedRegistry) -> None:
    """Bytes that are not what the digest says are refused."""
    headers = {"Content-Type": oci_image("a").media_type}
    simulated.faults.append(for_ever(status=200, headers=headers, body=b"{}"))

    async with client_of(simulated.url) as client:
        for ask in (
            client.get_manifest(APP, digest_of(b"?")),
            client.get_blob(APP, digest_of(b"?"), limit=9),
        ):
            with pytest.raises(RegistryMisbehaved, match="do not hash"):
                await ask


async def test_content__too_large(simulated: SimulatedRegistry) -> None:
    """No answer is read beyond its limit."""
    headers = {"Content-Type": oci_image("a").media_type}
    simulated.faults.append(for_ever(status=200, headers=headers, body=b" " * (5 * 1024 * 1024)))

    async with client_of(simulated.url) as client:
        for ask in (
            client.get_manifest(APP, digest_of(b"?")),
            client.get_blob(APP, digest_of(b"?"), limit=9),
        ):
            with pytest.raises(RegistryMisbehaved, match="more than"):
                await ask


async def test_get_blob__from_storage(simulated: SimulatedRegistry) -> None:
    """A storage redirect is followed byte for byte, without the registry's credentials."""
    content = b"config"
    asked: list[tuple[str, str | None]] = []

    async def storage(request: web.Request) -> web.Response:
        asked.append((request.raw_path, request.headers.get("Authorization")))
        return web.Response(body=content)

    application = web.Application()
    application.router.add_get("/{rest:.*}", storage)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    presigned = "/bucket/a%2Fb?X-Amz-Signature=a%2Bb%3D&x=%7e"
    simulated.users = {"robot": "secret"}
    simulated.faults.append(
        Fault(path="blobs", status=307, headers={"Location": f"http://{host}:{port}{presigned}"})
    )

    async with client_of(simulated.url, credentials=Credentials("robot", "secret")) as client:
        await client.ping()
        assert await client.get_blob(APP, digest_of(content), limit=100) == content
    await runner.cleanup()

    assert asked == [(presigned, None)]


async def test_get_blob__redirected_further_inside(simulated: SimulatedRegistry) -> None:
    """A redirect to where only our own machine can ask is refused, unless its host is named; nothing is asked there."""
    async with SimulatedRegistry() as inside:
        location = inside.url.replace("127.0.0.1", "localhost") + "/secret"
        simulated.faults.append(for_ever(path="blobs", status=307, headers={"Location": location}))
        inside.faults.append(for_ever(status=403, body=b"the secret"))

        # The guard takes the registry for a public one; our simulated one can only listen here.
        async with client_of(simulated.url, retry=ONCE) as client:
            client._transport._guard._registry_host = "203.0.113.9"
            with pytest.raises(RegistryMisbehaved, match="RECONCILER_REGISTRY_REDIRECT_HOSTS"):
                await client.get_blob(APP, digest_of(b"?"), limit=100)
        assert inside.seen == []

        async with client_of(simulated.url, retry=ONCE, redirect_hosts=("localhost",)) as client:
            client._transport._guard._registry_host = "203.0.113.9"
            with pytest.raises(RegistryDenied) as refused:
                await client.get_blob(APP, digest_of(b"?"), limit=100)
        assert len(inside.seen) == 1
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("location", ["", "ftp://x/y", "http://[", "javascript:alert(1)"])
async def test_get_blob__redirected_nowhere(simulated: SimulatedRegistry, location: str) -> None:
    """A redirect without a usable address is refused."""
    simulated.faults.append(for_ever(path="blobs", status=307, headers={"Location": location}))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryMisbehaved, match="no address"):
            await client.get_blob(APP, digest_of(b"?"), limit=100)


async def test_get_blob__redirected_in_circles(simulated: SimulatedRegistry) -> None:
    """Redirects end."""
    simulated.faults.append(for_ever(path="/round", status=302, headers={"Location": "/round"}))
    simulated.faults.append(for_ever(path="blobs", status=302, headers={"Location": "/round"}))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryMisbehaved, match="too many redirects"):
            await client.get_blob(APP, digest_of(b"?"), limit=100)


LISTED = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"name":"other/app","tags":[]}',
        b'{"name":"team/app"}',
        b'{"name":"team/app","tags":{"a":1}}',
        b'{"name":"team/app","tags":[1]}',
        b'{"name":"team/app","tags":["a"',
    ],
)
async def test_list_tags__not_a_listing(simulated: SimulatedRegistry, body: bytes) -> None:
    """A page that is broken, or about another repository, is no listing."""
    simulated.faults.append(for_ever(status=200, headers=LISTED, body=body))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryMisbehaved):
            await client.list_tags(APP)


def page(*names: str, link: str | None = None, **fault: Any) -> Fault:
    """Return a page of tags that is served once."""
    headers = {**LISTED, **({"Link": f'<{link}>; rel="next"'} if link else {})}
    body = json.dumps({"name": APP, "tags": names}).encode()
    return Fault(**{"status": 200, "headers": headers, "body": body, **fault})


async def test_list_tags__second_page_fails(simulated: SimulatedRegistry) -> None:
    """A listing whose second page cannot be had is an error, not a short listing."""
    simulated.faults += [page("a", link="/v2/team/app/tags/list?last=a&n=1"), for_ever(status=503)]

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryUnavailable):
            await client.list_tags(APP)


async def test_list_tags__in_circles(simulated: SimulatedRegistry) -> None:
    """Pages that lead back to themselves end in an error."""
    simulated.faults.append(page("a", link="/v2/team/app/tags/list?last=a&n=1", times=10**9))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryMisbehaved, match="pages repeat"):
            await client.list_tags(APP)


async def test_list_tags__vanishes_between_pages(simulated: SimulatedRegistry) -> None:
    """A repository that goes while it is listed gives what was seen, and says that it is not all."""
    simulated.faults.append(page("a", link="/v2/team/app/tags/list?last=a&n=1"))

    async with client_of(simulated.url) as client:
        listing = await client.list_tags(APP)

    assert (tuple(listing.names), listing.complete, listing.unknown_repository) == (("a",), False, False)


async def test_list_tags__odd_names_and_duplicates(simulated: SimulatedRegistry) -> None:
    """Names no tag can have are left out, counted and named, and the rest is complete; one given twice is one."""
    long = "x" * 200
    simulated.faults.append(page("a", "@eaDir", "a", long, ".DS_Store", "c", "@eaDir"))

    async with client_of(simulated.url) as client:
        listing = await client.list_tags(APP)

    assert (tuple(listing.names), listing.complete, listing.reasons) == (("a", "c"), True, ())
    assert listing.left_out == 3
    assert listing.left_out_examples == (".DS_Store", "@eaDir", "x" * 80)


@pytest.mark.parametrize("names", [(), ("a", "b")], ids=["empty", "repeated"])
async def test_list_tags__pages_that_bring_nothing_new(
    simulated: SimulatedRegistry, names: tuple[str, ...]
) -> None:
    """A page without news that says there are more ends the listing, which is not complete."""
    simulated.faults.append(page("a", "b", link="/v2/team/app/tags/list?last=b&n=2"))
    simulated.faults += [page(*names, link=f"/v2/team/app/tags/list?last=c{number}") for number in range(50)]

    async with client_of(simulated.url) as client:
        listing = await client.list_tags(APP)

    assert (tuple(listing.names), listing.complete) == (("a", "b"), False)
    assert "no new names" in listing.reasons[0]
    assert len(simulated.seen) == 2


async def test_list_tags__without_end(simulated: SimulatedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing whose every page has a fresh name and a fresh link ends at a bound, and is not complete."""
    monkeypatch.setattr(tags, "MAX_PAGES", 20)
    simulated.faults += [
        page(f"t{number:03}", link=f"/v2/team/app/tags/list?last=t{number:03}") for number in range(100)
    ]

    async with client_of(simulated.url) as client:
        listing = await client.list_tags(APP)
        paged = len(listing.names)
        monkeypatch.setattr(tags, "MAX_PAGES", 10**6)
        monkeypatch.setattr(tags, "LISTING_LIMIT_BYTES", 100)
        many = await client.list_tags(APP)

    assert (paged, listing.complete) == (21, False)
    assert "no end" in listing.reasons[0]
    assert not many.complete
    assert len(many.names) < 60


async def test_list_tags__link_to_another_host(simulated: SimulatedRegistry) -> None:
    """Of a link only its marker is used; no request follows it to another host."""
    async with SimulatedRegistry() as elsewhere:
        simulated.faults += [page("a", link=f"{elsewhere.url}/v2/team/app/tags/list?n=1&last=a"), page("b")]
        async with client_of(simulated.url) as client:
            listing = await client.list_tags(APP)

        assert tuple(listing.names) == ("a", "b")
        assert elsewhere.seen == []
        assert simulated.seen[-1][1] == "/v2/team/app/tags/list?last=a"


async def fill(simulated: SimulatedRegistry, count: int) -> set[str]:
    """Put repositories into a registry without any request."""
    names = {f"r{number:03}" for number in range(count)}
    for name in names:
        simulated.state.push(name, b"{}", media_type=oci_image("a").media_type, tag="t")
    return names


async def test_list_repositories__short_failures(simulated: SimulatedRegistry) -> None:
    """Failures in the middle of the walk are got over, with another page size."""
    names = await fill(simulated, 30)
    simulated.faults += [Fault(path="last=r009", broken=Break.RESET), Fault(path="last=r019", status=503)]

    async with client_of(simulated.url) as client:
        listing = await catalog.list_repositories(client._transport, page_size=10)

    assert set(listing.names) == names
    assert listing.complete


async def test_list_repositories__first_request_dropped(simulated: SimulatedRegistry) -> None:
    """A connection that drops under the first, too large page size does not end the search."""
    names = await fill(simulated, 3)
    simulated.faults.append(Fault(broken=Break.RESET, times=2))  # aiohttp itself sends a GET twice

    async with client_of(simulated.url) as client:
        listing = await client.list_repositories()

    assert set(listing.names) == names
    assert listing.complete


async def test_list_repositories__hidden_cannot_be_asked_for(simulated: SimulatedRegistry) -> None:
    """Where a name behind a page boundary cannot be asked for, the listing is not complete."""
    for name in ["a/1", "a/2", "b", "c"]:
        simulated.state.push(name, b"{}", media_type=oci_image("a").media_type, tag="t")
    simulated.faults.append(for_ever(path="/v2/a/tags/list", status=503))

    async with client_of(simulated.url) as client:
        listing = await catalog.list_repositories(client._transport, page_size=2)

    assert set(listing.names) == {"a/1", "a/2", "b", "c"}
    assert not listing.complete
    assert "503" in listing.reasons[0]


async def test_list_repositories__breaks_off(simulated: SimulatedRegistry) -> None:
    """A walk that cannot go on gives what it saw and says that it is not all."""
    await fill(simulated, 30)
    simulated.faults.append(for_ever(path="last=r019", status=503))

    async with client_of(simulated.url) as client:
        listing = await catalog.list_repositories(client._transport, page_size=10)

    assert set(listing.names) == {f"r{number:03}" for number in range(20)}
    assert not listing.complete
    assert "503" in listing.reasons[0]


async def test_list_repositories__denied_half_way(simulated: SimulatedRegistry) -> None:
    """Access that is taken away raises: it is the operator's to see."""
    await fill(simulated, 30)
    simulated.faults.append(for_ever(path="last=r009", status=403))

    async with client_of(simulated.url) as client:
        with pytest.raises(RegistryDenied):
            await catalog.list_repositories(client._transport, page_size=10)


async def test_list_repositories__page_hides_some(simulated: SimulatedRegistry) -> None:
    """Names that one page size hides are shown by another."""
    names = await fill(simulated, 30)
    body = json.dumps({"repositories": [f"r{number:03}" for number in range(20, 29)]}).encode()
    simulated.faults.append(Fault(path="n=10&last=r019", status=200, headers=LISTED, body=body))

    async with client_of(simulated.url) as client:
        listing = await catalog.list_repositories(client._transport, page_size=10)

    assert set(listing.names) == names
    assert listing.complete


async def test_list_repositories__link_goes_in_circles(simulated: SimulatedRegistry) -> None:
    """A link that leads back ends the walk, incomplete."""
    headers = {**LISTED, "Link": '</v2/_catalog?last=a&n=1>; rel="next"'}
    simulated.faults.append(for_ever(status=200, headers=headers, body=b'{"repositories":["a"]}'))

    async with client_of(simulated.url) as client:
        listing = await client.list_repositories()

    assert (listing.names, listing.complete) == (("a",), False)
    assert "pages repeat" in listing.reasons[0]


async def test_list_repositories__odd_names(simulated: SimulatedRegistry) -> None:
    """A stray directory is not a repository, and is mentioned."""
    simulated.faults.append(for_ever(status=200, headers=LISTED, body=b'{"repositories":["a","Lost+Found"]}'))

    async with client_of(simulated.url) as client:
        listing = await client.list_repositories()

    assert (listing.names, listing.complete, listing.reasons) == (("a",), True, ())
    assert (listing.left_out, listing.left_out_examples) == (1, ("Lost+Found",))


def pages_for_ever(simulated: SimulatedRegistry, *, fresh: bool, count: int) -> None:
    """Let the catalog go on and on: each page with a new marker, and with a new name or none."""
    for number in range(count):
        headers = {**LISTED, "Link": f'</v2/_catalog?last=m{number}&n=1>; rel="next"'}
        names = [f"r{number}"] if fresh or number == 0 else []
        body = json.dumps({"repositories": names}).encode()
        simulated.faults.append(Fault(path="_catalog", status=200, headers=headers, body=body))


async def test_list_repositories__pages_that_bring_nothing_new(simulated: SimulatedRegistry) -> None:
    """A row of pages without a new name ends the walk, which is not complete."""
    pages_for_ever(simulated, fresh=False, count=200)

    async with client_of(simulated.url) as client:
        listing = await client.list_repositories()

    assert (listing.names, listing.complete) == (("r0",), False)
    assert "no new names" in listing.reasons[0]
    assert len(simulated.seen) < 20


@pytest.mark.parametrize(("bound", "value"), [("MAX_PAGES", 30), ("MAX_NAMES", 30)])
async def test_list_repositories__without_end(
    simulated: SimulatedRegistry, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """Fresh names on every page end at a bound, of pages or of names, and the listing is not complete."""
    monkeypatch.setattr(catalog, bound, value)
    pages_for_ever(simulated, fresh=True, count=200)

    async with client_of(simulated.url) as client:
        listing = await client.list_repositories()

    assert (len(listing.names), listing.complete) == (30, False)
    assert "no end" in listing.reasons[0]


async def test_list_repositories__omitted_name_stays_unknown(simulated: SimulatedRegistry) -> None:
    """What no page size shows cannot be known: absence from a complete catalog proves nothing."""
    names = await fill(simulated, 5)
    simulated.state.omitted_repositories.add("r003")

    async with client_of(simulated.url) as client:
        listing = await client.list_repositories()
        hidden = await tags.list_tags(client._transport, RepositoryName("r003"))

    assert set(listing.names) == names - {"r003"}
    assert tuple(hidden.names) == ("t",)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("registry:5000", "expected http"),
        ("ftp://registry", "expected http"),
        ("http://", "expected http"),
        ("http://user:secret@registry", "contains credentials"),
        ("http://registry/v2", "leave out /v2"),
        ("http://registry/v2/", "leave out /v2"),
        ("http://registry/?a=b", "leave out /v2"),
        ("http://registry:port", "not a registry address"),
        ("http://[::1", "not a registry address"),
    ],
)
def test_base_url__refused(url: str, reason: str) -> None:
    """An address that cannot work is refused before anything is sent, and no password is repeated."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        client_of(url)
    assert "secret" not in str(caught.value)


async def test_paced__only_the_walk_waits(simulated: SimulatedRegistry) -> None:
    """Every send of the paced client waits its turn, repeats included; the client it was made of never does."""
    simulated.state.push(APP, b"{}", media_type=oci_image("a").media_type, tag=LATEST)
    turns = 0

    class Counting(Pace):
        async def wait(self) -> None:
            nonlocal turns
            turns += 1

    async with client_of(simulated.url) as client:
        reconciling = client.paced(5)
        reconciling._transport._pace = Counting(5)
        await client.ping()
        await client.list_tags(APP)
        assert turns == 0
        simulated.faults.append(Fault(status=503))
        await reconciling.ping()
        await reconciling.head_tag(APP, LATEST)
    assert turns == 3
    assert len(simulated.seen) == 5

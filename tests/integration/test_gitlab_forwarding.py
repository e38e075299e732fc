"""Notifications forwarded to an HTTP endpoint that takes and refuses what GitLab's does: at least once, in order."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from indexer.background.loop import WakeEvent
from indexer.common.errors import GitlabUnavailable
from indexer.common.response_body import ANSWER_BYTES
from indexer.gitlab_forwarding import forwarder
from indexer.gitlab_forwarding.forwarder import PATH, Forwarder, GitlabSettings, open_client
from indexer.ingest.worker import Forwarding, IngestWorker
from indexer.store import forwarding, inbox
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from tests.fixtures.floods import EPOCH, delivery, event
from tests.fixtures.sinks import Certificates

SECRET = "notification-secret-of-the-tests"
OPENED: list[httpx.AsyncClient] = []
"""Clients of the running test, to be closed after it."""

Answer = Callable[[list[dict[str, Any]]], web.Response | None]


@dataclass
class Gitlab:
    """GitLab's endpoint (lib/api/container_registry_event.rb): the whole header, the media type, known actions."""

    events: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    answer: Answer = lambda _: None
    slow: bool = False

    async def receive(self, request: web.Request) -> web.Response:
        self.requests += 1
        if request.headers.get("Authorization") != SECRET:
            return web.Response(status=401)
        if request.content_type != forwarder.CONTENT_TYPE:
            return web.Response(status=415)
        events = (await request.json())["events"]
        if any(each["action"] not in ("push", "delete", "pull") for each in events):
            return web.Response(status=400, text="events[action] does not have a valid value")
        if self.slow:
            await asyncio.sleep(3600)
        refused = self.answer(events)
        if refused is None:
            self.events += events
        return refused or web.Response()

    def ids(self) -> list[str]:
        return [each["id"] for each in self.events]


@pytest.fixture
async def there() -> AsyncIterator[tuple[Gitlab, str]]:
    """GitLab, and where it is."""
    fake = Gitlab()
    app = web.Application()
    app.router.add_post(PATH, fake.receive)
    async with TestServer(app, host="127.0.0.1") as server:
        yield fake, str(server.make_url(PATH))
        while OPENED:
            await OPENED.pop().aclose()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(forwarder, "FIRST_DEFERRAL_SECONDS", 0.05)
    monkeypatch.setattr(forwarder, "REQUEST_DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(forwarder, "BOUND_EVERY_SECONDS", 0.0)


def forwarder_of(
    pool: Pool, url: str, *, token: str = SECRET, longest_queue: int = 1000, **named: Any
) -> Forwarder:
    settings = GitlabSettings(
        url=url,
        token=token,
        longest_queue=longest_queue,
        **{"longest_wait": timedelta(days=1), "ca_file": None} | named,
    )
    OPENED.append(open_client(settings))
    return Forwarder(pool, OPENED[-1], settings)


async def apply_event(pool: Pool, lookups: Lookups, *events: dict[str, Any]) -> None:
    """Apply events, each a delivery of its own."""
    async with pool.acquire() as connection:
        await inbox.put_deliveries(
            connection, deliveries=[delivery(e, can_wait=e["action"] == "pull") for e in events]
        )
    worker = IngestWorker(pool, lookups, forwarded=Forwarding(queued=WakeEvent(), pulls=True))
    while (await worker.run_once()).items:
        pass


def push(number: int, *, tag: str = "v1", action: str = "push") -> dict[str, Any]:
    return event(action, tag=tag, at=EPOCH + timedelta(seconds=number), number=number, of=f"{tag} {number}")


async def until_empty(pool: Pool, loop: Forwarder) -> None:
    """Run rounds as the harness does: one that fails is tried again."""
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM gitlab_event WHERE refused_at IS NULL"):
            with suppress(GitlabUnavailable):
                await loop.run_once()
            await asyncio.sleep(0.01)


async def test_forwarding__an_authority_of_ones_own(
    pool: Pool, lookups: Lookups, certificates: Certificates
) -> None:
    """With the CA file GitLab's certificate is good; without it nothing is sent."""
    fake = Gitlab()
    app = web.Application()
    app.router.add_post(PATH, fake.receive)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificates.certificate, certificates.key)
    server = TestServer(app, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=server_side)
    try:
        url = str(server.make_url(PATH))
        await apply_event(pool, lookups, push(1))
        with pytest.raises(GitlabUnavailable):
            await forwarder_of(pool, url).run_once()
        assert 0 == fake.requests
        await pool.execute("UPDATE gitlab_forwarding SET lease_until = '-infinity'")
        await until_empty(pool, forwarder_of(pool, url, ca_file=str(certificates.ca)))
        assert 1 == len(fake.events)
    finally:
        while OPENED:
            await OPENED.pop().aclose()
        await server.close()


async def test_forwarding__what_gitlab_wants_and_nothing_else(
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str]
) -> None:
    """Pushes, deletes and pulls arrive once, whole but for what is empty in the target; a mount does not."""
    fake, url = there
    pushed, pulled = push(1), push(3, action="pull")
    deleted = push(2, action="delete")
    deleted["target"] = {"digest": "", "mediaType": "", "size": 0, "repository": "team/app", "tag": "v1"}
    mount = push(4, action="mount")
    await apply_event(pool, lookups, pushed, deleted, mount, pulled, pushed)
    await until_empty(pool, forwarder_of(pool, url))
    stripped = deleted | {"target": {"repository": "team/app", "tag": "v1"}}
    assert fake.events == [pushed, stripped, pulled]


async def test_forwarding__a_wrong_token_loses_nothing(
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str]
) -> None:
    """401 is about us, not about the event: the loop fails and says why, and all arrives once the token is right."""
    fake, url = there
    await apply_event(pool, lookups, *(push(n) for n in range(5)))
    with pytest.raises(GitlabUnavailable, match=r"401.*INDEXER_GITLAB_TOKEN") as told:
        await forwarder_of(pool, url, token="wrong-secret").run_once()
    assert "wrong-secret" not in str(told.value)
    await pool.execute("UPDATE gitlab_forwarding SET lease_until = '-infinity'")
    await until_empty(pool, forwarder_of(pool, url))
    assert fake.ids() == [push(n)["id"] for n in range(5)]


@pytest.mark.parametrize("trouble", ["503", "slow", "down"])
async def test_forwarding__at_least_once_and_in_order_through_trouble(
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str], trouble: str
) -> None:
    """While GitLab fails, hangs or is away, everything waits; then every tag's events arrive in their order."""
    fake, url = there
    loop = forwarder_of(pool, "http://127.0.0.1:1" + PATH if trouble == "down" else url)
    if trouble == "503":
        fake.answer = lambda _: web.Response(status=503)
    fake.slow = trouble == "slow"
    told = [push(n, tag=f"v{n % 3}") for n in range(12)]
    await apply_event(pool, lookups, *told)
    for _ in range(3):
        with pytest.raises(GitlabUnavailable):
            await loop.run_once()
    assert fake.events == []
    fake.answer, fake.slow = (lambda _: None), False
    loop._settings = forwarder_of(pool, url)._settings
    await until_empty(pool, loop)
    assert set(fake.ids()) == {each["id"] for each in told}
    for tag in ("v0", "v1", "v2"):
        arrived = [each["id"] for each in fake.events if each["target"]["tag"] == tag]
        assert arrived == [each["id"] for each in told if each["target"]["tag"] == tag]


@pytest.mark.parametrize(
    ("status", "headers", "dead"), [(400, {}, 1), (500, {}, 0), (503, {"Retry-After": "0"}, 0)]
)
async def test_forwarding__one_bad_event_holds_up_no_other_tag(  # noqa: PLR0917 - fixtures
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str], status: int, headers: dict[str, str], dead: int
) -> None:
    """An event that GitLab refuses for good is set aside; one it chokes on holds back its own tag only."""
    fake, url = there
    told = [push(n, tag=f"v{n % 2}") for n in range(6)]
    bad = told[2]["id"]
    fake.answer = lambda events: (
        web.Response(status=status, headers=headers) if bad in [e["id"] for e in events] else None
    )
    await apply_event(pool, lookups, *told)
    loop = forwarder_of(pool, url)
    others = {each["id"] for each in told if each["target"]["tag"] == "v1"}
    async with asyncio.timeout(60):
        while not others <= set(fake.ids()):
            with suppress(GitlabUnavailable):
                await loop.run_once()
            await asyncio.sleep(0.01)
    if not dead:
        assert fake.ids().count(told[4]["id"]) == 0
        fake.answer = lambda _: None
    await until_empty(pool, loop)
    assert await pool.fetchval("SELECT count(*) FROM gitlab_event") == dead
    expected = [
        each["id"] for each in told if each["target"]["tag"] == "v0" and not (dead and each["id"] == bad)
    ]
    assert [each["id"] for each in fake.events if each["target"]["tag"] == "v0"] == expected


async def test_forwarding__reads_no_more_of_an_answer_than_it_shows(
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str]
) -> None:
    """A refusal with an endless body is a refusal; its beginning is the reason."""
    fake, url = there
    fake.answer = lambda _: web.Response(status=400, body=b"no. " * (16 * 1024 * 1024))
    await apply_event(pool, lookups, push(1))
    read = 0
    real = httpx.Response.aiter_bytes

    async def counted(answer: httpx.Response, *given: Any) -> AsyncIterator[bytes]:
        nonlocal read
        async for part in real(answer, *given):
            read += len(part)
            yield part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Response, "aiter_bytes", counted)
        await until_empty(pool, forwarder_of(pool, url))
    assert ANSWER_BYTES < read < 4 * ANSWER_BYTES
    assert "GitLab answers 400: 'no. no." in await pool.fetchval("SELECT reason FROM gitlab_event")


async def test_forwarding__comes_again_when_gitlab_asked(
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str]
) -> None:
    """``Retry-After`` is kept: no request is made before, and the loop says what it waits for."""
    fake, url = there
    fake.answer = lambda _: web.Response(status=429, headers={"Retry-After": "600"})
    await apply_event(pool, lookups, push(1))
    loop = forwarder_of(pool, url)
    for _ in range(3):
        with pytest.raises(GitlabUnavailable):
            await loop.run_once()
    assert fake.requests == 1
    fake.answer = lambda _: None
    loop._not_before = 0.0
    await until_empty(pool, loop)
    assert fake.ids() == [push(1)["id"]]


async def test_forwarding__is_bounded_and_counts_what_it_drops(
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str]
) -> None:
    """Beyond its number the queue drops pulls first, then the oldest; beyond its age everything; all is counted."""
    fake, url = there
    await apply_event(
        pool, lookups, push(1), push(2), push(3), push(4, action="pull"), push(5, action="pull")
    )
    loop = forwarder_of(pool, url, longest_queue=2)
    await until_empty(pool, loop)
    assert fake.ids() == [push(2)["id"], push(3)["id"]]
    await apply_event(pool, lookups, push(6))
    loop._settings = forwarder_of(pool, url, longest_wait=timedelta(0))._settings
    await until_empty(pool, loop)
    row = await pool.fetchrow("SELECT forwarded, dropped FROM gitlab_forwarding")
    assert row is not None
    assert tuple(row) == (2, 4)


async def test_forwarding__another_process_takes_over_what_a_killed_one_left(
    pool: Pool, lookups: Lookups, there: tuple[Gitlab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process forwards at a time; killed between GitLab's answer and its note, the next sends again."""
    fake, url = there
    await apply_event(pool, lookups, push(1), push(2))

    async def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    dying, other = forwarder_of(pool, url), forwarder_of(pool, url)
    with monkeypatch.context() as patch:
        patch.setattr(forwarding, "finish_events", killed)
        with pytest.raises(KeyboardInterrupt):
            await dying.run_once()
    assert (await other.run_once()).items == 0
    await pool.execute("UPDATE gitlab_forwarding SET lease_until = clock_timestamp()")
    await until_empty(pool, other)
    assert fake.ids() == 2 * [push(1)["id"], push(2)["id"]]
    assert json.loads(forwarder.envelope([b'{"id":"1","target":{"size":0,"digest":"sha256:0"}}'])) == {
        "events": [{"id": "1", "target": {"size": 0, "digest": "sha256:0"}}]
    }

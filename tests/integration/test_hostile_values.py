"""Hostile values in every parameter, header and member: refused or stored, never a fault, and nothing stops."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient
from structlog.testing import capture_logs
from yarl import URL

from indexer.access_log.endpoint import add_access_endpoint
from indexer.api.routes import ApiSettings, add_api
from indexer.background.loop import WakeEvent
from indexer.ingest.endpoint import add_endpoint
from indexer.ingest.spool import Spool
from indexer.ingest.worker import IngestWorker
from indexer.ingest.writer import InboxWriter
from indexer.inventory.changes import WorkKind
from indexer.oci import media_types
from indexer.oci.digest import digest_of
from indexer.oci.reference import RepositoryName
from indexer.store import work_items
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.resolve.loop import Resolver
from tests.fixtures import everything, hostile
from tests.fixtures.browsing import put_feeds
from tests.fixtures.jobs import ended
from tests.fixtures.rows import digest
from tests.fixtures.tokens import claims, encode, sign, trust_in
from tests.fixtures.trusting import MeasuredTestServer
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState

TOKEN = "token-of-the-hostile-tests"
AT_ONCE = 16
KNOWN = {
    "repository": everything.APP,
    "tag": "latest",
    "digest": digest("one"),
    "source": "cluster",
    "feed": "siem",
}
ACCESS = {
    "msg": "response completed with error",
    "http.response.status": 403,
    "http.request.host": "registry.example:5000",
    "http.request.id": "16e03b14-3878-4287-92b1-97073a374afa",
    "http.request.method": "PUT",
    "http.request.remoteaddr": "192.0.2.7:42668",
    "http.request.uri": "/v2/team/app/manifests/v1",
    "http.request.useragent": "docker/27.0",
    "auth.user.name": "alice",
    "err.code": "denied",
    "instance.id": "i1",
    "time": "2026-01-24T13:42:04.714508044Z",
}
EVENT = {
    "id": "an-event",
    "timestamp": "2026-01-02T03:04:05.123456789Z",
    "action": "push",
    "target": {
        "mediaType": media_types.OCI_MANIFEST,
        "size": 500,
        "length": 500,
        "digest": digest("pushed"),
        "repository": "team/told",
        "fromRepository": "team/app",
        "url": "http://registry.example/v2/team/told/manifests/x",
        "tag": "v1",
        "references": [{"mediaType": media_types.OCI_CONFIG, "size": 7, "digest": digest("config")}],
    },
    "request": {"id": "r", "addr": "192.0.2.1:1", "host": "h", "method": "PUT", "useragent": "docker/27"},
    "actor": {"name": "alice"},
    "source": {"addr": "registry:5000", "instanceID": "i"},
}


@pytest.fixture
def faults(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """What was logged as a defect; none at the end."""
    found: list[Any] = []
    with capture_logs() as entries:
        yield found
    found += [e for e in entries if e["log_level"] in ("error", "critical") or e.get("exc_info")]
    found += [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert [] == found


@pytest_asyncio.fixture
async def client(
    pool: Pool, database_url: str, tmp_path: Path
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """All that ``indexer serve`` answers, with something of everything behind it."""
    await everything.fill(pool)
    await put_feeds(pool)
    KNOWN["id"] = await ended(pool)
    # What is there was put under numbers of its own, which the log goes on to give.
    await pool.execute("SELECT setval(pg_get_serial_sequence('audit_staged', 'id'), 1000)")
    spool = Spool(tmp_path / "spool.sqlite3", max_bytes=100_000_000)
    writer = InboxWriter(database_url, stored=WakeEvent(), spool=spool)
    writer.start()
    app = web.Application()
    add_endpoint(app, writer=writer, token=TOKEN)
    add_access_endpoint(app, pool=pool, token=TOKEN)
    trust = trust_in(tmp_path)
    add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({TOKEN}), trust=trust, connections=2))
    server = MeasuredTestServer(app, host="127.0.0.1")
    await server.start_server()
    async with TestClient(server) as opened:
        yield opened
    await writer.close()


async def statuses(
    client: TestClient[web.Request, web.Application], paths: Iterable[str], **given: Any
) -> dict[str, int]:
    """Ask for each path as it stands, some at once; return the statuses."""
    found: dict[str, int] = {}
    waiting = iter(paths)
    base = str(client.make_url("/"))[:-1]
    given.setdefault("headers", {"Authorization": f"Bearer {TOKEN}"})

    async def ask() -> None:
        for path in waiting:
            async with client.session.get(
                URL(base + path, encoded=True), allow_redirects=False, **given
            ) as answer:
                await answer.read()
                found[path] = answer.status

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return found


def failed(found: dict[str, int]) -> dict[str, int]:
    return {path[:200]: status for path, status in found.items() if status >= 500 and status != 501}


async def all_routes(client: TestClient[web.Request, web.Application]) -> list[hostile.Route]:
    answer = await client.get("/openapi.json")
    return hostile.routes(await answer.json())


async def everything_answers(client: TestClient[web.Request, web.Application]) -> None:
    """Every list and thing is shown, whatever was stored."""
    paths = [route.path.format(**KNOWN) for route in await all_routes(client)]
    found = await statuses(client, paths)
    assert {} == failed(found)
    assert 200 == found["/api/v1/tags"] == found["/api/v1/audit"]


@pytest.mark.usefixtures("faults")
async def test_parameters__of_every_route(client: TestClient[web.Request, web.Application]) -> None:
    """Every parameter and every name in a path is answered or refused, also where nothing is granted."""
    found_routes = await all_routes(client)
    found = await statuses(client, hostile.questions(found_routes, KNOWN))
    assert len(found) > 2000
    assert {} == failed(found)
    assert {200, 400, 404} <= set(found.values())


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-05:00"])
async def test_times__up_to_the_end_of_time(
    client: TestClient[web.Request, web.Application], end: str
) -> None:
    """The last instant there is lies behind all others, and is not the end that what still holds does not have."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}

    async def items(path: str, **query: str) -> list[Any]:
        answer = await client.get(path, params=query, headers=bearer)
        assert answer.status == 200, await answer.text()
        found: list[Any] = (await answer.json())["items"]
        return found

    tag = f"/api/v1/repositories/{everything.APP}/tags/latest/history"
    for path in ("/api/v1/history", tag):
        now = await items(path, at="2030-01-01T00:00:00Z")
        assert now
        assert now == await items(path, at=end)
    since = {"since": "2020-01-01T00:00:00Z"}
    moved = await items("/api/v1/changes", **since, until="2030-01-01T00:00:00Z")
    assert moved
    assert moved == await items("/api/v1/changes", **since, until=end)
    assert [] == await items("/api/v1/tags", published_after=end)
    assert await items("/api/v1/tags", published_before=end)


@pytest.mark.usefixtures("faults")
async def test_cursors__of_every_list(client: TestClient[web.Request, web.Application]) -> None:
    """A cursor is a client's text like any other, whatever it decodes to."""
    paths = []
    for route in await all_routes(client):
        if "after" not in route.parameters:
            continue
        path = route.path.format(**KNOWN)
        answer = await client.get(path, params={"limit": "1"}, headers={"Authorization": f"Bearer {TOKEN}"})
        good = (await answer.json()).get("next")
        if good is not None:
            names = ("after", "before")
            paths += [f"{path}?{n}={c}" for n, c in zip(itertools.cycle(names), hostile.cursors(good))]
    found = await statuses(client, paths)
    assert len(found) > 100
    assert {} == failed(found)


@pytest.mark.usefixtures("faults")
async def test_headers__of_every_door(client: TestClient[web.Request, web.Application]) -> None:
    """Each is answered, whatever stands in it; bytes no client library sends are sent by hand."""
    names = ["Authorization", "Accept", "If-None-Match", "Last-Event-ID", "Content-Type", "Content-Encoding"]
    names += ["Range", "User-Agent", "X-Forwarded-For", "Cookie", "Accept-Encoding", "Expect"]
    paths = (
        "/api/v1/tags",
        "/api/v1/feed",
        "/gitlab/v1/",
        f"/v2/{everything.APP}/tags/list",
        "/notifications",
    )
    assert client.port is not None
    wrong = []
    for path, name, value in itertools.product(paths, names, hostile.HEADERS):
        if name != "Authorization" and path in paths[1:4] and value not in hostile.HEADERS[:3]:
            continue
        method = b"POST" if path == "/notifications" else b"GET"
        token = b"" if name == "Authorization" else f"Authorization: Bearer {TOKEN}\r\n".encode()
        head = b"%b %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n%b%b: %b\r\n\r\n{}"
        answer = await said(client.port, head % (method, path.encode(), token, name.encode(), value))
        if not answer.startswith(b"HTTP/1.") or answer[9:10] == b"5":
            wrong.append((path, name, value[:50], answer[:60]))
    assert [] == wrong


async def said(port: int, request: bytes) -> bytes:
    """Send bytes as they are; return the first line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        writer.write(request)
        line = await reader.readline()
    writer.close()
    return line


async def by_token(client: TestClient[web.Request, web.Application], tokens: Iterable[str]) -> dict[str, int]:
    """Ask with each, the interfaces in turn."""
    paths = itertools.cycle(["/api/v1/tags", f"/v2/{everything.APP}/tags/list", "/gitlab/v1/"])
    found = {}
    for token, path in zip(tokens, paths, strict=False):
        (found[token],) = (
            await statuses(client, [path], headers={"Authorization": f"Bearer {token}"})
        ).values()
    return found


@pytest.mark.usefixtures("faults")
async def test_tokens__with_heads_of_any_kind(client: TestClient[web.Request, web.Application]) -> None:
    """A token that makes no sense is no token: 401, never a fault."""
    heads = [encode(head) for head in (*hostile.TOKEN_HEADS, *hostile.JSON)]
    found = await by_token(client, (f"{head}.{encode(claims())}.{encode(b'x')}" for head in heads))
    assert {401, 431} >= set(found.values()), failed(found)


@pytest.mark.usefixtures("faults")
async def test_tokens__with_claims_of_any_kind(client: TestClient[web.Request, web.Application]) -> None:
    """What is signed is believed as far as it can be read."""
    good = claims({"type": "repository", "name": everything.APP, "actions": ["pull"]})
    found = await by_token(client, map(sign, hostile.documents(good)))
    assert {} == failed(found)
    assert 401 in found.values()


@pytest.mark.usefixtures("faults")
async def test_notifications__with_members_of_any_kind(
    client: TestClient[web.Request, web.Application], pool: Pool, lookups: Lookups
) -> None:
    """Every delivery is taken and applied or set aside; nothing waits, and all that was stored can be shown."""
    given = hostile.documents({"events": [EVENT]})
    bodies = [body.replace(b'"an-event"', b'"event %d"' % number) for number, body in enumerate(given)]
    answers = [
        (await client.post("/notifications", data=body, headers={"Authorization": f"Bearer {TOKEN}"})).status
        for body in bodies
    ]
    assert {202} == set(answers)
    worker = IngestWorker(pool, lookups)
    while (await worker.run_once()).items:
        pass
    assert 0 == await pool.fetchval("SELECT count(*) FROM inbox WHERE done_at IS NULL")
    assert await pool.fetchval("SELECT count(*) FROM audit_staged") > 100
    await everything_answers(client)


@pytest.mark.usefixtures("faults")
async def test_access_log__with_members_of_any_kind(
    client: TestClient[web.Request, web.Application],
) -> None:
    """Every line is taken in or counted as unreadable."""
    lines = list(hostile.documents(ACCESS))
    for first in range(0, len(lines), 20):
        body = b"\n".join(lines[first : first + 20])
        answer = await client.post("/access-log", data=body, headers={"Authorization": f"Bearer {TOKEN}"})
        assert 202 == answer.status, body[:200]
    await everything_answers(client)


def manifest(config: bytes) -> dict[str, Any]:
    annotated = {"annotations": {"org.opencontainers.image.created": "2024-01-02T03:04:05Z"}}
    layer = {"mediaType": "application/layer", "digest": digest("layer"), "size": 7, **annotated}
    described = {"mediaType": media_types.OCI_CONFIG, "digest": digest_of(config), "size": len(config)}
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": digest("one"), "size": 7}
    members = {"config": described, "layers": [layer], "subject": subject, "artifactType": "application/x"}
    return {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, **members, **annotated}


def index() -> dict[str, Any]:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}
    child = {"mediaType": media_types.OCI_MANIFEST, "digest": digest("one"), "size": 7, "platform": platform}
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [child],
        "artifactType": "a/b",
    }


CONFIG = {
    "os": "linux",
    "architecture": "arm",
    "variant": "v7",
    "os.version": "1",
    "created": "2024-01-02T03:04:05Z",
    "config": {"Labels": {"a": "b"}},
}


@pytest.mark.usefixtures("faults")
async def test_contents__with_members_of_any_kind(
    client: TestClient[web.Request, web.Application], pool: Pool, lookups: Lookups
) -> None:
    """Each manifest, index and config is read in full or in parts, or marked; none is tried again for it."""
    state = RegistryState()
    name = RepositoryName("team/stored")
    good = orjson.dumps(CONFIG)
    state.push_blob(name, good)
    contents = [(media_types.OCI_MANIFEST, body) for body in hostile.documents(manifest(good))]
    contents += [(media_types.OCI_INDEX, body) for body in hostile.documents(index())]
    for config in hostile.documents(CONFIG):
        state.push_blob(name, config)
        contents.append((media_types.OCI_MANIFEST, orjson.dumps(manifest(config))))
    digests = {state.push(name, body, media_type=kind, tag="any") for kind, body in contents}
    now = datetime.now(UTC)
    await pool.execute("INSERT INTO repository (name, created_at) VALUES ($1, $2)", name, now)
    number = await pool.fetchval("SELECT id FROM repository WHERE name = $1", name)
    keys = [
        work_items.WorkKey(kind=WorkKind.RESOLVE, repository_id=number, key=each) for each in sorted(digests)
    ]
    async with pool.acquire() as held:
        await work_items.enqueue(held, keys=keys, now=now, due_at=now - timedelta(seconds=1))
    resolver = Resolver(pool, lookups, DirectRegistry(state), concurrency=4)
    while (await resolver.run_once()).items:
        pass

    waiting = {row["key"] for row in await pool.fetch("SELECT key FROM work_item WHERE kind = 'resolve'")}
    assert set() == waiting & digests
    rows = await pool.fetch("SELECT content, count(*) FROM manifest WHERE read_at IS NOT NULL GROUP BY 1")
    by_content = {row["content"]: row["count"] for row in rows}
    assert {"read", "partly-read", "unreadable"} == set(by_content)
    assert len(digests) == sum(by_content.values())
    assert 0 == await pool.fetchval("SELECT count(*) FROM manifest WHERE image_created = 'infinity'")
    await everything_answers(client)
    base = f"/api/v1/repositories/{name}/manifests"
    found = await statuses(client, [f"{base}/{each}" for each in sorted(digests)[::7]])
    assert {200} == set(found.values())

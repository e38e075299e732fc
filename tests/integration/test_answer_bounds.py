"""No answer is longer than its bound, whatever others wrote into manifests; what is left out is said."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from indexer.api import health, lists, long_bodies
from indexer.api.long_bodies import LONG_BYTES, sized
from indexer.api.routes import ApiSettings, add_api
from indexer.common.errors import CallerError, StoreUnavailable
from indexer.oci.digest import digest_to_bytes
from indexer.store.listing import manifests
from indexer.store.pool import Connection, open_pool
from tests.fixtures.asking import TOKEN, Api
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.rows import TagRow, digest, put_repository

TAG = "/api/v1/repositories/team/app/tags/latest"
TAGS = "/api/v1/repositories/team/app/tags"
MANIFEST = "/api/v1/repositories/team/app/manifests"


async def attached(api: Api, referrers: int, annotation_bytes: int) -> None:
    """An image, and artifacts that say much of it."""
    rows = [TagRow(name="latest", seed="image")]
    rows += [TagRow(name=f"sig-{number}", seed=f"referrer {number}") for number in range(referrers)]
    await put_repository(api.pool, "team/app", rows)
    await api.pool.execute(
        "UPDATE manifest SET subject_digest = $1, annotations = $2 WHERE digest <> $1",
        digest_to_bytes(digest("image")),
        {"org.example": "x" * annotation_bytes},
    )


async def test_referrers__annotations_are_weighed_together(api: Api) -> None:
    """Each referrer is listed; annotations are shown as long as they are few together, and the answer says so."""
    await attached(api, 40, 60_000)
    shown = await api.json(TAG)
    assert 40 == len(shown["referrers"])
    told = [referrer for referrer in shown["referrers"] if referrer["annotations"]]
    assert 0 < len(told) < 5
    assert shown["referrers"][: len(told)] == told
    assert ["referrers.annotations"] == shown["manifest"]["left_out"]
    same = await api.json(f"{MANIFEST}/{digest('image')}")
    assert shown["referrers"] == same["referrers"]
    assert ["referrers.annotations"] == same["left_out"]


async def test_referrers__few_annotations_are_whole(api: Api) -> None:
    """Nothing is left out of what is ordinary."""
    await attached(api, 3, 1000)
    shown = await api.json(TAG)
    assert [1000] * 3 == [len(referrer["annotations"]["org.example"]) for referrer in shown["referrers"]]
    assert [] == shown["manifest"]["left_out"]


async def test_manifest__what_is_too_much_is_left_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations and labels beyond their bound are not shown; layers, children, parents and tags only so many."""
    monkeypatch.setattr(manifests, "MANY", 3)
    rows = [TagRow(name=f"v{number}", seed="image") for number in range(6)]
    rows += [TagRow(name=f"other-{number}", seed=f"other {number}") for number in range(5)]
    await put_repository(api.pool, "team/app", rows)
    number = await api.pool.fetchval(
        "SELECT id FROM manifest WHERE digest = $1", digest_to_bytes(digest("image"))
    )
    await api.pool.execute(
        "UPDATE manifest SET annotations = $2, labels = $2 WHERE id = $1", number, {"a": "x" * 1_100_000}
    )
    for child, parent in (("id", "$1"), ("$1", "id")):
        await api.pool.execute(
            "INSERT INTO manifest_child (manifest_id, position, child_id, platform) "
            f"SELECT {parent}, row_number() OVER (ORDER BY id), {child}, '' FROM manifest WHERE id <> $1",
            number,
        )
    await api.pool.execute("INSERT INTO media_type (name) VALUES ('application/layer')")
    await api.pool.execute("INSERT INTO blob (digest, size_bytes) VALUES ('\\x01', 1)")
    await api.pool.execute(
        "INSERT INTO manifest_layer (manifest_id, position, blob_id, media_type_id) SELECT $1, n, b.id, m.id "
        "FROM generate_series(1, 5) AS n, (SELECT max(id) FROM blob) AS b (id), "
        "(SELECT max(id) FROM media_type) AS m (id)",
        number,
    )
    shown = await api.json(f"{MANIFEST}/{digest('image')}")
    assert ({}, {}) == (shown["annotations"], shown["labels"])
    assert [3, 3, 3, 3] == [len(shown[name]) for name in ("layers", "children", "parents", "tags")]
    wanted = ["annotations", "labels", "layers", "children", "parents", "tags"]
    assert wanted == shown["left_out"]


async def test_page__ends_early_where_it_would_be_too_long(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages in both directions, sorted and searched, stay below their bound in bytes and leave nothing out."""
    monkeypatch.setattr(lists, "LONGEST_PAGE_BYTES", 3000)
    names = [f"v{number:02}" for number in range(30)]
    await put_repository(api.pool, "team/app", [TagRow(name=name) for name in names])
    for query in ({}, {"name_regex": "v.*"}, {"sort": "published_at,name"}):
        found: list[str] = []
        after: dict[str, Any] = {}
        while True:
            page = await api.json(TAGS, limit=1000, **query, **after)
            assert len(page["items"]) < 10
            found += [item["name"] for item in page["items"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert names == found
        back: list[str] = []
        before = {"before": page["previous"]}
        while before["before"] is not None:
            page = await api.json(TAGS, limit=1000, **query, **before)
            assert len(page["items"]) < 10
            back = [item["name"] for item in page["items"]] + back
            before = {"before": page["previous"]}
        assert names[: len(back)] == back
        assert len(back) > 20


async def test_platforms__of_one_index_are_few_in_a_list(api: Api) -> None:
    """A manifest that claims thousands of platforms is not repeated with all of them on every line."""
    platforms = (*(f"linux/{number:04}" for number in range(5000)), "linux/" + "x" * 300)
    rows = [TagRow(name=f"v{number}", seed="wide", platforms=platforms) for number in range(5)]
    await put_repository(api.pool, "team/app", rows)
    for item in (await api.json(TAGS))["items"]:
        assert list(platforms[:100]) == item["platforms"]
    assert 5 == len((await api.json(TAGS, platform="linux/4711"))["items"])


async def test_if_none_match__beyond_its_bound_is_not_heeded(api: Api) -> None:
    """A long list of entity tags is as good as none; a short one still answers 304."""
    await put_repository(api.pool, "team/app", [TagRow(name="latest")])
    etag = (await api.get(TAG)).headers["ETag"]
    many = ", ".join(f'"{number:032}"' for number in range(150))
    assert 304 == (await api.get(TAG, headers={"If-None-Match": f"{many}, {etag}"})).status
    more = ", ".join(f'"{number:032}"' for number in range(230))
    assert 200 == (await api.get(TAG, headers={"If-None-Match": f"{more[:8100]}, {etag}"[-8190:]})).status


def test_long_bodies__are_bounded_alone_and_together() -> None:
    """Too long a body is refused, and one more than fits with those under way; thrown away, it counts no more."""
    assert isinstance(sized(b"x" * LONG_BYTES), bytes)
    with pytest.raises(CallerError) as refused:
        sized(b"x" * (long_bodies.LONGEST_BYTES + 1))
    assert "answer_too_long" == refused.value.code
    half = b"x" * long_bodies.LONGEST_BYTES
    under_way = [sized(half), sized(half)]
    with pytest.raises(CallerError) as refused:
        sized(b"x" * (LONG_BYTES + 1))
    assert (503, "too_many_long_answers") == (refused.value.status, refused.value.code)
    under_way.clear()
    assert not isinstance(sized(half), bytes)


async def test_long_bodies__arrive_whole_and_are_forgotten() -> None:
    """A long answer has its length, arrives as it is, for HEAD not at all, and is not kept by the connection."""
    body = bytes(range(256)) * 5000

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(body=sized(body))

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        for _ in range(2):
            response = await client.get("/")
            assert str(len(body)) == response.headers["Content-Length"]
            assert body == await response.read()
        assert str(len(body)) == (await client.head("/")).headers["Content-Length"]
        assert 200 == (await client.get("/")).status
    assert 0 == long_bodies._BeingSent.size_bytes


async def test_long_bodies__a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read ends after a while, and what it would have got is forgotten."""
    monkeypatch.setattr(long_bodies, "WRITE_WITHIN_SECONDS", 0.2)

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(body=sized(b"x" * 30_000_000))

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app, host="127.0.0.1") as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            while long_bodies._BeingSent.size_bytes == 0:
                await asyncio.sleep(0.01)
            while long_bodies._BeingSent.size_bytes:
                await asyncio.sleep(0.01)
        writer.close()


async def test_readyz__a_database_that_hangs_is_not_ready(
    proxy: FaultProxy, proxied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stopped database readiness is refused soon, again and again, and is back when the database is."""

    async def ask(held: Connection) -> None:
        await held.fetchval("SELECT 1")  # a test's database knows of no migrations

    monkeypatch.setattr(health, "check", ask)
    pool = await open_pool(proxied_url, size=6, application="tests", command_timeout_seconds=2)
    app = web.Application()
    add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({TOKEN}), statement_timeout_seconds=1))
    async with TestClient(TestServer(app, host="127.0.0.1")) as client, asyncio.timeout(55):
        asked = {"Authorization": f"Bearer {TOKEN}"}
        while await _status(client, "/readyz") != 200:
            await asyncio.sleep(0.1)
        assert 200 == (await client.get("/api/v1/repositories", headers=asked)).status
        proxy.stall()
        statuses = await asyncio.gather(*(_status(client, "/readyz") for _ in range(20)))
        assert [503] * 20 == statuses
        assert 503 == (await client.get("/api/v1/repositories", headers=asked)).status
        proxy.resume()
        while await _status(client, "/readyz") != 200:
            await asyncio.sleep(0.1)
        while (await client.get("/api/v1/repositories", headers=asked)).status != 200:
            await asyncio.sleep(0.1)
    pool.terminate()


async def test_readyz__a_late_failure_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who asked was answered at the deadline; what becomes of the question then is nobody's fault."""
    over = asyncio.Event()

    async def ask(_self: object) -> None:
        try:
            await asyncio.sleep(0.01)
            raise StoreUnavailable("the database is away")
        finally:
            over.set()

    said: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    monkeypatch.setattr(health, "READY_WITHIN_SECONDS", 0)
    monkeypatch.setattr(health._Probe, "_check", ask)
    app = web.Application()
    app.router.add_get("/readyz", health.readyz(None))  # type: ignore[arg-type]
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        assert 503 == await _status(client, "/readyz")
        await over.wait()
    del app, client
    gc.collect()  # it may find what other tests left, too
    assert [] == [each for each in said if isinstance(each.get("exception"), StoreUnavailable)]


async def _status(client: TestClient[web.Request, web.Application], path: str) -> int:
    return (await client.get(path)).status

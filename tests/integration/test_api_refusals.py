from __future__ import annotations

import asyncio
import http.client
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from indexer.api.routes import ApiSettings, add_api
from indexer.store.listing import freshness
from indexer.store.pool import open_pool
from tests.fixtures.everything import fill
from tests.fixtures.rows import TagRow, put_repository

if TYPE_CHECKING:
    from tests.fixtures.asking import Api

TAGS = "/api/v1/repositories/team/app/tags"
READS = (
    "/api/v1/repositories",
    "/api/v1/repositories/team/app",
    TAGS,
    f"{TAGS}/latest",
    f"{TAGS}/latest/history",
    "/api/v1/repositories/team/app/manifests",
    "/api/v1/tags",
    "/api/v1/audit",
    "/api/v1/audit/export",
    "/api/v1/drift",
    "/api/v1/status",
    "/api/v1/no/such/thing",
)


async def test_reading__needs_a_token(api: Api) -> None:
    """Without a token, or with one that is not known, nothing is readable, not even which paths there are."""
    bad: tuple[dict[str, str], ...]
    bad = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic b3A6b3A="}, {"Authorization": ""})
    for path in READS:
        for headers in bad:
            response = await api.client.get(path, headers=headers)
            body = await response.json(content_type="application/problem+json")
            assert (response.status, body["code"]) == (401, "unauthorized")
            assert response.headers["WWW-Authenticate"].startswith('Bearer realm="registry-indexer"')


async def test_reading__with_any_configured_token(api: Api) -> None:
    """Every configured token reads; a known one in second place does not help."""
    assert (await api.client.get("/api/v1/tags", headers={"Authorization": "bearer another"})).status == 200
    doubled = [("Authorization", "Bearer wrong"), ("Authorization", "Bearer another")]
    assert (await api.client.get("/api/v1/tags", headers=doubled)).status == 401


async def test_reading__nothing_configured_reads_nothing(database_url: str) -> None:
    """Without tokens and without anonymous reading every read is refused; an empty token is none."""
    async with served(database_url, ApiSettings(api_tokens=frozenset({""}))) as client:
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
            assert (await client.get("/api/v1/repositories", headers=headers)).status == 401
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert (await client.get(path)).status in (200, 503)


async def test_reading__anonymous_where_it_was_said_out_loud(database_url: str) -> None:
    """With anonymous reading no token is needed, but a wrong one is still refused."""
    async with served(database_url, ApiSettings(anonymous_read=True)) as client:
        assert (await client.get("/api/v1/repositories")).status == 200
        wrong = await client.get("/api/v1/repositories", headers={"Authorization": "Bearer notifications"})
        assert wrong.status == 401


class served:  # noqa: N801 - reads as a word in `async with served(...)`
    """A server with other settings than the fixture's."""

    def __init__(self, database_url: str, settings: ApiSettings) -> None:
        self._url, self._settings = database_url, settings

    async def __aenter__(self) -> TestClient[web.Request, web.Application]:
        self._pool = await open_pool(self._url, size=6, application="tests")
        app = web.Application()
        add_api(app, pool=self._pool, settings=self._settings)
        self._client = TestClient(TestServer(app, host="127.0.0.1"))
        await self._client.start_server()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._pool.close()


WRONG_PARAMETERS: list[tuple[str, dict[str, str], tuple[str, str, str | None]]] = [
    (TAGS, {"sorted": "name"}, ("unknown_parameter", "sorted", "sort")),
    (TAGS, {"sort": "age"}, ("invalid_parameter", "sort", "published_at")),
    (TAGS, {"sort": ""}, ("invalid_parameter", "sort", "published_at")),
    (TAGS, {"limit": "0"}, ("invalid_parameter", "limit", "1 to 1000")),
    (TAGS, {"limit": "1001"}, ("invalid_parameter", "limit", "1 to 1000")),
    (TAGS, {"limit": "1.0"}, ("invalid_parameter", "limit", "1 to 1000")),
    (TAGS, {"kind": "picture"}, ("invalid_parameter", "kind", "image, index")),
    (TAGS, {"broken": "yes"}, ("invalid_parameter", "broken", "true, false")),
    (TAGS, {"published_after": "2026-01"}, ("invalid_parameter", "published_after", "RFC 3339")),
    (TAGS, {"created_before": "2026-13-01T00:00:00Z"}, ("invalid_parameter", "created_before", "RFC 3339")),
    (TAGS, {"size_min": "-1"}, ("invalid_parameter", "size_min", "bytes")),
    (TAGS, {"size_min": str(2**63)}, ("invalid_parameter", "size_min", "bytes")),
    (TAGS, {"size_max": "1MB"}, ("invalid_parameter", "size_max", "MiB")),
    (TAGS, {"since": "7 days"}, ("invalid_parameter", "since", "an age, like 24h or 7d")),
    (TAGS, {"kind": "image,picture"}, ("invalid_parameter", "kind", "a comma list of image, index")),
    (TAGS, {"platform": "linux/amd64,"}, ("invalid_parameter", "platform", "comma list")),
    (TAGS, {"digest": "latest"}, ("invalid_parameter", "digest", "sha256")),
    (TAGS, {"platform": "linux"}, ("invalid_parameter", "platform", "os/arch")),
    (TAGS, {"name_glob": "[ab]*"}, ("invalid_parameter", "name_glob", "*")),
    (TAGS, {"name_regex": "("}, ("invalid_parameter", "name_regex", "RE2")),
    (TAGS, {"name_regex": "(?=x)"}, ("invalid_parameter", "name_regex", "RE2")),
    (TAGS, {"name_regex": "(a)\\1"}, ("invalid_parameter", "name_regex", "RE2")),
    (TAGS, {"name_regex": "((a{1,1000}){1,1000}){1,1000}"}, ("invalid_parameter", "name_regex", "RE2")),
    (TAGS, {"name": "\x00"}, ("invalid_parameter", "name", "control")),
    (TAGS, {"name": ""}, ("invalid_parameter", "name", "1 to 256")),
    (TAGS, {"count": "yes"}, ("invalid_parameter", "count", "exact, estimate")),
    (TAGS, {"after": "garbage"}, ("invalid_cursor", "after", "same sort, filters and grants")),
    (TAGS, {"before": "!"}, ("invalid_parameter", "before", None)),
    (TAGS, {"after": "W10"}, ("invalid_cursor", "after", "same sort, filters and grants")),
    (
        TAGS,
        {"after": "WyJ0YWdzOm5hbWUiLDAsIlx1MDAwMCJd"},
        ("invalid_cursor", "after", "same sort, filters and grants"),
    ),
    (
        TAGS,
        {"after": "WyJ0YWdzOm5hbWUiLDAsbnVsbF0"},
        ("invalid_cursor", "after", "same sort, filters and grants"),
    ),
    ("/api/v1/audit", {"action": "tag.eaten"}, ("invalid_parameter", "action", "tag.created")),
    ("/api/v1/audit", {"source": "rumour"}, ("invalid_parameter", "source", "notification, walk")),
    ("/api/v1/audit/export", {"format": "xml"}, ("invalid_parameter", "format", "ndjson, csv")),
    ("/api/v1/drift", {"kind": "x"}, ("invalid_parameter", "kind", "tag_missing")),
    ("/api/v1/repositories", {"sort": "sizes"}, ("invalid_parameter", "sort", "size_bytes")),
    ("/api/v1/status", {"verbose": "1"}, ("unknown_parameter", "verbose", "none")),
    (f"{TAGS}/latest/history", {"at": "now"}, ("invalid_parameter", "at", "RFC 3339")),
]


async def test_wrong_parameter__is_named_with_what_is_allowed(api: Api) -> None:
    """A wrong parameter is a 400 that names it and says what would have been accepted."""
    await put_repository(api.pool, "team/app", [TagRow(name="latest")])
    for path, query, (code, parameter, allowed) in WRONG_PARAMETERS:
        problem = await api.problem(path, 400, **query)
        assert (problem["code"], problem["parameter"]) == (code, parameter), query
        assert allowed is None or allowed in problem["allowed"], query


async def test_wrong_parameter__given_twice(api: Api) -> None:
    """A parameter may be given once."""
    problem = await api.problem(f"{TAGS}?limit=5&limit=6", 400)
    assert (problem["code"], problem["parameter"]) == ("repeated_parameter", "limit")
    problem = await api.problem("/api/v1/audit?since=7d&occurred_after=7d", 400)
    assert (problem["code"], problem["parameter"]) == ("repeated_parameter", "occurred_after")


async def test_cursor__of_another_sort_or_list(api: Api) -> None:
    """A cursor belongs to one list and one sort; both directions at once exclude each other."""
    await put_repository(api.pool, "team/app", [TagRow(name=name) for name in "abc"])
    page = await api.json(TAGS, limit=1, sort="-size")
    assert (await api.problem(TAGS, 400, sort="size", after=page["next"]))["code"] == "invalid_cursor"
    assert (await api.problem("/api/v1/tags", 400, after=page["next"]))["code"] == "invalid_cursor"
    both = await api.problem(TAGS, 400, sort="-size", after=page["next"], before=page["next"])
    assert both["parameter"] == "before"


HOSTILE_ADDRESSES: list[tuple[str, set[int]]] = [
    ("/api/v1/repositories/", {404}),
    ("/api/v1/repositories//", {400, 404}),
    ("/api/v1/repositories/UPPER", {400}),
    ("/api/v1/repositories/a%00b", {400}),
    ("/api/v1/repositories/a%0Ab", {400, 404}),
    ("/api/v1/repositories/%ff%fe", {400}),
    ("/api/v1/repositories/a/tags/%00", {400}),
    ("/api/v1/repositories/a/tags/x%2Fy", {400}),
    ("/api/v1/repositories/a/tags/", {400}),
    ("/api/v1/repositories/a/manifests/sha256:xyz", {400}),
    ("/api/v1/repositories/../../etc/passwd", {400, 404}),
    ("/api/v1/repositories/%2e%2e/%2e%2e", {400, 404}),
    ("/api/v1/repositories/" + "a" * 300, {400}),
    ("/api/v1/repositories/" + "a/" * 3000 + "tags", {400}),
    ("/api/v1/repositories/" + "a" * 10_000, {400}),
    ("/api/v1/repositories/missing", {404}),
    ("/api/v1/repositories/missing/tags", {404}),
    ("/api/v1/nothing", {404}),
    ("/api/v1/", {200}),
    ("/api/", {404}),
    ("/api/v1/repositories?name=%ff%fe", {200, 400}),
    ("/api/v1/repositories?name=%00", {400}),
    ("/api/v1/repositories?%00=x", {400}),
    ("/api/v1/repositories?=", {400}),
    ("/api/v1/repositories?after=" + "A" * 5000, {400}),
    ("/api/v1/tags?name=" + "%F0%9F%90%B3" * 60, {200}),
    ("/api/v1/tags?name_prefix=%F4%8F%BF%BF", {200}),
    ("/api/v1/tags?published_after=0001-01-01T00:00:00%2B23:59", {200}),
    ("/api/v1/tags?published_after=9999-12-31T23:59:59.999999-23:59", {200}),
    ("/api/v1/tags?published_after=2026-06-30T23:59:60Z", {200}),
    ("/api/v1/tags?published_after=2026-01-01T00:00:00+02:00", {200}),
    ("/api/v1/repositories/a/tags/latest/history?at=0001-01-01T00:00:00Z", {404}),
]


async def test_hostile_address__gets_a_clean_answer(api: Api) -> None:
    """Whatever stands in the address, the answer is a plain yes or no and never a failure."""
    for path, statuses in HOSTILE_ADDRESSES:
        status, media_type = await asyncio.to_thread(raw_get, api, path)
        assert status in statuses, path
        assert status == 200 or media_type == "application/problem+json" or len(path) > 8000, path


def raw_get(api: Api, path: str) -> tuple[int, str]:
    """Ask byte for byte, without a client that tidies the address up."""
    connection = http.client.HTTPConnection("127.0.0.1", api.client.port or 0, timeout=10)
    connection.putrequest("GET", path, skip_host=False, skip_accept_encoding=True)
    connection.putheader("Authorization", "Bearer another")
    connection.endheaders()
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.getheader("Content-Type") or ""


async def test_other_methods__are_refused(api: Api) -> None:
    """Nothing can be changed here: other methods are 405 and say what is allowed."""
    for path in ("/api/v1/repositories", TAGS, "/api/v1/status"):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            response = await api.client.request(method, path, headers={"Authorization": "Bearer another"})
            body = await response.json(content_type="application/problem+json")
            assert (response.status, body["code"]) == (405, "method_not_allowed")
            assert set(response.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


async def test_head__is_get_without_the_body(api: Api) -> None:
    """HEAD gives what GET gives, but no body."""
    await fill(api.pool)
    for path in READS[:-1]:
        got = await api.client.get(path, headers={"Authorization": "Bearer another"})
        head = await api.client.head(path, headers={"Authorization": "Bearer another"})
        assert (head.status, await head.read()) == (got.status, b"")
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        if path != "/api/v1/status":  # it tells the time
            assert head.headers.get("ETag") == got.headers.get("ETag")


async def test_etag__what_did_not_change_is_not_sent_again(api: Api) -> None:
    """An answer asked for again with its entity tag is a 304, until something changes."""
    await fill(api.pool)
    for path in (*READS[:8], "/api/v1/drift"):
        first = await api.get(path)
        etag = first.headers["ETag"]
        for known in (etag, f'"other", {etag}', "*"):
            again = await api.get(path, headers={"If-None-Match": known})
            assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag), path
        assert (await api.get(path, headers={"If-None-Match": '"other"'})).status == 200
        assert (await api.get(path, headers={"If-None-Match": "garbage"})).status == 200
    before = (await api.get(TAGS)).headers["ETag"]
    await api.pool.execute("UPDATE tag SET size_bytes = size_bytes + 1 WHERE name = 'latest'")
    assert (await api.get(TAGS, headers={"If-None-Match": before})).status == 200


async def test_ndjson__one_item_a_line_and_the_way_on_in_the_header(api: Api) -> None:
    """A client that prefers NDJSON gets items line by line, and the next page from the Link header."""
    await put_repository(api.pool, "team/app", [TagRow(name=name) for name in "abc"])
    response = await api.get(TAGS, headers={"Accept": "application/x-ndjson"}, limit=2)
    assert response.headers["Content-Type"] == "application/x-ndjson"
    lines = (await response.text()).splitlines()
    page = await api.json(TAGS, limit=2)
    assert [orjson.loads(line) for line in lines] == page["items"]
    assert response.headers["Link"].startswith(f"<{TAGS}?limit=2&after=")
    link = response.links["next"]["url"]
    rest = await api.get(str(URL(link).relative()))
    assert [item["name"] for item in (await rest.json())["items"]] == ["c"]
    assert "prev" in rest.links
    for accept in (
        "*/*",
        "application/json",
        "application/json, application/x-ndjson",
        "application/x-ndjson;q=0",
    ):
        plain = await api.get(TAGS, headers={"Accept": accept})
        assert plain.headers["Content-Type"] == "application/json"


async def test_repository__named_like_a_part_of_the_path(api: Api) -> None:
    """A repository called a/tags is reached by an escaped slash; the plain path means the tags of a."""
    await put_repository(api.pool, "a", [TagRow(name="of-a")])
    await put_repository(api.pool, "a/tags", [TagRow(name="of-a-tags")])
    assert (await named(api, "/api/v1/repositories/a/tags"))[0] == "of-a"
    assert (await api.json(encoded("/api/v1/repositories/a%2Ftags")))["name"] == "a/tags"
    assert (await api.problem("/api/v1/repositories/a/tags/tags", 404))["detail"].startswith(
        "there is no such tag"
    )
    assert (await named(api, encoded("/api/v1/repositories/a%2Ftags/tags")))[0] == "of-a-tags"


def encoded(path: str) -> Any:
    """Keep an escaped slash as it is."""
    return URL(path, encoded=True)


async def named(api: Api, path: Any) -> list[str]:
    return [item["name"] for item in (await api.json(path))["items"]]


async def test_slow_question__is_given_up_with_a_problem(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement over its time limit is 503 too_slow with Retry-After, and the connection serves on."""
    async with served(
        database_url, ApiSettings(anonymous_read=True, connections=1, statement_timeout_seconds=1.0)
    ) as client:
        monkeypatch.setitem(
            freshness.SQL,
            "freshness",
            "SELECT pg_sleep(10), now() AS as_of, NULL AS last_reconciled_at",
        )
        response = await client.get("/api/v1/repositories")
        body = await response.json(content_type="application/problem+json")
        assert (response.status, body["code"]) == (503, "too_slow")
        assert int(response.headers["Retry-After"]) > 0
        monkeypatch.undo()
        assert (await client.get("/api/v1/repositories")).status == 200


async def test_lost_connection__heals(api: Api) -> None:
    """After the server dropped every connection, questions are answered again."""
    assert (await api.get("/api/v1/repositories")).status == 200
    await api.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database()"
    )
    await asyncio.sleep(0.1)
    statuses = [(await api.get("/api/v1/repositories")).status for _ in range(8)]
    assert statuses[-1] == 200
    assert set(statuses) <= {200, 503}


async def test_failure__says_nothing_of_its_insides(api: Api) -> None:
    """An unexpected error is a 500 whose body tells the caller nothing about the database."""
    await api.pool.execute("ALTER TABLE repository RENAME TO repository_gone")
    problem = await api.problem("/api/v1/repositories", 500)
    assert problem["code"] == "internal"
    assert "repository_gone" not in str(problem)
    assert "relation" not in str(problem)


async def test_unreachable_database__is_a_503_that_says_when_to_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no connection is to be had the answer is 503 with Retry-After, and readiness says no."""

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(type(api.pool), "acquire", refuse)
    response = await api.get("/api/v1/repositories")
    assert (response.status, (await response.json(content_type=None))["code"]) == (503, "store_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert (await api.client.get("/readyz")).status == 503
    assert (await api.client.get("/healthz")).status == 200


async def test_connections__are_lent_in_the_order_of_asking(database_url: str) -> None:
    """Two hundred questions at once on two connections are all answered."""
    async with served(database_url, ApiSettings(anonymous_read=True, connections=2)) as client:
        responses = await asyncio.gather(*(client.get("/api/v1/repositories") for _ in range(200)))
        assert {response.status for response in responses} == {200}


async def test_metrics__count_by_route(api: Api) -> None:
    """Requests are counted by route and status, never by repository."""
    await put_repository(api.pool, "team/app", [TagRow(name="x")])
    await api.get(TAGS)
    text = await (await api.client.get("/metrics")).text()
    route = "/api/v1/repositories/{repository}/tags"
    assert f'indexer_api_requests_total{{route="{route}",status="200"}}' in text
    assert "team/app" not in text

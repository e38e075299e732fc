"""The API of jobs over real HTTP on a real PostgreSQL: who gets what, keys, cursors, and what is streamed."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from indexer.api.job_watch import JobNotifier
from indexer.api.operations import commands
from indexer.api.routes import ApiSettings, add_api
from indexer.api.stream_slots import STREAMS
from indexer.inventory.tag_protection import read_patterns
from indexer.jobs.kinds import DELETE_ACTIONS, KINDS, Kind
from indexer.jobs.params import Params
from indexer.oci.reference import RepositoryName
from indexer.store.jobs import CHANNEL
from indexer.store.listen import listen_to_each
from indexer.store.pool import Pool, open_pool
from reconciler.acting.context import JobContext
from tests.fixtures.jobs import nothing, run_all, runner
from tests.fixtures.tokens import grant, mint, trust_in

READS, ANN, BOB, SOURCE = "read-token-of-the-tests", "secret-of-ann", "secret-of-bob", "secret-of-a-cluster"
A, B = "team/a", "team/b"


class Named(Params):
    """Parameters of the tests' kinds."""

    repository: str
    tag: str = "v1"


DELETING = Kind(
    name="deleting",
    params=Named,
    acts=True,
    repositories=lambda params: [RepositoryName(params.repository)],
    actions=DELETE_ACTIONS,
    on_record=True,
)
COLLECTING = Kind(name="collecting", params=Params, acts=True, repositories=lambda _: None)


@dataclass
class Server:
    """The API, the pool behind it, and clients' requests."""

    client: TestClient[web.Request, web.Application]
    pool: Pool
    url: str

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = ANN, **headers: str
    ) -> ClientResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        data = io.BytesIO(body) if isinstance(body, bytes) else None if body is None else json.dumps(body)
        return await self.client.request(method, f"/api/v1{path}", data=data, headers=given)

    async def answer(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        response = await self.ask(method, path, body, **more)
        return response.status, await response.json(content_type=None)

    async def code(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        status, problem = await self.answer(method, path, body, **more)
        return status, problem["code"]

    async def add(self, body: Any, **more: Any) -> dict[str, Any]:
        status, job = await self.answer("POST", "/jobs", body, **more)
        assert status == 202, job
        assert isinstance(job, dict)
        return job

    async def items(self, query: str = "", **more: Any) -> list[str]:
        status, page = await self.answer("GET", f"/jobs{query}", **more)
        assert status == 200, page
        return [item["id"] for item in page["items"]]


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds that act, beside those of the product; not in the document, which is made before."""
    commands()
    for kind in (DELETING, COLLECTING):
        monkeypatch.setitem(KINDS, kind.name, kind)


def serving(database_url: str, settings: ApiSettings) -> Any:
    """Serve the API with these settings."""

    async def serve() -> AsyncIterator[Server]:
        pool = await open_pool(database_url, size=8, application="tests")
        notifier = JobNotifier()
        listening = asyncio.create_task(
            listen_to_each(database_url, notifier.changed, application="tests", channel=CHANNEL)
        )
        app = web.Application(client_max_size=1024 * 1024)
        add_api(app, pool=pool, settings=settings, job_notifier=notifier)
        async with pool.acquire() as held:
            await held.execute(
                "INSERT INTO repository (name, created_at) VALUES ($1, now()), ($2, now())", A, B
            )
        server = TestServer(app, host="127.0.0.1")
        async with TestClient(server) as client:
            yield Server(client, pool, str(server.make_url("")))
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await pool.close()

    return serve()


@pytest_asyncio.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    """The API with a read token, two operators, one source, and trust in the registry's tokens."""
    settings = ApiSettings(
        api_tokens=frozenset({READS}),
        operator_tokens=(("ann", ANN), ("bob", BOB)),
        in_use_tokens=(("cluster", SOURCE),),
        trust=trust_in(tmp_path),
        streams=3,
    )
    async for each in serving(database_url, settings):
        yield each


@pytest_asyncio.fixture
async def readable(database_url: str) -> AsyncIterator[Server]:
    """The API as it is before anything was switched on that acts: everybody reads."""
    settings = ApiSettings(api_tokens=frozenset({READS}), anonymous_read=True)
    async for each in serving(database_url, settings):
        yield each


DELETE_A = {"kind": "deleting", "params": {"repository": A}}
DELETE_B = {"kind": "deleting", "params": {"repository": B}}


# --- asking ---------------------------------------------------------------------------------------------------


async def test_post__accepted(server: Server) -> None:
    """202 with the job and where it is; it is on record under the operator's name, with its reason."""
    response = await server.ask(
        "POST", "/jobs", {"kind": "reconcile", "params": {"repositories": [B, A, A]}, "reason": "drift"}
    )
    job = await response.json()
    assert (202, f"/api/v1/jobs/{job['id']}") == (response.status, response.headers["Location"])
    assert ("ann", "drift", "waiting", [A, B]) == (
        job["asked_by"],
        job["reason"],
        job["state"],
        job["repositories"],
    )
    assert {"repositories": [A, B], "quick": False, "release_brake": False} == job["params"]
    assert (200, job) == await server.answer("GET", f"/jobs/{job['id']}")
    async with server.pool.acquire() as held:
        row = await held.fetchrow(
            "SELECT a.name AS actor, c.user_agent, s.detail FROM audit_staged AS s "
            "JOIN actor AS a ON a.id = s.actor_id JOIN client AS c ON c.id = s.client_id"
        )
    assert row is not None
    assert ("ann", "POST /api/v1/jobs", "drift") == (row["actor"], row["user_agent"], row["detail"]["reason"])


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b"", (400, "invalid_body")),
        (b"[]", (400, "invalid_body")),
        (b"{", (400, "invalid_body")),
        (b"\xff", (400, "invalid_body")),
        (b"[" * 100_000, (400, "invalid_body")),
        ({}, (422, "invalid_member")),
        ({"kind": 1}, (422, "invalid_member")),
        ({"kind": "explode"}, (422, "unknown_kind")),
        ({"kind": "reconcile", "more": 1}, (422, "invalid_member")),
        ({"kind": "reconcile", "params": []}, (422, "invalid_member")),
        ({"kind": "reconcile", "params": {"repository": A}}, (422, "invalid_member")),
        ({"kind": "reconcile", "params": {"repositories": []}}, (422, "invalid_member")),
        ({"kind": "reconcile", "params": {"repositories": ["No"]}}, (422, "invalid_member")),
        ({"kind": "reconcile", "reason": "x" * 1001}, (422, "invalid_member")),
        ({"kind": "reconcile", "reason": "a\0b"}, (422, "invalid_member")),
        ({"kind": "deleting", "params": {"repository": "team/none"}}, (404, "not_found")),
        (b" " * 1_048_577, (413, "content_too_large")),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_post__wrong_body(server: Server, body: Any, refused: tuple[int, str]) -> None:
    """What is wrong with a body is one problem with a stable code, and nothing is on record after it."""
    assert refused == await server.code("POST", "/jobs", body)
    assert [] == await server.items()


async def test_post__says_which_member_is_wrong(server: Server) -> None:
    """The problem names the member, and for an unknown one those that there are."""
    _, problem = await server.answer("POST", "/jobs", {"kind": "reconcile", "params": {"quik": True}})
    assert ("params.quik", "repositories, quick, release_brake") == (problem["parameter"], problem["allowed"])
    _, problem = await server.answer("POST", "/jobs", {"kind": "explode"})
    assert "kind" == problem["parameter"]
    assert "reconcile" in problem["allowed"].split(", ")


async def test_post__idempotency_key(server: Server) -> None:
    """One key gives one job; another request with it is a 422; each caller has keys of its own."""
    first = await server.add(DELETE_A, Idempotency_Key="k1")
    again = await server.ask("POST", "/jobs", DELETE_A, Idempotency_Key="k1")
    assert (202, "true", first) == (again.status, again.headers["Idempotency-Replayed"], await again.json())
    assert (422, "idempotency_key_reused") == await server.code(
        "POST", "/jobs", DELETE_B, Idempotency_Key="k1"
    )
    assert (400, "invalid_parameter") == await server.code("POST", "/jobs", DELETE_B, Idempotency_Key="a b")
    other = await server.add(DELETE_B, Idempotency_Key="k1", token=BOB)
    assert [other["id"], first["id"]] == await server.items()


async def test_post__conflict(server: Server) -> None:
    """409 with the job that is in the way; for who may not see that one, without."""
    first = await server.add(DELETE_A)
    status, problem = await server.answer("POST", "/jobs", DELETE_A, token=BOB)
    assert (409, "another_job_acts") == (status, problem["code"])
    assert first["id"] in problem["detail"]
    wide = await server.add({"kind": "collecting"})
    token = mint(grant(B, "pull", "delete"))
    status, problem = await server.answer("POST", "/jobs", DELETE_B, token=token)
    assert (409, "another_job_acts") == (status, problem["code"])
    assert wide["id"] not in problem["detail"]
    await server.add({"kind": "reconcile"})


# --- who ------------------------------------------------------------------------------------------------------


async def test_who__tokens(server: Server) -> None:
    """No token and an unknown one are 401, a read token 403; operators read everything."""
    for token in (None, "unknown"):
        assert (401, "unauthorized") == await server.code("POST", "/jobs", DELETE_A, token=token)
    assert (403, "read_only_token") == await server.code("POST", "/jobs", DELETE_A, token=READS)
    job = await server.add(DELETE_A)
    assert (403, "read_only_token") == await server.code("POST", f"/jobs/{job['id']}/cancel", token=READS)
    for token in (READS, ANN, BOB):
        assert [job["id"]] == await server.items(token=token)
        assert 200 == (await server.ask("GET", "/repositories", token=token)).status
        assert 200 == (await server.ask("GET", "/audit", token=token)).status


async def test_who__a_source_reads_nothing(server: Server) -> None:
    """An in-use token is refused everywhere but where its source reports."""
    for method, path in (
        ("GET", "/repositories"),
        ("GET", "/tags"),
        ("GET", "/audit"),
        ("GET", "/status"),
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        ("GET", "/in-use/cluster"),
    ):
        assert (401, "unauthorized") == await server.code(method, path, {}, token=SOURCE), (method, path)
    for path in ("/gitlab/v1/", "/v2/team/a/tags/list"):
        response = await server.client.get(path, headers={"Authorization": f"Bearer {SOURCE}"})
        assert 401 == response.status, path
    assert (404, "unknown_path") == await server.code("PUT", "/in-use/cluster/none", {}, token=SOURCE)


async def test_who__nothing_switched_on(readable: Server) -> None:
    """Without operator token and trust nothing can be asked for, by nobody: 403 with the setting that is missing."""
    for token in (None, READS):
        status, problem = await readable.answer("POST", "/jobs", {"kind": "reconcile"}, token=token)
        assert (403, "acting_is_off") == (status, problem["code"])
        assert "INDEXER_OPERATOR_TOKENS" in problem["detail"]
    assert [] == await readable.items(token=None)


async def test_who__registry_tokens(server: Server) -> None:
    """A registry token asks where it may, sees and cancels jobs of its repositories, and others look missing."""
    deletes_a, reads_a = mint(grant(A, "pull", "delete")), mint(grant(A, "pull"))
    deletes_b = mint(grant(B, "delete"))
    assert (403, "not_granted") == await server.code("POST", "/jobs", DELETE_A, token=reads_a)
    assert (404, "not_found") == await server.code("POST", "/jobs", DELETE_A, token=deletes_b)
    assert (403, "operator_token_needed") == await server.code(
        "POST", "/jobs", {"kind": "reconcile"}, token=deletes_a
    )
    ours = await server.add(DELETE_A, token=deletes_a)
    theirs = await server.add(DELETE_B, token=deletes_b)
    wide = await server.add({"kind": "reconcile"})
    assert [ours["id"]] == await server.items(token=deletes_a) == await server.items(token=reads_a)
    assert [theirs["id"]] == await server.items(token=deletes_b)
    assert [wide["id"], theirs["id"], ours["id"]] == await server.items()
    for job in (theirs, wide):
        for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
            assert (404, "not_found") == await server.code(
                method, f"/jobs/{job['id']}{path}", token=deletes_a
            )
    assert (403, "not_granted") == await server.code("POST", f"/jobs/{ours['id']}/cancel", token=reads_a)
    assert 202 == (await server.ask("POST", f"/jobs/{ours['id']}/cancel", token=deletes_a)).status


async def test_who__patterns_of_the_token_are_kept(server: Server) -> None:
    """The patterns of the asking token are kept with the job, and not shown."""
    meta = {"tag_deny_access_patterns": {"push": [], "delete": ["^v"]}, "tag_immutable_patterns": ["^1"]}
    job = await server.add(DELETE_A, token=mint({**grant(A, "delete"), "meta": meta}))
    async with server.pool.acquire() as held:
        bounds = await held.fetchval("SELECT bounds FROM job WHERE id = $1", job["id"])
    assert read_patterns(meta) == read_patterns(bounds[A])
    assert "bounds" not in job


# --- asking about ---------------------------------------------------------------------------------------------


async def test_list__pages_and_filters(server: Server) -> None:
    """Pages follow each other in both directions without a gap; every filter leaves what it says."""
    made = []
    for number in range(7):
        body = {"kind": "reconcile", "params": {"repositories": [f"team/r{number}"]}}
        made.append((await server.add(body, token=ANN if number % 2 else BOB))["id"])
    newest_first = made[::-1]
    seen: list[str] = []
    path = "/jobs?limit=3&count=exact"
    while True:
        _, page = await server.answer("GET", path)
        assert 7 == page["count"]
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        path = f"/jobs?limit=3&count=exact&after={page['next']}"
    assert newest_first == seen
    _, before = await server.answer("GET", f"/jobs?limit=3&before={page['previous']}")
    assert newest_first[3:6] == [item["id"] for item in before["items"]]
    assert [made[3]] == await server.items("?repository=team/r3,team/none")
    assert made[1::2][::-1] == await server.items("?asked_by=ann")
    assert [] == await server.items("?kind=deleting")
    assert newest_first == await server.items("?kind=deleting,reconcile&state=waiting,running")
    await server.ask("POST", f"/jobs/{made[0]}/cancel")
    assert [made[0]] == await server.items("?state=cancelled")
    first = await server.ask("GET", "/jobs")
    assert 304 == (await server.ask("GET", "/jobs", If_None_Match=first.headers["ETag"])).status
    for query in ("?state=gone", "?sort=kind", "?unknown=1", "?limit=0", "?after=x"):
        assert 400 == (await server.ask("GET", f"/jobs{query}")).status, query


async def test_get__what_is_not_there(server: Server) -> None:
    """An id that is none, or of no job, is a 404; a method that is none a 405 with those there are."""
    for wrong in ("x", "00000000-0000-7000-8000-000000000000", "%00"):
        assert 404 == (await server.ask("GET", f"/jobs/{wrong}")).status, wrong
        assert 404 == (await server.ask("GET", f"/jobs/{wrong}/events")).status, wrong
    response = await server.ask("DELETE", "/jobs")
    assert (405, {"GET", "HEAD", "POST"}) == (response.status, set(response.headers["Allow"].split(",")))
    response = await server.ask("POST", f"/repositories/{A}/tags/v1", {})
    assert 405 == response.status
    assert "GET" in response.headers["Allow"]


async def test_cancel__each_state(server: Server) -> None:
    """A waiting job is cancelled at once, by whom is on record; one that has ended is a 409."""
    job = await server.add(DELETE_A)
    status, cancelled = await server.answer("POST", f"/jobs/{job['id']}/cancel", token=BOB)
    assert (202, "cancelled", "bob") == (status, cancelled["state"], cancelled["cancelled_by"])
    assert (409, "job_ended") == await server.code("POST", f"/jobs/{job['id']}/cancel")
    assert 202 == (await server.ask("POST", "/jobs", DELETE_A)).status


# --- following ------------------------------------------------------------------------------------------------


async def follow(server: Server, job_id: str, **headers: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream, to its end, as an HTTP client reads them."""
    events: list[tuple[str, dict[str, Any]]] = []
    given = {
        "Authorization": f"Bearer {ANN}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", f"{server.url}/api/v1/jobs/{job_id}/events", headers=given) as response,
    ):
        assert (200, "text/event-stream; charset=utf-8") == (
            response.status_code,
            response.headers["Content-Type"],
        )
        event = ""
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            if name == "data":
                events.append((event, json.loads(value)))
    return events


async def test_events__until_the_end(server: Server) -> None:
    """A stream has the job at once, each change of state and of progress, and ends with the job; three see the same."""
    release = asyncio.Event()

    async def handler(context: JobContext) -> Mapping[str, Any]:
        await context.progress(1, 2, "tags")
        await release.wait()
        await context.progress(2, 2, "tags")
        return {"deleted": 2}

    job = await server.add(DELETE_A)
    watching = [asyncio.create_task(follow(server, job["id"])) for _ in range(3)]
    while STREAMS._value.get() < 3:
        await asyncio.sleep(0.02)
    working = asyncio.create_task(run_all(runner(server.pool, deleting=handler)))
    await asyncio.sleep(0.3)
    assert (503, "too_many_streams") == await server.code("GET", f"/jobs/{job['id']}/events")
    release.set()
    assert 1 == await working
    for events in await asyncio.gather(*watching):
        assert "waiting" == events[0][1]["state"]
        assert {"state", "progress"} >= {event for event, _ in events}
        states = [data["state"] for event, data in events if event == "state"]
        assert ["waiting", "running", "done"] == states
        event, last = events[-1]
        assert ("state", {"deleted": 2}, 2) == (event, last["result"], last["progress"]["done"])


async def test_events__of_a_job_that_has_ended(server: Server) -> None:
    """A job that has ended gives its state and the end of the stream; a client that knows that gets 204."""
    job = await server.add(DELETE_A)
    assert 1 == await run_all(runner(server.pool, deleting=nothing))
    for last in ("7", "", "anything"):
        events = await follow(server, job["id"], Last_Event_ID=last)
        assert [("state", "done")] == [(event, data["state"]) for event, data in events]
    known = await server.ask("GET", f"/jobs/{job['id']}/events", Last_Event_ID="ended")
    assert (204, b"") == (known.status, await known.read())

"""The API of the trash over real HTTP on a real PostgreSQL: deleting one tag, what was deleted, putting it back."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from indexer.api.routes import ApiSettings, add_api
from indexer.api.v1.trash import TrashShown
from indexer.inventory.tag_protection import read_patterns
from indexer.oci.digest import digest_to_bytes
from indexer.store import tag_actions
from indexer.store.pool import Pool, connection, open_pool, transaction
from indexer.store.tag_actions import KeptManifest
from tests.fixtures.cleanup_rows import Rows, d
from tests.fixtures.tokens import grant, mint, trust_in

READS, ANN, SOURCE = "read-token-of-the-tests", "secret-of-ann", "secret-of-a-cluster"
APP, OTHER = "team/app", "team/other"
TAG = f"/repositories/{APP}/tags/v1"
START = datetime(2026, 11, 1, tzinfo=UTC)
JOB = uuid.UUID("0192f0c0-0000-7000-8000-000000000001")


@dataclass
class Server:
    """The API, the pool behind it, and clients' requests."""

    client: TestClient[web.Request, web.Application]
    pool: Pool

    async def ask(self, method: str, path: str, *, token: str | None = ANN, **headers: str) -> ClientResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        return await self.client.request(method, f"/api/v1{path}", headers=given)

    async def answer(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        response = await self.ask(method, path, **more)
        return response.status, await response.json(content_type=None)

    async def code(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        status, problem = await self.answer(method, path, **more)
        return status, problem["code"]

    async def items(self, query: str = "", **more: Any) -> list[dict[str, Any]]:
        status, page = await self.answer("GET", f"/trash{query}", **more)
        assert status == 200, page
        for item in page["items"]:
            TrashShown.model_validate(item)
        return list(page["items"])

    async def tags(self, query: str = "", **more: Any) -> list[str]:
        return [f"{item['repository']}:{item['tag']}" for item in await self.items(query, **more)]

    async def restorable(self, number: uuid.UUID) -> tuple[bool, str | None]:
        (shown,) = [item["restorable"] for item in await self.items() if item["id"] == str(number)]
        assert shown["possible"] == (shown["until"] is not None) == (shown["because"] is None)
        return shown["possible"], shown["because"]

    async def deleted(
        self,
        tag: str,
        *,
        repository: str = APP,
        kind: str = "delete",
        days: int = 0,
        kept: bool = True,
        outcome: str | None = "deleted",
        done: bool = True,
        **columns: Any,
    ) -> uuid.UUID:
        """A deletion (or another action) on record; the tag pointed to the manifest that is called like it."""
        number = uuid.uuid4()
        at = START + timedelta(days=days)
        values: dict[str, Any] = {
            "state": "checked", "outcome": outcome, "source": "operator", "actor": "ann", "job_id": JOB,
            "kept_until": datetime.now(UTC) + timedelta(days=90),
        } | columns  # fmt: skip
        names = ", ".join(values)
        marks = ", ".join(f"${place + 8}" for place in range(len(values)))
        async with transaction(self.pool) as held:
            await held.execute(
                "INSERT INTO tag_action (id, kind, repository, tag, digest, asked_at, watched_until, done_at,"
                f" {names}) VALUES ($1, $2, $3, $4, $5, $6, $6, $7, {marks})",
                number, kind, repository, tag, digest_to_bytes(d(tag)), at, at if done else None,
                *values.values(),
            )  # fmt: skip
            if kept:
                content = KeptManifest(role="tagged", digest=d(tag), media_type="m", content=tag.encode())
                await tag_actions.keep_manifests(held, number=number, manifests=[content], now=at)
        return number


@asynccontextmanager
async def serving(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    """Serve the API with a read token, an operator, a source, and trust in the registry's tokens."""
    pool = await open_pool(database_url, size=8, application="tests")
    settings = ApiSettings(
        api_tokens=frozenset({READS}),
        operator_tokens=(("ann", ANN),),
        in_use_tokens=(("cluster", SOURCE),),
        trust=trust_in(tmp_path),
    )
    app = web.Application(client_max_size=1024 * 1024)
    add_api(app, pool=pool, settings=settings)
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.tag("v1", "v1", START)
        await rows.repository(OTHER)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield Server(client, pool)
    await pool.close()


@pytest_asyncio.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    """What most tests here ask."""
    async with serving(database_url, tmp_path) as served:
        yield served


# --- deleting -------------------------------------------------------------------------------------------------


async def test_delete__is_a_job(server: Server) -> None:
    """202 with the job and where it is shown; digest and reason are on record; a key gives one job."""
    path = f"{TAG}?digest={d('v1')}&reason=merged"
    response = await server.ask("DELETE", path, Idempotency_Key="k")
    job = await response.json()
    assert (202, f"/api/v1/jobs/{job['id']}") == (response.status, response.headers["Location"])
    assert ("delete", "waiting", "ann", "merged") == (
        job["kind"],
        job["state"],
        job["asked_by"],
        job["reason"],
    )
    assert {"tags": [f"{APP}:v1"], "digest": d("v1")} == job["params"]
    again = await server.ask("DELETE", path, Idempotency_Key="k")
    assert (202, "true", job) == (again.status, again.headers["Idempotency-Replayed"], await again.json())
    assert (409, "another_job_acts") == await server.code("DELETE", TAG)
    assert (200, job) == await server.answer("GET", f"/jobs/{job['id']}")


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/repositories/team/none/tags/v1", (404, "not_found")),
        (f"{TAG}?digest=v1", (400, "invalid_parameter")),
        (f"{TAG}?force=true", (400, "unknown_parameter")),
        (f"{TAG}?reason=", (400, "invalid_parameter")),
        (f"/repositories/{APP}/tags/-v", (400, "invalid_name")),
        (f"{TAG}/history", (405, "method_not_allowed")),
        (f"/repositories/{APP}", (405, "method_not_allowed")),
        (f"/repositories/{APP}/tags", (405, "method_not_allowed")),
        ("/repositories", (405, "method_not_allowed")),
    ],
)
async def test_delete__refused(server: Server, path: str, refused: tuple[int, str]) -> None:
    """What is wrong is one problem with a stable code, and no job is on record after it."""
    assert refused == await server.code("DELETE", path)
    assert 0 == await server.pool.fetchval("SELECT count(*) FROM job")


async def test_delete__who_may(server: Server) -> None:
    """Who may delete in the repository, and nobody else; the patterns of the token bind the job."""
    for token in (None, "unknown", SOURCE):
        assert (401, "unauthorized") == await server.code("DELETE", TAG, token=token)
    assert (403, "read_only_token") == await server.code("DELETE", TAG, token=READS)
    for actions in (["pull"], ["pull", "push"]):
        assert (403, "not_granted") == await server.code("DELETE", TAG, token=mint(grant(APP, *actions)))
    assert (404, "not_found") == await server.code("DELETE", TAG, token=mint(grant(OTHER, "delete")))
    meta = {"tag_deny_access_patterns": {"push": [], "delete": ["^v"]}, "tag_immutable_patterns": []}
    status, job = await server.answer("DELETE", TAG, token=mint({**grant(APP, "delete"), "meta": meta}))
    assert 202 == status
    bounds = await server.pool.fetchval("SELECT bounds FROM job WHERE id = $1", job["id"])
    assert read_patterns(meta) == read_patterns(bounds[APP])


# --- the list -------------------------------------------------------------------------------------------------


async def test_list__what_we_deleted_newest_first(server: Server) -> None:
    """Every deletion that was carried out, and nothing else, with who, when, why and by which job."""
    number = await server.deleted("a", days=1, reason="old")
    await server.deleted("b", days=2, actor="a-policy", source="policy", job_id=None)
    await server.deleted("b", days=3, outcome=None, state="done", repository=OTHER)
    await server.deleted("not", days=4, outcome="not_done")
    await server.deleted("never", days=4, done=False)
    await server.deleted("a", days=5, kind="restore", of_action=number)
    await server.deleted("c", days=6, kind="put_back", of_action=number)
    assert [f"{OTHER}:b", f"{APP}:b", f"{APP}:a"] == await server.tags()
    (shown,) = await server.items("?tag=a")
    assert {
        "id": str(number),
        "repository": APP,
        "tag": "a",
        "digest": d("a"),
        "deleted_at": "2026-11-02T00:00:00.000000Z",
        "deleted_by": "ann",
        "source": "operator",
        "reason": "old",
        "job": str(JOB),
        "outcome": "deleted",
    } == {name: value for name, value in shown.items() if name != "restorable"}
    assert [f"{APP}:b"] == await server.tags("?deleted_by=a-policy")
    assert [f"{OTHER}:b"] == await server.tags(f"?repository={OTHER},team/none")
    assert [f"{OTHER}:b", f"{APP}:a"] == await server.tags(f"?job={JOB}")
    assert [f"{APP}:b"] == await server.tags("?deleted_after=2026-11-02&deleted_before=2026-11-04")
    for query in ("?sort=tag", "?unknown=1", "?limit=0", "?after=x"):
        assert 400 == (await server.ask("GET", f"/trash{query}")).status, query


async def test_list__pages(server: Server) -> None:
    """Pages follow each other without a gap, in both directions, also where many were deleted at one instant."""
    for number in range(7):
        await server.deleted(f"t{number}", days=number // 4)
    whole = await server.tags()
    seen: list[str] = []
    path = "?limit=2&count=exact"
    while True:
        status, page = await server.answer("GET", f"/trash{path}")
        assert (200, 7) == (status, page["count"])
        seen += [f"{item['repository']}:{item['tag']}" for item in page["items"]]
        if page["next"] is None:
            break
        path = f"?limit=2&count=exact&after={page['next']}"
    assert whole == seen
    assert 7 == len(set(seen))
    assert whole[4:6] == await server.tags(f"?limit=2&before={page['previous']}")


async def test_list__manifests_that_were_deleted_by_their_digest(server: Server) -> None:
    """They are listed for themselves; one that the repository has again cannot be restored; a restore is a job."""
    await server.deleted("a", days=1)
    gone = await server.deleted("", days=2, kind="unlink", outcome="unlinked")
    there = await server.deleted("", days=3, kind="unlink", outcome="unlinked")
    await server.pool.execute(
        "UPDATE tag_action SET digest = $2 WHERE id = $1", there, digest_to_bytes(d("v1"))
    )
    shown = await server.items("?manifests=true")
    assert [(str(there), None, d("v1")), (str(gone), None, d(""))] == [
        (item["id"], item["tag"], item["digest"]) for item in shown
    ]
    assert [f"{APP}:a"] == await server.tags()
    assert [(False, "the repository has it again"), (True, None)] == [
        (item["restorable"]["possible"], item["restorable"]["because"]) for item in shown
    ]
    status, job = await server.answer("POST", f"/trash/{gone}/restore?reason=mistake")
    assert 202 == status
    assert {
        "tags": [],
        "manifests": [f"{APP}@{d('')}"],
        "deletion": str(gone),
        "force": False,
    } == job["params"]
    await server.pool.execute("UPDATE job SET state = 'cancelled', ended_at = now()")
    await server.deleted("", days=4, kind="restore", state="requested", done=False, outcome=None)
    shown = await server.items("?manifests=true")
    assert "another deletion or restore of this manifest is not finished" == shown[1]["restorable"]["because"]


async def test_list__who_sees_what(server: Server) -> None:
    """A token of the registry sees the deletions in what it may read; a read token all; a source none."""
    await server.deleted("a", days=1)
    await server.deleted("b", days=2, repository=OTHER)
    assert [f"{OTHER}:b", f"{APP}:a"] == await server.tags(token=READS)
    assert [f"{APP}:a"] == await server.tags(token=mint(grant(APP, "pull")))
    assert [] == await server.tags(token=mint(grant(OTHER, "delete")))
    assert [] == await server.tags(f"?repository={OTHER}", token=mint(grant(APP, "pull")))
    for token in (None, SOURCE):
        assert (401, "unauthorized") == await server.code("GET", "/trash", token=token)


async def test_list__whether_it_can_be_restored(server: Server) -> None:
    """Manifest kept until then; back by a restore, or by a push; elsewhere; collected; under way; over."""
    kept = await server.deleted("a", days=1)
    assert (True, None) == await server.restorable(kept)
    lost = await server.deleted("b", kept=False)
    assert (False, "its manifest was not kept") == await server.restorable(lost)
    gone = await server.deleted("c", gone="sha256:1 is gone from the registry: garbage was collected")
    assert (False, "sha256:1 is gone from the registry: garbage was collected") == await server.restorable(
        gone
    )
    over = await server.deleted("d", kept_until=START)
    assert (False, "it was kept until 2026-11-01T00:00:00.000000Z") == await server.restorable(over)
    await server.deleted("a", days=2, kind="restore", state="requested", done=False, outcome=None)
    assert (False, "another deletion or restore of this tag is not finished") == await server.restorable(kept)

    again = await server.deleted("v1", days=1)  # the tag is on record
    assert (False, "the tag points there again") == await server.restorable(again)
    await server.deleted("v1", days=2, kind="restore", of_action=again, outcome="restored")
    assert (False, "it was restored at 2026-11-03T00:00:00.000000Z") == await server.restorable(again)
    await server.pool.execute(
        "UPDATE tag_action SET digest = $2 WHERE id = $1", again, digest_to_bytes(d("a"))
    )
    possible, because = await server.restorable(again)
    assert (False, "its manifest was not kept") == (possible, because)
    await server.pool.execute(
        "UPDATE trash_manifest SET digest = $2 WHERE action_id = $1", again, digest_to_bytes(d("a"))
    )
    _, because = await server.restorable(again)
    assert because is not None
    assert because.startswith(f"the tag points to {d('v1')} by now: restoring takes force")
    forced = [item["tag"] for item in await server.items() if item["restorable"]["by_force"]]
    assert ["v1"] == forced


async def test_status__counts_what_an_operator_must_see(server: Server) -> None:
    """Tags that a deletion may have left on a dummy, tags that are not certain, and pushes put back since yesterday."""
    wrong = "state = 'requested', done_at = NULL, dummy = digest, requested_at = now() - interval '1 hour'"
    for tag, change in (
        ("a", wrong),
        ("b", "state = 'uncertain'"),
        ("c", "kind = 'put_back', done_at = now()"),
    ):
        number = await server.deleted(tag)
        await server.pool.execute(f"UPDATE tag_action SET {change} WHERE id = $1", number)
    _, status = await server.answer("GET", "/status")
    expected = {"on_dummy": 1, "uncertain": 1, "put_back_in_the_last_day": 1, "examples": [f"{APP}:a"]}
    assert expected == status["deletions"]


# --- restoring ------------------------------------------------------------------------------------------------


async def test_restore__is_a_job(server: Server) -> None:
    """202 with the job of exactly this deletion; force and reason are on record; a key gives one job."""
    number = await server.deleted("a")
    path = f"/trash/{number}/restore?force=true&reason=mistake"
    response = await server.ask("POST", path, Idempotency_Key="k")
    job = await response.json()
    assert (202, f"/api/v1/jobs/{job['id']}") == (response.status, response.headers["Location"])
    assert ("restore", "waiting", "mistake") == (job["kind"], job["state"], job["reason"])
    assert {"tags": [f"{APP}:a"], "manifests": [], "deletion": str(number), "force": True} == job["params"]
    again = await server.ask("POST", path, Idempotency_Key="k")
    assert (202, job) == (again.status, await again.json())
    assert (409, "another_job_acts") == await server.code("POST", f"/trash/{number}/restore")


async def test_restore__what_is_not_there(server: Server) -> None:
    """What is no deletion that was carried out, or of a repository that the caller must not know, is one 404."""
    number = await server.deleted("a")
    never = await server.deleted("b", done=False)
    other = await server.deleted("a", kind="restore")
    answers = [
        await server.answer("POST", f"/trash/{wrong}/restore") for wrong in ("x", uuid.uuid4(), never, other)
    ]
    token = mint(grant(OTHER, "pull", "push", "delete"))
    answers.append(await server.answer("POST", f"/trash/{number}/restore", token=token))
    assert {(404, "not_found", "there is no such deletion in the trash")} == {
        (status, problem["code"], problem["detail"]) for status, problem in answers
    }
    assert (400, "invalid_parameter") == await server.code("POST", f"/trash/{number}/restore?force=1")
    assert (405, "method_not_allowed") == await server.code("GET", f"/trash/{number}/restore")


async def test_restore__who_may(server: Server) -> None:
    """Who may push to the repository, or delete in it."""
    path = f"/trash/{await server.deleted('a')}/restore"
    for token in (None, SOURCE):
        assert (401, "unauthorized") == await server.code("POST", path, token=token)
    assert (403, "read_only_token") == await server.code("POST", path, token=READS)
    assert (403, "not_granted") == await server.code("POST", path, token=mint(grant(APP, "pull")))
    for action in ("push", "delete"):
        status, job = await server.answer("POST", path, token=mint(grant(APP, action)))
        assert 202 == status
        assert 202 == (await server.ask("POST", f"/jobs/{job['id']}/cancel")).status

"""The API of cleanup: preview, plans and their approval, holds, and what is in use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY

from indexer.api.routes import ApiSettings, add_api
from indexer.background.gauges import Gauges
from indexer.cleanup.planning import make_plan
from indexer.oci.digest import digest_to_bytes
from indexer.store import in_use, policies_in_force
from indexer.store.pool import Pool, connection, open_pool, transaction
from reconciler.commands.status_view import picture_json, picture_lines, read_view
from reconciler.doctor.observe import observe_cleanup
from reconciler.doctor.policies import judge_policies
from tests.fixtures.cleanup_rows import Rows, d
from tests.fixtures.tokens import grant, mint, trust_in

READS, ANN, SOURCE = "reads-of-the-tests", "ann-of-the-tests", "cluster-of-the-tests"
FILE = b"""version: 1
cleanup:
  - id: a
    mode: propose
    scope: {repositories: {any: ["team/**"]}}
    delete: [{id: old, tags: {glob: ["pr-*"]}, older: {pushed: 30d}}]
    brake: {tags: 100, share: 100%, repository_share: 100%}
"""
NOW = datetime.now(UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


@dataclass
class Server:
    """A client of the API; a call is an operator's unless another token is given."""

    client: TestClient[web.Request, web.Application]
    pool: Pool

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str = ANN, status: int = 200
    ) -> Any:
        """Ask for something that must be answered with a status."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.request(method, f"/api/v1{path}", json=body, headers=headers) as response:
            answer = await response.json(content_type=None)
            assert status == response.status, answer
            return answer


@pytest_asyncio.fixture
async def server(migrated_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    """The API over a repository with two old tags and one that stays, with policies in force."""
    pool = await open_pool(migrated_url, size=8, application="tests")
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await held.execute("UPDATE receiver_session SET heartbeat_at = $1", NOW)
        await rows.tag("pr-1", "one", ago(40))
        await rows.tag("pr-2", "two", ago(40))
        await rows.tag("v1", "three", ago(400))
    async with transaction(pool) as held:
        await policies_in_force.put_in_force(held, content=FILE, at=ago(1), by=None)
    app = web.Application(client_max_size=1024 * 1024)
    tokens: dict[str, Any] = {"operator_tokens": (("ann", ANN),), "in_use_tokens": (("cluster", SOURCE),)}
    trust = trust_in(tmp_path)
    add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({READS}), trust=trust, **tokens))
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield Server(client, pool)
    await pool.close()


def decisions(found: Mapping[str, Any]) -> dict[str, str]:
    return {each["tag"]: each["decision"] for each in found["verdicts"] if each["tag"]}


async def test_preview__is_the_plan_and_keeps_nothing(server: Server) -> None:
    """Every verdict with its reason, by repository, policy and decision; a reader may ask."""
    found = await server.ask("GET", "/cleanup/plan", token=READS)
    assert {"pr-1": "delete", "pr-2": "delete", "v1": "keep"} == decisions(found)
    assert {"keep": 1, "delete": 4, "hold": 0, "freed_bytes": 20} == found["summary"]
    assert (None, None) == (found["plan_id"], found["next"])
    first = next(each for each in found["verdicts"] if each["tag"] == "pr-1")
    assert ("old", "delete.old") == (first["rule"], first["reason"])
    assert "rule old deletes it" in first["text"]
    kept = await server.ask("GET", "/cleanup/plan?decision=keep")
    assert {"v1": "keep"} == decisions(kept)
    named = await server.ask("GET", "/cleanup/plan?repository=team/app&tag=pr-2,v1")
    assert {"pr-2": "delete", "v1": "keep"} == decisions(named)
    assert (2, found["summary"]) == (len(named["verdicts"]), named["summary"])
    page = await server.ask("GET", "/cleanup/plan?limit=2&after=1")
    assert (2, 3) == (len(page["verdicts"]), page["next"])
    assert [] == (await server.ask("GET", "/cleanup/plan?repository=team/none"))["verdicts"]
    assert 5 == len((await server.ask("GET", "/cleanup/plan?repository=team/app&policy=a"))["verdicts"])
    assert "unknown_policy" == (await server.ask("GET", "/cleanup/plan?policy=b", status=400))["code"]
    assert [] == (await server.ask("GET", "/cleanup/plans"))["items"]


async def test_preview__shows_a_token_of_one_repository_nothing_of_others(server: Server) -> None:
    """A policy with a budget weighs them all: its verdicts on that repository are shown, what it comes to is not."""
    text = FILE.replace(b'tags: {glob: ["pr-*"]}', b'tags: {semver: "*"}')
    text = text.replace(
        b"    brake:",
        b"    budget: {bytes: 1KiB, of: referenced, take: least_recently_used, only: matched_by_delete}\n    brake:",
    )
    async with transaction(server.pool) as held:
        rows = Rows(held)
        await rows.tag("1.2-secret", "hidden", ago(40), repository="team/other")
        await policies_in_force.put_in_force(held, content=text, at=ago(1), by=None)
    path = "/cleanup/plan?repository=team/app,team/other"
    every = await server.ask("GET", path)
    assert {"team/app", "team/other"} == {each["repository"] for each in every["verdicts"]}
    assert "1.2-secret" in every["policies"][0]["notes"][-1]

    mine = await server.ask("GET", path, token=mint(grant("team/app", "pull")))
    own = [each for each in every["verdicts"] if each["repository"] == "team/app"]
    assert [each["tag"] for each in own] == [each["tag"] for each in mine["verdicts"]]
    assert ([], 0) == (mine["policies"], mine["summary"]["keep"])
    assert "secret" not in str(mine)


async def test_who__a_token_of_one_repository_sees_nothing_of_the_whole_registry(server: Server) -> None:
    """403 for policies, plans, holds and what is in use, whether or not there is such a one."""
    paths = [
        "/cleanup/policies", "/cleanup/plan", "/cleanup/plans", "/cleanup/plans/x", "/cleanup/plans/x/verdicts",
        "/holds", "/holds/x", "/in-use", "/in-use/cluster",
    ]  # fmt: skip
    for path in paths:
        found = await server.ask("GET", path, token=mint(grant("team/app", "*")), status=403)
        assert "not_granted" == found["code"], path


async def test_plans__are_approved_by_operators_only(server: Server) -> None:
    """A plan on record is shown with its verdicts; approving it takes an operator token, and is in the log."""
    async with connection(server.pool) as held:
        file = await policies_in_force.in_force(held)
        assert file is not None
        made = await make_plan(held, file.policies(), now=datetime.now(UTC), operator=None)
    plan = made.plan.id
    assert plan == (await server.ask("GET", "/cleanup/plan"))["plan_id"]
    (listed,) = (await server.ask("GET", "/cleanup/plans", token=READS))["items"]
    assert listed == await server.ask("GET", f"/cleanup/plans/{plan}")
    assert (4, 1, []) == (
        listed["policies"][0]["delete"],
        listed["policies"][0]["keep"],
        listed["approvals"],
    )
    verdicts = await server.ask("GET", f"/cleanup/plans/{plan}/verdicts?limit=3")
    rest = await server.ask("GET", f"/cleanup/plans/{plan}/verdicts?after={verdicts['next']}")
    assert 4 == len(verdicts["items"] + rest["items"])
    for asked, number in {
        "repository=team/app": 4, "repository=team/none": 0, "policy=a&decision=delete": 4, "decision=hold": 0,
    }.items():  # fmt: skip
        found = await server.ask("GET", f"/cleanup/plans/{plan}/verdicts?{asked}")
        assert number == len(found["items"]), asked
    await server.ask("GET", "/cleanup/plans/none", status=404)

    path = f"/cleanup/plans/{plan}/approve"
    assert "read_only_token" == (await server.ask("POST", path, {}, token=READS, status=403))["code"]
    await server.ask("POST", path, {}, token=SOURCE, status=401)
    before = await server.ask("GET", "/cleanup/policies")
    assert ["not_approved"] == [each["refusal"] for each in before["cleanup"]]
    (approval,) = (await server.ask("POST", path, {"reason": "seen"}))["approvals"]
    assert ("ann", "seen") == (approval["by"], approval["reason"])
    status = await server.ask("GET", "/cleanup/policies", token=READS)
    assert [True] == [each["acts"] for each in status["cleanup"]]
    assert (2, 0) == (status["planned"]["tags"], status["planned"]["next_run"]["tags"])
    async with connection(server.pool) as held:
        row = await held.fetchrow("SELECT detail FROM audit_staged WHERE action = 'cleanup.approved'")
    assert row is not None
    assert plan == row["detail"]["plan"]
    rejected = await server.ask("POST", f"/cleanup/plans/{plan}/reject", {})
    assert "ann" == rejected["rejected_by"]
    assert "rejected" == (await server.ask("POST", path, {}, status=409))["code"]


async def test_runs__and_what_each_did(server: Server) -> None:
    """Jobs of cleanup alone, newest first, with what became of each tag and manifest; other jobs are none."""
    async with transaction(server.pool) as held:
        ids = []
        for kind, by_policy in (("cleanup", True), ("cleanup", False), ("reconcile", False)):
            ids.append(
                await held.fetchval(
                    "INSERT INTO job (id, kind, state, acts, params, asked_by, asked_from, asked_with, by_policy,"
                    " bounds, created_at, ended_at, request_hash)"
                    " VALUES (gen_random_uuid(), $1, 'done', true, '{}', 'a', '', '', $2, '{}', now(), now(), '')"
                    " RETURNING id",
                    kind,
                    by_policy,
                )
            )
        for tag, kind, result in (
            ("pr-1", "delete", "deleted"),
            ("pr-2", "delete", None),
            ("", "unlink", "unlinked"),
        ):
            await held.execute(
                "INSERT INTO tag_action (id, kind, state, source, repository, tag, digest, asked_at, watched_until,"
                " kept_until, outcome, reason, job_id) VALUES (gen_random_uuid(), $1, 'checked', 'policy', 'team/app',"
                " $2, $3, clock_timestamp(), now(), now(), $4, 'it is old', $5)",
                kind,
                tag,
                digest_to_bytes(d("one")),
                result,
                ids[0],
            )
    runs = (await server.ask("GET", "/cleanup/runs", token=READS))["items"]
    assert [str(ids[1]), str(ids[0])] == [each["id"] for each in runs]
    own = (await server.ask("GET", "/cleanup/runs?policy=a&state=done"))["items"]
    assert [str(ids[0])] == [each["id"] for each in own]
    assert "done" == (await server.ask("GET", f"/cleanup/runs/{ids[0]}"))["state"]
    path = f"/cleanup/runs/{ids[0]}/verdicts"
    verdicts = (await server.ask("GET", path, token=READS))["items"]
    assert [("pr-1", "delete", "deleted"), ("pr-2", "delete", None), (None, "unlink", "unlinked")] == [
        (each["tag"], each["action"], each["outcome"]) for each in verdicts
    ]
    assert {("team/app", d("one"), "it is old")} == {
        (each["repository"], each["digest"], each["reason"]) for each in verdicts
    }
    assert 1 == len((await server.ask("GET", f"{path}?outcome=unlinked&repository=team/app"))["items"])
    assert [] == (await server.ask("GET", f"{path}?repository=team/other"))["items"]
    assert [] == (await server.ask("GET", f"/cleanup/runs/{ids[1]}/verdicts"))["items"]
    for wrong in (ids[2], "no-id"):
        await server.ask("GET", f"/cleanup/runs/{wrong}", status=404)
        await server.ask("GET", f"/cleanup/runs/{wrong}/verdicts", status=404)
    limited = mint(grant("team/app", "pull"))
    for each in ("/cleanup/runs", f"/cleanup/runs/{ids[0]}", path):
        await server.ask("GET", each, token=limited, status=403)


async def test_status__says_what_the_next_run_would_do(server: Server, migrated_url: str) -> None:
    """What is in force, which programs differ, what is planned and due, and who is silent: in the status, too."""
    async with connection(server.pool) as held:
        file = await policies_in_force.in_force(held)
        assert file is not None
        made = await make_plan(held, file.policies(), now=datetime.now(UTC), operator=None)
    await server.ask("POST", f"/cleanup/plans/{made.plan.id}/approve", {})
    status = await server.ask("GET", "/status")
    assert (None, []) == (status["policies"]["differ"], status["policies"]["errors"])
    assert file.sha256 == status["policies"]["sha256"]
    (policy,) = status["cleanup"]["policies"]
    assert (True, 1, 4, 0, []) == tuple(policy[key] for key in ("acts", "keep", "delete", "hold", "brake"))
    planned = status["cleanup"]["planned"]
    assert (0, 2, {"tags": 0, "manifests": 0}) == (planned["due"], planned["pending"], planned["next_run"])

    async with transaction(server.pool) as held:
        await held.execute("UPDATE cleanup_planned SET due_at = $1", ago(0.1))
    planned = (await server.ask("GET", "/status"))["cleanup"]["planned"]
    assert (2, 0, {"tags": 2, "manifests": 0}) == (planned["due"], planned["pending"], planned["next_run"])

    for process, content, error in (
        ("serve", FILE, None),
        ("run", b"other", "f.yaml:1: wrong\nf.yaml:2: wrong"),
    ):
        async with transaction(server.pool) as held:
            await policies_in_force.note_reading(
                held,
                process=process,
                at=datetime.now(UTC),
                file="f.yaml",
                sha256=policies_in_force.sha256_of(content),
                error=error,
            )
    await server.ask("PUT", "/in-use/cluster", {"images": [d("one")], "valid_for": "1s"}, token=SOURCE)
    async with transaction(server.pool) as held:
        await held.execute("UPDATE in_use_source SET valid_until = $1", ago(0.1))
    status = await server.ask("GET", "/status")
    assert "run reads f.yaml" in status["policies"]["differ"]
    assert ["run"] == [each["process"] for each in status["policies"]["errors"]]
    assert [("policies_differ", False)] == [
        (each["refusal"], each["acts"]) for each in status["cleanup"]["policies"]
    ]
    assert {"tags": 0, "manifests": 0} == status["cleanup"]["planned"]["next_run"], (
        "nothing acts while they differ"
    )
    assert [("cluster", True)] == [(each["source"], each["silent"]) for each in status["cleanup"]["in_use"]]

    picture = await read_view(migrated_url)
    assert {key: status[key] for key in ("policies", "cleanup")} == {
        key: picture_json(picture)[key] for key in ("policies", "cleanup")
    }
    lines = list(picture_lines(picture))
    assert f"policies     {status['policies']['differ']}" in lines
    assert "cleanup      the next run would delete 0 tags and 0 manifests" in lines
    async with connection(server.pool) as held:
        check = judge_policies(await observe_cleanup(held))
    assert check is not None
    assert check.found.startswith("programs read different policies")
    assert "in use: cluster is silent since" in check.found

    await Gauges(server.pool).run_once()
    assert (1, 1) == (sample("indexer_policies_differ"), sample("indexer_policies_refused"))
    assert 1 == sample("indexer_in_use_silent", source="cluster")
    assert 0 == sample("indexer_in_use_unconfirmed", source="cluster")
    assert 1 == sample("indexer_cleanup_policy_standing", policy="a", standing="policies_differ")
    assert 4 == sample("indexer_cleanup_verdicts", policy="a", decision="delete")
    assert (2, 0) == (
        sample("indexer_cleanup_planned", state="due"),
        sample("indexer_cleanup_planned", state="pending"),
    )
    assert (0, 1, 0) == tuple(
        sample("indexer_cleanup_plans", state=state) for state in ("waiting", "approved", "rejected")
    )
    assert 0 == sample("indexer_cleanup_ended", outcome="near_miss")


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_status__a_source_that_never_reported_is_silent(server: Server) -> None:
    """A source that the policies name and that never reported is shown, and holds."""
    named = FILE + b"in_use: {sources: [{id: cluster-b}]}\n"
    async with transaction(server.pool) as held:
        await policies_in_force.put_in_force(held, content=named, at=datetime.now(UTC), by=None)
    (source,) = (await server.ask("GET", "/status"))["cleanup"]["in_use"]
    assert ("cluster-b", True, None) == (source["source"], source["silent"], source["reported_at"])
    await Gauges(server.pool).run_once()
    assert 1 == sample("indexer_in_use_silent", source="cluster-b")


async def test_holds__are_added_and_removed(server: Server) -> None:
    """A hold protects at once; whose it is and why is in the verdict."""
    hold = await server.ask(
        "POST",
        "/holds",
        {
            "repository": "team/app",
            "tag": "pr-1",
            "owner": "security",
            "reason": "incident 7",
            "until": "14d",
        },
        status=201,
    )
    assert hold == await server.ask("GET", f"/holds/{hold['id']}", token=READS)
    assert [hold] == (await server.ask("GET", "/holds"))["items"]
    found = await server.ask("GET", "/cleanup/plan")
    assert "keep" == decisions(found)["pr-1"]
    assert any("on hold by security: incident 7" in each["text"] for each in found["verdicts"])
    await server.ask("DELETE", f"/holds/{hold['id']}", token=READS, status=403)
    assert hold == await server.ask("DELETE", f"/holds/{hold['id']}")
    await server.ask("DELETE", f"/holds/{hold['id']}", status=404)
    assert [] == (await server.ask("GET", "/holds"))["items"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "x"},
        {"repository": "team/app"},
        {"repository": "Team", "reason": "x"},
        {"repository": "team/app", "tag": "a b", "reason": "x"},
        {"repository": "team/app", "tag": "a", "digest": d("one"), "reason": "x"},
        {"tag": "a", "digest": d("one"), "reason": "x"},
        {"repository": "team/app", "reason": "x", "until": "2020-01-01T00:00:00Z"},
        {"repository": "team/app", "reason": "x", "until": "soon"},
        {"repository": "team/app", "reason": " "},
        {"repository": "team/app", "reason": "x", "more": 1},
    ],
)
async def test_holds__that_say_too_little(server: Server, body: Any) -> None:
    """422 names the member, and nothing is added."""
    await server.ask("POST", "/holds", body, status=422)
    assert [] == (await server.ask("GET", "/holds"))["items"]


async def test_in_use__a_source_reports_for_itself_only(server: Server) -> None:
    """Its token replaces its own set, and is good for nothing else; the set protects at once."""
    body = {"images": [d("one"), "registry.example/team/app:pr-2"], "valid_for": "48h"}
    found = await server.ask("PUT", "/in-use/cluster", body, token=SOURCE)
    assert ("cluster", 3, False, False) == (
        found["source"],
        found["images"],
        found["silent"],
        found["waits_for_confirmation"],
    )
    verdicts = await server.ask("GET", "/cleanup/plan")
    assert {"pr-1": "keep", "pr-2": "keep", "v1": "keep"} == decisions(verdicts)
    await server.ask("PUT", "/in-use/other", body, token=SOURCE, status=403)
    await server.ask("GET", "/in-use", token=SOURCE, status=401)
    await server.ask("GET", "/cleanup/plan", token=SOURCE, status=401)
    await server.ask("PUT", "/in-use/cluster", body, token=READS, status=403)
    await server.ask("PUT", "/in-use/cluster", body)
    (listed,) = (await server.ask("GET", "/in-use", token=READS))["items"]
    assert "cluster" == listed["source"]
    assert 3 == len((await server.ask("GET", "/in-use/cluster"))["set"])


async def test_in_use__a_set_that_shrinks_waits(server: Server) -> None:
    """Less than half of the images counts only with confirm; until then the old set protects, too."""
    await server.ask("PUT", "/in-use/cluster", {"images": [d("one"), d("two"), d("three")]}, token=SOURCE)
    found = await server.ask("PUT", "/in-use/cluster", {"images": [d("two")]}, token=SOURCE)
    assert (True, 3, 1) == (found["waits_for_confirmation"], found["images"], found["suspected_images"])
    assert "keep" == decisions(await server.ask("GET", "/cleanup/plan"))["pr-1"]
    found = await server.ask("PUT", "/in-use/cluster", {"images": [d("two")], "confirm": True}, token=SOURCE)
    assert (False, 1) == (found["waits_for_confirmation"], found["images"])
    assert {"pr-1": "delete", "pr-2": "keep", "v1": "keep"} == decisions(
        await server.ask("GET", "/cleanup/plan")
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"images": ["not an image"]},
        {"images": ["sha256:1"]},
        {"images": "sha256:1"},
        {"images": [], "valid_for": "0s"},
        {"images": [], "valid_for": "400d"},
        {"images": [], "valid_for": 5},
        {"images": [], "more": 1},
    ],
)
async def test_in_use__a_report_that_is_wrong_changes_nothing(server: Server, body: Any) -> None:
    """422, and the set of before stays whole."""
    await server.ask("PUT", "/in-use/cluster", {"images": [d("one")]}, token=SOURCE)
    await server.ask("PUT", "/in-use/cluster", body, token=SOURCE, status=422)
    async with connection(server.pool) as held:
        assert [("", d("one"))] == await in_use.list_images(held, source="cluster")

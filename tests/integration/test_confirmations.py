"""A person confirms that a deletion of ours lost no push, where nothing else can say so: API, verbs, what follows."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from indexer.api.v1.uncertain import UncertainAction
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.inventory.own_actions import TagAction
from indexer.oci.reference import RepositoryName
from indexer.store import confirmations, unlinking
from indexer.store import tag_actions as store
from indexer.store.lookups import Lookups
from indexer.store.operators import Operator
from indexer.store.pool import Pool, connection, open_pool, transaction
from reconciler.cleanup import decide
from reconciler.cleanup.settle import Settler
from reconciler.commands.main import app
from tests.fixtures.acting import watched
from tests.fixtures.cleanup_rows import d
from tests.fixtures.registries import StartRegistry
from tests.fixtures.tokens import grant, mint
from tests.integration.test_tag_actions import delete, in_registry, outcomes, push, settle_all
from tests.integration.test_trash_api import APP, OTHER, READS, SOURCE, Server, serving
from tools.sample_images import oci_image

ANN = Operator(name="ann", host="here", command="a test")
ANNS = "secret-of-ann"
LISTED = "/cleanup/uncertain"


@pytest_asyncio.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    """The API with a read token, an operator, a source, and trust in the registry's tokens."""
    async with serving(database_url, tmp_path) as served:
        yield served


async def unsure(server: Server, tag: str, **columns: Any) -> uuid.UUID:
    """An action that is uncertain."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    given = {"state": "uncertain", "outcome": "uncertain", "note": "silence", "looked_at": at, **columns}
    return await server.deleted(tag, **given)


async def unsettled(pool: Pool, repository: str = APP) -> str | None:
    async with connection(pool) as held:
        return await unlinking.unsettled(held, repository=RepositoryName(repository))


async def uncertain(pool: Pool) -> Sequence[TagAction]:
    async with connection(pool) as held:
        return await confirmations.find_uncertain(held)


async def confirm_by(
    server: Server, number: uuid.UUID | str, body: object = None, *, token: str = ANNS
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    response = await server.client.post(f"/api/v1{LISTED}/{number}/confirm", json=body or {}, headers=headers)
    return response.status, await response.json(content_type=None)


# --- the API --------------------------------------------------------------------------------------------------


async def test_list__what_is_uncertain_oldest_first(server: Server) -> None:
    """Whatever we did, tags and manifests, with why and between which instants a push may be lost; nothing else."""
    await server.deleted("certain")
    second = await unsure(server, "b", days=2, kind="restore", repository=OTHER)
    first = await unsure(server, "v1", days=1, reason="old")
    third = await unsure(server, "", days=3, kind="unlink", source="policy")
    status, page = await server.answer("GET", LISTED, token=READS)
    assert 200 == status
    assert [first, second, third] == [UncertainAction.model_validate(item).id for item in page["items"]]
    assert {
        "id": str(first),
        "action": "delete",
        "repository": APP,
        "tag": "v1",
        "digest": d("v1"),
        "because": "silence",
        "since": "2026-11-01T00:00:00.000000Z",
        "until": "2026-11-02T00:00:00.000000Z",
        "points_to": d("v1"),
        "asked_by": "ann",
        "source": "operator",
        "reason": "old",
        "job": page["items"][0]["job"],
    } == page["items"][0]
    assert [None, None] == [page["items"][2]["tag"], page["items"][2]["points_to"]]
    for query, found in (
        (f"?repository={OTHER}", [second]),
        ("?tag=v1", [first]),
        ("?limit=1&count=exact", [first]),
    ):
        _, page = await server.answer("GET", f"{LISTED}{query}")
        assert [str(each) for each in found] == [item["id"] for item in page["items"]], query
    _, page = await server.answer("GET", LISTED, token=mint(grant(OTHER, "pull")))
    assert [str(second)] == [item["id"] for item in page["items"]]
    for token in (None, SOURCE):
        assert (401, "unauthorized") == await server.code("GET", LISTED, token=token)


async def test_confirm__ends_what_held_the_repository(server: Server) -> None:
    """The alarm ends, manifests may go again, who said so is in the log; a second time it is a 409."""
    number = await unsure(server, "v1")
    assert f"{APP}:v1" == await unsettled(server.pool)
    status, shown = await confirm_by(server, number, {"reason": "asked the team"})
    assert (200, {"id": str(number), "repository": APP, "tag": "v1", "outcome": "confirmed"}) == (
        status,
        shown,
    )
    assert await unsettled(server.pool) is None
    async with connection(server.pool) as held:
        (action,) = await store.find_actions(held, ids=[number])
        assert 0 == (await store.count_alarming(held)).uncertain
    assert ("checked", "confirmed") == (action.state, action.outcome)
    assert "a person confirmed that no push was lost. Before: silence" == action.note
    entry = await server.pool.fetchrow(
        "SELECT s.source, a.name, s.detail FROM audit_staged AS s JOIN actor AS a ON a.id = s.actor_id "
        "WHERE s.action = 'cleanup.confirmed'"
    )
    assert entry is not None
    assert ("operator", "ann") == (entry["source"], entry["name"])
    assert {
        "cleanup": str(number),
        "kind": "delete",
        "repository": APP,
        "tag": "v1",
        "digest": d("v1"),
        "because": "silence",
        "job": str(action.job),
        "reason": "asked the team",
    } == entry["detail"]
    status, problem = await confirm_by(server, number)
    assert (409, "not_uncertain") == (status, problem["code"])
    assert 1 == await server.pool.fetchval(
        "SELECT count(*) FROM audit_staged WHERE action = 'cleanup.confirmed'"
    )


async def test_confirm__not_while_a_request_may_be_on_its_way(server: Server) -> None:
    """What was sent and not answered may still be carried out: then there is nothing to confirm yet."""
    now = datetime.now(UTC)
    fresh = await unsure(server, "a", done=False, requested_at=now - timedelta(seconds=90))
    old = await unsure(server, "b", done=False, requested_at=now - timedelta(seconds=150))
    assert [409, 200] == [(await confirm_by(server, number))[0] for number in (fresh, old)]


async def test_confirm__who_may(server: Server) -> None:
    """Who may delete the tag, and nobody else: the patterns of a token bind this, too."""
    number, manifest = await unsure(server, "v1"), await unsure(server, "", kind="unlink")
    for wrong, refused in ((READS, (403, "read_only_token")), (SOURCE, (401, "unauthorized"))):
        status, problem = await confirm_by(server, number, token=wrong)
        assert refused == (status, problem["code"])
    meta = {"tag_deny_access_patterns": {"push": [], "delete": ["^v"]}, "tag_immutable_patterns": []}
    other = {**meta, "tag_deny_access_patterns": {"push": [], "delete": ["^w"]}}
    for given, which, refused in (
        (grant(OTHER, "delete"), number, (404, "not_found")),
        (grant(APP, "pull", "push"), number, (403, "not_granted")),
        ({**grant(APP, "delete"), "meta": meta}, number, (403, "denied")),
        ({**grant(APP, "delete"), "meta": other}, manifest, (403, "denied")),
    ):
        status, problem = await confirm_by(server, which, token=mint(given))
        assert refused == (status, problem["code"])
    for missing in (uuid.uuid4(), "x"):
        status, problem = await confirm_by(server, missing)
        assert (404, "not_found") == (status, problem["code"])
    assert 2 == len(await uncertain(server.pool))
    token = mint({**grant(APP, "delete"), "meta": other})
    assert 200 == (await confirm_by(server, number, token=token))[0]
    assert 200 == (await confirm_by(server, manifest, token=mint(grant(APP, "delete"))))[0]


# --- the verbs ------------------------------------------------------------------------------------------------


async def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code and outputs of a verb of ``reconciler cleanup``."""

    def work() -> int:
        try:
            app(["cleanup", *words], exit_on_error=False)
        except SystemExit as ended:
            return int(ended.code or 0)
        except ConfigurationError as error:  # what the program itself says, with this code
            sys.stderr.write(str(error))
            return exit_codes.USAGE
        return 0

    code = await asyncio.to_thread(work)
    said = capsys.readouterr()
    return code, said.out, said.err


async def test_verbs__list_and_confirm(
    migrated_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By id, tag, digest or repository; nothing without --yes, and nothing that is not uncertain."""
    monkeypatch.setenv("INDEXER_DATABASE_URL", migrated_url)
    pool = await open_pool(migrated_url, size=2, application="tests")
    try:
        await _list_and_confirm(Server(cast("Any", None), pool), capsys)
    finally:
        await pool.close()


async def _list_and_confirm(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    tags = [await unsure(server, tag) for tag in ("a", "b", "c")]
    await unsure(server, "", kind="unlink")
    away = await unsure(server, "x", repository=OTHER)
    code, out, _ = await run(capsys, "uncertain")
    assert (0, 5) == (code, len(out.splitlines()))
    assert f"{tags[0]}  {APP}:a  deleted ({d('a')}) between 2026-11-01T00:00:00.000000Z and " in out
    code, _, err = await run(capsys, "confirm", f"{APP}:a")
    assert (64, True) == (code, "nothing was done: `cleanup confirm` needs --yes" in err)
    code, _, err = await run(capsys, "confirm", "--yes", f"{APP}:none")
    assert (64, True) == (code, f"{APP}:none: nothing of it is uncertain" in err)
    code, _, err = await run(capsys, "confirm", "--yes", d("a"))
    assert (64, True) == (code, "name the repository, too" in err)
    names = (f"{APP}:a", str(tags[1]), f"{APP}@{d('')}")
    code, out, _ = await run(capsys, "confirm", *names, "--yes", "--reason", "asked", "--json")
    assert 0 == code
    assert [("a", True), ("b", True), (None, True)] == [
        (each["tag"], each["confirmed"]) for each in json.loads(out)["items"]
    ]
    assert f"{APP}:c" == await unsettled(server.pool)
    code, out, _ = await run(capsys, "confirm", APP, "--yes")
    assert (0, f"{APP}:c confirmed\n") == (code, out)
    code, out, _ = await run(capsys, "uncertain", "--json")
    assert [str(away)] == [each["id"] for each in json.loads(out)["items"]]


# --- what follows ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurry")
async def test_settle__what_turns_out_to_be_lost_is_put_back_all_the_same(
    pool: Pool,
    lookups: Lookups,
    start_registry: StartRegistry,
    registry_version: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A confirmation lasts, however often it is decided on; but a push that is announced after it is not lost."""
    monkeypatch.setattr(decide, "SILENT_AFTER", timedelta(0))
    async with watched(pool, lookups, start_registry, registry_version) as world:
        await push(world, oci_image("a"), "v1")
        await world.until_known("v1")

        async def before(_method: str, _reference: str) -> None:
            world.paused.clear()
            world.client.before = type(world.client).before
            await push(world, oci_image("b"), "v1")

        world.client.before = before
        result = await delete(world, "v1", settle=False)
        settler = Settler(pool, world.client)
        await settler.until_settled(result.begun, seconds=60)
        assert {"delete v1": ("uncertain", "uncertain")} == await outcomes(world)
        async with transaction(pool) as held:
            (action,) = await confirmations.find_uncertain(held, repository="team/app", tag="v1")
            assert await confirmations.confirm(
                held, action=action, at=datetime.now(UTC), operator=ANN, reason=None
            )
        assert await settler.settle(ids=result.begun)
        assert {"delete v1": ("checked", "confirmed")} == await outcomes(world)
        assert "infinity" == await pool.fetchval("SELECT due_at::text FROM tag_action")
        assert await unsettled(pool) is None
        world.paused.set()
        async with asyncio.timeout(60):
            while (await outcomes(world))["delete v1"] != ("checked", "put_back"):
                await settle_all(world)
                await asyncio.sleep(0.05)
        assert [oci_image("b").digest] == await in_registry(world, "v1")


async def test_leave_uncertain__not_what_was_confirmed_meanwhile(server: Server) -> None:
    """Whoever was deciding while a person confirmed does not undo that; a new event has it decided on again."""
    number = await unsure(server, "a")
    assert 200 == (await confirm_by(server, number))[0]
    now = datetime.now(UTC)
    for events, due in ((0, "infinity"), (3, None)):
        async with connection(server.pool) as held:
            await store.leave_uncertain(
                held, number=number, now=now, note="silence", again_at=now, events=events
            )
        row = await server.pool.fetchrow(
            "SELECT state, outcome, due_at::text AS due FROM tag_action WHERE id = $1", number
        )
        assert row is not None
        assert ("checked", "confirmed") == (row["state"], row["outcome"])
        assert (row["due"] == "infinity") == (due == "infinity")

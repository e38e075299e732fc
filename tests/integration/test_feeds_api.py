"""Feeds and their dead letters over the API and by command: listed, tried again, discarded, by whom, and in the log."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from indexer.api.routes import ApiSettings, add_api
from indexer.api.v1.feeds import DeadLetterShown
from tests.fixtures.feeding import Collector, MakeFeed, deliver_all, write_log
from tests.fixtures.tokens import grant, mint, trust_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from indexer.store.pool import Pool

READS, ANN = "read-token-of-the-tests", "secret-of-ann"
BAD = {2, 3, 5}


class Asking:
    """Asks the API; an operator unless another token is given."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client

    async def __call__(
        self, method: str, path: str, body: Any = None, *, token: str = ANN, status: int = 200
    ) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.request(method, f"/api/v1{path}", json=body, headers=headers) as response:
            answer = await response.json(content_type=None)
            assert status == response.status, answer
            return answer


@pytest.fixture
def database_url(migrated_url: str) -> str:
    """A database that ``indexer migrate`` has made: the command line asks for no less."""
    return migrated_url


@pytest_asyncio.fixture
async def ask(pool: Pool, tmp_path: Path) -> AsyncIterator[Asking]:
    """The API over the database of the feeds."""
    app = web.Application()
    settings = ApiSettings(
        api_tokens=frozenset({READS}), operator_tokens=(("ann", ANN),), trust=trust_in(tmp_path)
    )
    add_api(app, pool=pool, settings=settings)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield Asking(client)


@pytest_asyncio.fixture
async def letters(pool: Pool, collector: Collector, make_feed: MakeFeed) -> Any:
    """A feed to a real receiver that refuses three of six entries for good. Returns its dispatcher."""
    collector.answer = lambda events: (
        web.Response(status=422, text="no good") if BAD & {int(e["sequence"]) for e in events} else None
    )
    await write_log(pool, *(f"team/app:v{number}" for number in range(1, 7)))
    feed = make_feed(kind="http", url=collector.url)
    await deliver_all(pool, feed)
    return feed


async def logged(pool: Pool, action: str) -> list[Any]:
    rows = await pool.fetch(
        "SELECT a.name AS actor, s.detail FROM audit_staged AS s LEFT JOIN actor AS a ON a.id = s.actor_id "
        "WHERE s.action = $1::text::audit_action ORDER BY s.id",
        action,
    )
    return [(row["actor"], row["detail"]) for row in rows]


@pytest.mark.usefixtures("letters")
async def test_dead_letters__are_listed_with_their_entries(ask: Asking, pool: Pool) -> None:
    """In the order of the log, page by page, with what was refused, how often, since when, and why; readers may see."""
    feed = await ask("GET", "/feeds/siem", token=READS)
    listed = await ask("GET", "/feeds?count=exact", token=READS)
    assert (1, ["siem"]) == (listed["count"], [each["name"] for each in listed["items"]])
    assert (3, 6, 3) == (feed["dead"], feed["position"], feed["delivered"])
    assert feed == listed["items"][0] | {"age_seconds": feed["age_seconds"]}
    page = await ask("GET", "/feeds/siem/dead-letters?limit=2&count=exact", token=READS)
    rest = await ask("GET", f"/feeds/siem/dead-letters?after={page['next']}", token=READS)
    back = await ask("GET", f"/feeds/siem/dead-letters?before={rest['previous']}&limit=2", token=READS)
    items = page["items"] + rest["items"]
    assert (3, page["items"], None) == (page["count"], back["items"], rest["next"])
    for each in items:
        DeadLetterShown.model_validate(each)
    log = await pool.fetchval("SELECT id FROM audit_log_identity")
    first = items[0]
    assert sorted(BAD) == [each["position"] for each in items]
    assert (f"{log}/{2:020}", "tag.created", "team/app", "v2") == (
        first["id"],
        first["action"],
        first["repository"],
        first["tag"],
    )
    assert (1, "the sink answers 422: 'no good'", False) == (
        first["attempts"],
        first["last_error"],
        first["retry_requested"],
    )
    assert first["first_tried_at"] == first["tried_at"] is not None
    await ask("GET", "/feeds/other", token=READS, status=404)
    await ask("GET", "/feeds/other/dead-letters", token=READS, status=404)


async def test_dead_letters__tried_again(ask: Asking, letters: Any, pool: Pool, collector: Collector) -> None:
    """Those that are named, or all; what is refused again counts as tried once more; the log says who asked."""
    again = "/feeds/siem/dead-letters/retry"
    assert {"feed": "siem", "retried": 1} == await ask("POST", again, {"positions": [3, 77]})
    await deliver_all(pool, letters)
    items = (await ask("GET", "/feeds/siem/dead-letters"))["items"]
    assert {2: 1, 3: 2, 5: 1} == {each["position"]: each["attempts"] for each in items}
    third = next(each for each in items if each["position"] == 3)
    assert third["first_tried_at"] < third["tried_at"]
    await pool.execute("UPDATE feed SET stopped = 'somebody stopped it'")
    collector.answer = lambda _: None
    assert {"feed": "siem", "retried": 3} == await ask("POST", again, {})
    await deliver_all(pool, letters)
    assert [] == (await ask("GET", "/feeds/siem/dead-letters"))["items"]
    assert {1, 2, 3, 4, 5, 6} == set(collector.positions)
    assert {"feed": "siem", "retried": 0} == await ask("POST", again, {"positions": [3]})
    assert [
        ("ann", {"feed": "siem", "entries": 1, "positions": [3, 77]}),
        ("ann", {"feed": "siem", "entries": 3, "positions": None}),
    ] == await logged(pool, "operator.feed_retried")


async def test_dead_letters__discarded(ask: Asking, letters: Any, pool: Pool, collector: Collector) -> None:
    """They are gone and never delivered; the log says which, who and why; what is none any more is not counted."""
    discard = "/feeds/siem/dead-letters/discard"
    await ask("POST", discard, {"positions": [2]}, status=422)
    await ask("POST", discard, {"positions": [], "reason": "x"}, status=422)
    await ask("POST", discard, {"reason": "x"}, status=422)
    await ask("POST", discard, {"positions": [2], "reason": " "}, status=422)
    reason = "the ticket 7 says so" * 40
    answer = await ask("POST", discard, {"positions": [2, 5, 99], "reason": reason})
    assert {"feed": "siem", "positions": [2, 5]} == answer
    assert [] == (await ask("POST", discard, {"positions": [2], "reason": "x"}))["positions"]
    collector.answer = lambda _: None
    await ask("POST", "/feeds/siem/dead-letters/retry", {})
    await deliver_all(pool, letters)
    assert [1, 4, 6, 3] == collector.positions
    assert [("ann", {"feed": "siem", "entries": 2, "positions": [2, 5], "reason": reason})] == await logged(
        pool, "operator.feed_discarded"
    )


async def test_replay__goes_on_or_back(ask: Asking, letters: Any, pool: Pool, collector: Collector) -> None:
    """A feed that stopped continues; from a position everything is delivered again; the log has an end."""
    await pool.execute("UPDATE feed SET stopped = 'gone'")
    assert "gone" == (await ask("GET", "/feeds/siem"))["stopped"]
    assert None is (await ask("POST", "/feeds/siem/replay", {}))["stopped"]
    collector.answer = lambda _: None
    found = await ask("POST", "/feeds/siem/replay", {"position": 6})
    assert (5, 1) == (found["position"], found["replays"])
    await deliver_all(pool, letters)
    assert [1, 4, 6, 6] == collector.positions
    assert "position" == (await ask("POST", "/feeds/siem/replay", {"position": 99}, status=422))["parameter"]
    await ask("POST", "/feeds/siem/replay", {"position": 0}, status=422)
    assert [7, 6] == [detail["from_position"] for _, detail in await logged(pool, "operator.feed_replayed")]


@pytest.mark.usefixtures("letters")
async def test_who__may_see_and_act(ask: Asking, pool: Pool) -> None:
    """Who reads single repositories sees no feed, and is told why; whoever is no operator changes nothing."""
    one = mint(grant("team/app", "*"))
    for path in ("/feeds", "/feeds/siem", "/feeds/none", "/feeds/siem/dead-letters"):
        found = await ask("GET", path, token=one, status=403)
        assert ("not_granted", True) == (found["code"], "single repositories only" in found["detail"]), path
    body = {"positions": [2], "reason": "x"}
    for path, asked in (
        ("/dead-letters/discard", body), ("/dead-letters/retry", {}), ("/replay", {}),
    ):  # fmt: skip
        await ask("POST", f"/feeds/siem{path}", asked, token=READS, status=403)
        await ask("POST", f"/feeds/siem{path}", asked, token=one, status=403)
        await ask("POST", f"/feeds/siem{path}", asked, token="nobody", status=401)
        await ask("POST", f"/feeds/none{path}", asked, status=404)
    assert 3 == await pool.fetchval("SELECT count(*) FROM feed_dead_letter WHERE NOT retry_requested")
    assert [] == await logged(pool, "operator.feed_discarded")


async def feeds_dead(url: str, *options: str) -> tuple[int | None, str, str]:
    """Run ``indexer feeds dead siem``; return its exit code and what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "indexer", "feeds", "dead", "siem", *options,
        env={**os.environ, "INDEXER_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.usefixtures("letters")
async def test_command__discards_with_a_reason(database_url: str, pool: Pool) -> None:
    """What is discarded must be named, and why said; what is no dead letter is said, and exits with 1."""
    for options, words in (
        (("--discard",), "name what to discard"),
        (("--discard", "--all", "--position", "2"), "name what to discard"),
        (("--discard", "--all"), "takes a --reason"),
        (("--discard", "--retry", "--all"), "not both"),
        (("--reason", "x"), "belong to --discard"),
    ):
        code, out, err = await feeds_dead(database_url, *options)
        assert (64, "", True) == (code, out, words in err), (options, err)
    code, out, err = await feeds_dead(
        database_url, "--discard", "--position", "2", "--position", "9", "--reason", "old", "--json"
    )
    assert (1, "no dead letters: 9\n") == (code, err)
    assert {"feed": "siem", "discarded": 1} == json.loads(out)
    code, out, _ = await feeds_dead(database_url, "--json")
    found = json.loads(out)["dead"]
    assert (0, [3, 5], [1, 1]) == (code, [e["position"] for e in found], [e["attempts"] for e in found])
    code, out, _ = await feeds_dead(database_url, "--discard", "--all", "--reason", "all of them")
    assert (0, "2 discarded\n") == (code, out)
    assert [([2], "old"), (None, "all of them")] == [
        (detail["positions"], detail["reason"]) for _, detail in await logged(pool, "operator.feed_discarded")
    ]

"""``/api/v1/feed`` over real HTTP: a stream that is taken up again, pages that wait, bounds and refusals."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from indexer.api import long_bodies
from indexer.api.routes import ApiSettings, add_api
from indexer.api.stream_slots import STREAMS
from indexer.api.v1 import feed as room
from indexer.audit.entry_filter import fits
from indexer.audit.notifier import SealNotifier
from indexer.audit.seal import seal
from indexer.audit.serialize import show_entry
from indexer.common.rfc3339 import parse_time
from indexer.store.listing.audit import EVERY_ENTRY, AuditFilter, head_position
from indexer.store.listing.feeds import stream_entries
from indexer.store.pool import Pool
from tests.fixtures.asking import TOKEN, Api
from tests.fixtures.everything import fill
from tests.fixtures.feeding import write_log

FEED = "/api/v1/feed"

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no bell rings, look again soon."""
    monkeypatch.setattr(room, "KEEP_ALIVE_SECONDS", 0.1)


def tags(count: int, *, repository: str = "team/app") -> list[str]:
    return [f"{repository}:v{number}" for number in range(count)]


@asynccontextmanager
async def stream(
    api: Api, headers: dict[str, str] | None = None, *, from_: Any = None, **query: Any
) -> AsyncIterator[ClientResponse]:
    query |= {"from": from_}
    response = await api.get(FEED, headers={**SSE, **(headers or {})}, **query)
    assert (response.status, "text/event-stream") == (200, response.content_type), await response.text()
    try:
        yield response
    finally:
        response.close()


async def block(response: ClientResponse) -> dict[str, str]:
    """The next block of a stream, up to its empty line."""
    found: dict[str, str] = {}
    async with asyncio.timeout(60):
        while (line := (await response.content.readline()).decode().rstrip("\n")) != "":
            name, _, value = line.partition(":")
            found[name] = value.removeprefix(" ")
    return found


async def events(response: ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        read = await block(response)
        if "data" in read:
            event = json.loads(read["data"])
            assert read["id"].rpartition("/")[0] == event["id"]
            event["mark"] = read["id"]
            found.append(event)
    return found


async def test_page__is_in_the_logs_order(api: Api) -> None:
    """From any position, as many as asked for; ``next`` goes on without a gap, and at the end nothing comes."""
    await write_log(api.pool, *tags(25))
    found: list[int] = []
    position: Any = "beginning"
    for _ in range(4):
        page = await api.json(FEED, limit=10, **{"from": position})
        found += [int(event["sequence"]) for event in page["items"]]
        position = page["next"]
    assert (list(range(1, 26)), 26) == (found, position)
    assert {"items": [], "next": 26} == await api.json(FEED)


async def test_page__is_lines_where_asked_for(api: Api) -> None:
    """NDJSON has the same events, and where to go on in a link."""
    await write_log(api.pool, *tags(3))
    response = await api.get(FEED, headers={"Accept": "application/x-ndjson"}, **{"from": 2})
    page = await api.json(FEED, **{"from": 2})
    assert "application/x-ndjson" == response.content_type
    assert page["items"] == [json.loads(line) for line in (await response.read()).splitlines()]
    assert '<?from=4>; rel="next"' == response.headers["Link"]


async def test_page__passes_over_what_is_filtered_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at a bounded number of entries: it may be empty, and still lead on to what fits."""
    monkeypatch.setattr(room, "WINDOW", 2)
    monkeypatch.setattr(room, "WINDOWS", 3)
    await write_log(api.pool, *tags(15), "team/other:v1")
    seen: list[str] = []
    position: Any = "beginning"
    for _ in range(3):
        page = await api.json(FEED, repository="team/other", **{"from": position})
        seen += [event["subject"] for event in page["items"]]
        position = page["next"]
    assert (["team/other:v1"], 17) == (seen, position)


async def test_page__filters(api: Api) -> None:
    """The filters of the audit log, each of them, and together."""
    await write_log(api.pool, "team/app:a", "team/other:b", "teamwork:a")
    await write_log(api.pool, "team/app:a", action="tag.moved", source="walk")
    for query, expected in (
        ({"prefix": "team/"}, [1, 2, 4]),
        ({"prefix": "tea"}, [1, 2, 3, 4]),
        ({"repository": "team/app"}, [1, 4]),
        ({"repository": "team"}, []),
        ({"tag": "a", "source": "notification"}, [1, 3]),
        ({"source": "reconcile"}, [4]),
        ({"action": "tag.moved"}, [4]),
        ({"prefix": "team/", "tag": "b"}, [2]),
        ({"after_time": "2000-01-01T00:00:00Z", "before_time": "2001-01-01T00:00:00Z"}, []),
    ):
        page = await api.json(FEED, **{"from": "beginning"}, **query)
        assert expected == [int(event["sequence"]) for event in page["items"]], query
        assert 5 == page["next"]


async def test_page__waits_for_something_new(api: Api) -> None:
    """A long poll ends with the first event that fits, and not before."""
    await write_log(api.pool, *tags(1))
    asked = asyncio.create_task(api.json(FEED, wait="60s", repository="team/other", **{"from": 2}))
    await write_log(api.pool, *tags(2), "team/other:v1")
    async with asyncio.timeout(59):
        page = await asked
    assert (["team/other:v1"], 5) == ([event["subject"] for event in page["items"]], page["next"])


async def test_stream__shows_what_was_and_what_comes(api: Api) -> None:
    """Everything behind the position, then what is sealed while the stream is open, each once and in order."""
    await write_log(api.pool, *tags(300))
    async with stream(api, from_=3) as response:
        assert [*range(3, 301)] == [int(event["sequence"]) for event in await events(response, 298)]
        for number in range(3):
            await write_log(api.pool, f"team/app:new{number}")
            [event] = await events(response, 1)
            assert f"team/app:new{number}" == event["subject"]


async def test_stream__is_taken_up_again(api: Api) -> None:
    """``Last-Event-ID`` goes on behind the event, whatever ``from`` says: that is how browsers come again."""
    await write_log(api.pool, *tags(5))
    async with stream(api, from_="beginning") as response:
        [*_, last] = await events(response, 3)
    for mark in (last["mark"], last["id"]):
        async with stream(api, {"Last-Event-ID": mark}, from_="beginning") as response:
            assert [4, 5] == [int(event["sequence"]) for event in await events(response, 2)]


@pytest.mark.parametrize("went_on", [0, 2, 9])
async def test_stream__is_not_taken_up_in_a_log_that_was_put_back(api: Api, went_on: int) -> None:
    """What a client has of the lost history is no place in the one that followed, however long that is."""
    await write_log(api.pool, *tags(5))
    async with stream(api, from_="beginning") as response:
        marks = [(await block(response))["id"]] + [event["mark"] for event in await events(response, 5)]
    await api.pool.execute(
        "DELETE FROM audit_entry WHERE position > 2; UPDATE audit_log_head SET position = 2; "
        "UPDATE audit_tile SET hashes = substr(hashes, 1, 64)"
    )
    await write_log(api.pool, *tags(went_on, repository="team/other"))
    answers = [await api.get(FEED, headers={**SSE, "Last-Event-ID": mark}) for mark in marks]
    assert [200] * 3 + [409] * 3 == [answer.status for answer in answers]
    assert "another_log" == (await answers[-1].json(content_type=None))["code"]
    for answer in answers:
        answer.close()


async def test_stream__marks_are_those_of_the_tree(api: Api) -> None:
    """Whoever reads what is new, the database for one stream or one for all, each entry has one mark."""
    await write_log(api.pool, *tags(5))
    async with stream(api, from_="beginning") as old, stream(api) as new:
        await block(new)
        await write_log(api.pool, *tags(3))
        both = [(await events(old, 8))[5:], await events(new, 3)]
    assert both[0] == both[1]
    async with stream(api, from_="beginning") as again:
        assert both[0] == (await events(again, 8))[5:]


async def test_stream__its_id_moves_over_what_is_filtered_out(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments keep a silent stream alive, and carry the id from which to go on."""
    monkeypatch.setattr(room, "KEEP_ALIVE_SECONDS", 0.05)
    await write_log(api.pool, *tags(7))
    async with stream(api, repository="team/other", from_="beginning") as response:
        assert "2000" == (await block(response))["retry"]
        kept = await block(response)
    assert "/00000000000000000007/" in kept["id"]
    assert "data" not in kept


@pytest.mark.parametrize(
    ("last", "status", "code"),
    [
        ("00000000-0000-4000-8000-000000000000/00000000000000000001", 409, "another_log"),
        ("1", 400, "invalid_parameter"),
        ("{log}/2", 400, "invalid_parameter"),
        ("{log}/00000000000000000099", 400, "invalid_parameter"),
    ],
)
async def test_stream__an_id_that_is_none_is_refused(api: Api, last: str, status: int, code: str) -> None:
    """An id of another log, of no event, or beyond the end would go on at the wrong place without a word."""
    await write_log(api.pool, *tags(2))
    log = await api.pool.fetchval("SELECT id FROM audit_log_identity")
    response = await api.get(FEED, headers={**SSE, "Last-Event-ID": last.format(log=log)})
    problem = await response.json(content_type=None)
    assert (status, code) == (response.status, problem["code"])


@pytest.mark.parametrize(
    "query",
    [{"from": "0"}, {"from": "then"}, {"from": "99"}, {"wait": "61s"}, {"wait": "30"}, {"limit": "0"}, {"from_": "1"}],
    ids=str,
)  # fmt: skip
async def test_feed__a_wrong_question_is_refused(api: Api, query: dict[str, str]) -> None:
    """Each is named, also one that only differs from a parameter by our own name for it."""
    problem = await api.problem(FEED, 400, **query)
    assert next(iter(query)) == problem["parameter"]


async def test_feed__is_for_who_may_read_the_log(api: Api) -> None:
    """Without a token there is nothing."""
    assert 401 == (await api.client.get(FEED)).status


@asynccontextmanager
async def small(pool: Pool, notifier: SealNotifier, places: int) -> AsyncIterator[Api]:
    app = web.Application()
    settings = ApiSettings(api_tokens=frozenset({TOKEN}), streams=places, connections=2)
    add_api(app, pool=pool, settings=settings, sealed=notifier)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield Api(client, pool)


async def test_stream__their_number_is_bounded(pool: Pool) -> None:
    """Who finds no place is told to come later; a place is free again when a client goes, and pages need none."""
    async with small(pool, SealNotifier(), 2) as api:
        async with stream(api) as first, stream(api) as second:
            await asyncio.gather(block(first), block(second))
            refused = await api.get(FEED, headers=SSE)
            assert (503, "too_many_streams") == (
                refused.status,
                (await refused.json(content_type=None))["code"],
            )
            assert "Retry-After" in refused.headers
            await api.json(FEED)
        await write_log(pool, "team/app:v1")
        async with asyncio.timeout(60):
            while (again := await api.get(FEED, headers=SSE, **{"from": "beginning"})).status != 200:
                await asyncio.sleep(0.05)
            assert 1 == len(await events(again, 1))
            again.close()


async def test_stream__is_woken_by_the_bell(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would look again by himself here: what is sealed arrives because the sealer's bell rings."""
    monkeypatch.setattr(room, "KEEP_ALIVE_SECONDS", 3600.0)
    notifier = SealNotifier()
    async with small(pool, notifier, 2) as api, stream(api) as response:
        await block(response)
        for number in range(5):
            await write_log(pool, f"team/app:{number}")
            notifier.wake()
            assert [f"team/app:{number}"] == [event["subject"] for event in await events(response, 1)]


async def test_stream__those_that_have_caught_up_share_one_reading(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new is read once for all of them, each gets what its filter leaves; nobody reads it for himself."""
    notifier = SealNotifier()
    async with small(pool, notifier, 10) as api, AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(stream(api, tag=tag))
            for tag in ("a", "b", None, "a")
            for _ in range(2)
        ]
        for response in opened:
            await block(response)
        await api.json(FEED)
        reads = 0

        async def refused(*_: Any) -> None:
            nonlocal reads
            reads += 1
            raise AssertionError

        monkeypatch.setattr(room, "_read", refused)
        for _ in range(3):
            await write_log(pool, "team/app:a", "team/app:b", "team/app:c")
            notifier.wake()
            found = [await events(response, 3 if n in (4, 5) else 1) for n, response in enumerate(opened)]
            seen = ["".join(event["subject"][-1] for event in each) for each in found]
            assert ["a", "a", "b", "b", "abc", "abc", "a", "a"] == seen
        assert 0 == reads


async def test_fits__leaves_what_the_database_leaves(pool: Pool) -> None:
    """The filter of entries in memory and that of the database agree, on every value there is and on others."""
    await fill(pool)
    while await seal(pool, limit=1000):
        pass
    async with pool.acquire() as held:
        head = await head_position(held)
        everything = {"after": 0, "until": head, "limit": 1000}
        entries = [show_entry(row) for row in await stream_entries(held, wanted=EVERY_ENTRY, **everything)]
        assert len(entries) > 10
        values: dict[str, set[Any]] = {
            "repositories": {entry["repository"] for entry in entries},
            "prefix": {(entry["repository"] or "x")[:end] for entry in entries for end in (1, 3, 40)},
            "tag": {entry["tag"] for entry in entries},
            "digest": {entry["digest"] for entry in entries},
            "actions": {entry["action"] for entry in entries},
            "actor": {entry["actor"]["name"] for entry in entries if entry["actor"]},
            "sources": {entry["source"] for entry in entries},
            "address": {entry["request"]["address"] for entry in entries if entry["request"]},
            "occurred_after": {parse_time(entry["occurred_at"]) for entry in entries},
            "occurred_before": {parse_time(entry["occurred_at"]) for entry in entries},
        }
        for name in ("repositories", "prefix", "tag", "actor", "address"):
            values[name].add("nobody")
        several = ("repositories", "actions", "sources")
        singles: list[dict[str, Any]] = [
            {name: (value,) if name in several else value}
            for name, found in values.items()
            for value in found
            if value is not None
        ]
        singles += [{name: tuple(values[name] - {None})[:2]} for name in several]
        pairs = [a | b for a, b in zip(singles, singles[7:] + singles[:7], strict=True)]
        for asked in (*singles, *pairs):
            wanted = AuditFilter(**asked)
            rows = await stream_entries(held, wanted=wanted, **everything)
            expected = [row["position"] for row in rows]
            assert expected == [entry["position"] for entry in entries if fits(entry, wanted)], asked


async def test_stream__ends_with_the_server(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops does not wait for clients who never go: streams and polls come to their end."""
    monkeypatch.setattr(room, "KEEP_ALIVE_SECONDS", 3600.0)
    app = web.Application()
    add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({TOKEN}), connections=2))
    server = TestServer(app, host="127.0.0.1")
    async with TestClient(server) as client:
        api = Api(client, pool)
        async with stream(api) as response:
            await block(response)
            poll = asyncio.create_task(api.json(FEED, wait="60s"))
            async with asyncio.timeout(60):
                while places_taken() < 2:
                    await asyncio.sleep(0.01)
                await app.shutdown()
                assert b"" == await response.content.read()
                assert [] == (await poll)["items"]


def places_taken() -> int:
    """How many places are taken, as the metric shows it."""
    return int(STREAMS._value.get())


async def test_stream__a_client_that_takes_nothing_is_cut_off(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is free again: a write that does not get on is given up."""
    monkeypatch.setattr(long_bodies, "WRITE_WITHIN_SECONDS", 0.2)
    await write_log(api.pool, *(f"team/app:{number:0128}" for number in range(6000)))
    before = places_taken()
    request = (
        f"GET {FEED}?from=beginning HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((api.client.server.host, api.client.server.port))
        client.sendall(request.encode())
        async with asyncio.timeout(60):
            while places_taken() <= before:
                await asyncio.sleep(0.005)
            while places_taken() > before:
                await asyncio.sleep(0.05)

"""Feeds to a real HTTP server that fails in every way: at least once, in order, with ids that never change."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from indexer.background import service as harness
from indexer.background.loop import IterationResult, WakeEvent
from indexer.background.service import Service
from indexer.common.errors import Postponed
from indexer.feeds import dispatcher as room
from indexer.feeds.dispatcher import Dispatcher
from indexer.feeds.http import signature_headers, signing_key
from indexer.store import feeds
from indexer.store.pool import Pool
from tests.fixtures.feeding import Collector, MakeFeed, deliver_all, write_log
from tests.fixtures.sinks import Certificates

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def tags(count: int) -> list[str]:
    return [f"team/app:v{number}" for number in range(count)]


async def row_of(pool: Pool, name: str = "siem") -> Any:
    return await pool.fetchrow("SELECT * FROM feed WHERE name = $1", name)


async def test_feed__delivers_everything_once_and_in_order(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """Every entry is an event, in the log's order, whatever the size of batches; the cursor is where the log ends."""
    await write_log(pool, *tags(25))
    await deliver_all(pool, make_feed(kind="http", url=collector.url, batch=10))
    identity = await pool.fetchval("SELECT id FROM audit_log_identity")
    assert [f"{identity}/{position:020}" for position in range(1, 26)] == [e["id"] for e in collector.events]
    assert tags(25) == [e["subject"] for e in collector.events]
    row = await row_of(pool)
    assert (25, 25, 0) == (row["position"], row["delivered"], row["attempts"])
    assert [10, 10, 5] == [len(json.loads(body)) for _, body in collector.requests]


async def test_feed__from_now_leaves_out_what_was_before(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """By default a new feed begins with what happens next."""
    await write_log(pool, *tags(3))
    feed = make_feed(kind="http", url=collector.url, **{"from": "now"})
    await deliver_all(pool, feed)
    await write_log(pool, "team/app:new")
    await deliver_all(pool, feed)
    assert [4] == collector.positions


async def test_feed__filters(pool: Pool, collector: Collector, make_feed: MakeFeed) -> None:
    """Actions, sources and prefixes of repositories must all fit; the cursor passes over the rest."""
    await write_log(pool, "team/app:a", "team/other:b", "teamwork:c")
    await write_log(pool, "team/app:d", action="tag.moved")
    await write_log(pool, "team/app:e", action="tag.deleted")
    await write_log(pool, "team/app:f", action="tag.moved", source="walk")
    await deliver_all(
        pool,
        make_feed(
            kind="http", url=collector.url, repositories=["team/", "x"], actions=["tag.moved", "tag.created"],
            sources=["notification"],
        ),
    )  # fmt: skip
    assert [1, 2, 4] == collector.positions
    assert (await row_of(pool))["position"] == 6


async def test_http__structured_mode_is_an_event_a_request(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """One event each, as a CloudEvent alone; the cursor moves with each."""
    await write_log(pool, *tags(3), "team/other:a", *tags(3))
    feed = make_feed(kind="http", url=collector.url, format="cloudevents", repositories=["team/app"])
    collector.answer = lambda events: (
        web.Response(status=503) if events[0]["sequence"].endswith("5") else None
    )
    with pytest.raises(Postponed, match="503"):
        await feed.run_once()
    assert ([1, 2, 3], 4) == (collector.positions, (await row_of(pool))["position"])
    collector.answer = lambda _: None
    await deliver_all(pool, feed)
    assert [1, 2, 3, 5, 6, 7] == collector.positions
    assert {"application/cloudevents+json; charset=utf-8"} == {
        h["Content-Type"] for h, _ in collector.requests
    }


async def test_feed__is_cut_by_bytes(pool: Pool, collector: Collector, make_feed: MakeFeed) -> None:
    """A batch holds no more bytes than it may, and at least one event."""
    await write_log(pool, *tags(4))
    await deliver_all(pool, make_feed(kind="http", url=collector.url, batch_bytes=1))
    assert [1, 1, 1, 1] == [len(json.loads(body)) for _, body in collector.requests]
    assert [1, 2, 3, 4] == collector.positions


async def test_http__is_signed_and_authorized(
    pool: Pool, collector: Collector, make_feed: MakeFeed, tmp_path: Path
) -> None:
    """Each request proves itself by Standard Webhooks over the very bytes, and by the header of the file."""
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    (tmp_path / "authorization").write_text("Splunk a-token-of-the-test\n", encoding="utf-8")
    await write_log(pool, *tags(2))
    await deliver_all(
        pool,
        make_feed(
            kind="http", url=collector.url,
            secret_file=tmp_path / "secret", authorization_file=tmp_path / "authorization",
        ),
    )  # fmt: skip
    headers, body = collector.requests[0]
    expected = signature_headers(
        headers["webhook-id"],
        body,
        keys=[signing_key(SECRET)],
        now=datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC),
    )
    assert dict(expected) == {name: headers[name] for name in expected}
    assert "Splunk a-token-of-the-test" == headers["Authorization"]


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405, 408, 429, 500, 503])
async def test_http__what_is_about_us_gives_nothing_up(
    pool: Pool, collector: Collector, make_feed: MakeFeed, status: int
) -> None:
    """The feed fails and says why, no entry dies, no redirect is followed; all arrives once it is mended."""
    headers = {"Location": collector.url + "/elsewhere"} if status < 400 else {}
    collector.answer = lambda _: web.Response(status=status, headers=headers)
    await write_log(pool, *tags(3))
    feed = make_feed(kind="http", url=collector.url)
    with pytest.raises(Postponed, match=f"the sink answers {status}"):
        await feed.run_once()
    assert (await row_of(pool))["attempts"] == 1
    collector.answer = lambda _: None
    await deliver_all(pool, feed)
    assert [1, 2, 3] == collector.positions
    assert 0 == await pool.fetchval("SELECT count(*) FROM feed_dead_letter")


async def test_http__no_answer_in_time_is_no_answer(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """A sink that hangs is given up after the feed's own time, and asked again."""
    collector.held = asyncio.Event()
    await write_log(pool, *tags(2))
    feed = make_feed(kind="http", url=collector.url, timeout="100ms")
    with pytest.raises(Postponed, match=r"no answer within 0\.1 s"):
        await feed.run_once()
    collector.held.set()
    collector.held = None
    await deliver_all(pool, feed)
    assert {1, 2} == set(collector.positions)


async def test_http__comes_again_when_the_sink_asked(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """``Retry-After`` outlasts our own wait, and the process: another one keeps it, too."""
    collector.answer = lambda _: web.Response(status=429, headers={"Retry-After": "600"})
    await write_log(pool, *tags(1))
    feed = make_feed(kind="http", url=collector.url)
    for _ in range(3):
        with pytest.raises(Postponed, match="429"):
            await feed.run_once()
    await feed.close()
    with pytest.raises(Postponed, match="failed 1 times: the sink answers 429"):
        await make_feed(kind="http", url=collector.url).run_once()
    assert 1 == len(collector.requests)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_http__what_is_refused_is_found_and_set_aside(
    pool: Pool, collector: Collector, make_feed: MakeFeed, status: int
) -> None:
    """The bad ones become dead letters with the sink's words; all others arrive, in order."""
    bad = {3, 4, 17}
    collector.answer = lambda events: (
        web.Response(status=status, text="no good") if bad & {int(e["sequence"]) for e in events} else None
    )
    await write_log(pool, *tags(20))
    feed = make_feed(kind="http", url=collector.url)
    await deliver_all(pool, feed)
    assert [n for n in range(1, 21) if n not in bad] == collector.positions
    async with pool.acquire() as held:
        letters = await feeds.list_dead_letters(held, name="siem", after=0, limit=10)
    assert sorted(bad) == [letter.position for letter in letters]
    assert {f"the sink answers {status}: 'no good'"} == {letter.reason for letter in letters}


async def test_dead_letters__are_tried_again_when_asked(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """What the sink takes now is dead no longer; what it refuses again stays, and is not tried for ever."""
    collector.answer = lambda events: (
        web.Response(status=422) if {2, 4} & {int(e["sequence"]) for e in events} else None
    )
    await write_log(pool, *tags(5))
    feed = make_feed(kind="http", url=collector.url)
    await deliver_all(pool, feed)
    collector.answer = lambda events: (
        web.Response(status=422) if events[0]["sequence"].endswith("4") else None
    )
    async with pool.acquire() as held:
        assert 2 == await feeds.retry_dead_letters(held, name="siem", positions=None)
    await deliver_all(pool, feed)
    assert [1, 3, 5, 2] == collector.positions
    async with pool.acquire() as held:
        letters = await feeds.list_dead_letters(held, name="siem", after=0, limit=10)
    assert [(4, False)] == [(letter.position, letter.retry_requested) for letter in letters]


async def dead_letter(pool: Pool, collector: Collector, feed: Dispatcher) -> None:
    """Let the second of five entries become a dead letter, and ask that it be tried again."""
    collector.answer = lambda events: (
        web.Response(status=422) if 2 in {int(e["sequence"]) for e in events} else None
    )
    await write_log(pool, *tags(5))
    await deliver_all(pool, feed)
    async with pool.acquire() as held:
        assert 1 == await feeds.retry_dead_letters(held, name="siem", positions=None)


async def test_dead_letters__one_without_an_answer_holds_up_nothing(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """What is new is delivered though the sink chokes on a dead letter, which waits by itself, and is then let be."""
    feed = make_feed(kind="http", url=collector.url)
    await dead_letter(pool, collector, feed)
    collector.answer = lambda events: (
        web.Response(status=500) if 2 in {int(e["sequence"]) for e in events} else None
    )
    await write_log(pool, *(f"team/app:w{number}" for number in range(3)))
    await feed.run_once()
    assert [1, 3, 4, 5, 6, 7, 8] == collector.positions
    row = await row_of(pool)
    assert (0, None) == (row["attempts"], row["retry_at"])
    letter = await pool.fetchrow(
        "SELECT attempts, retry_requested, retry_at > now() AS later FROM feed_dead_letter"
    )
    assert letter is not None
    assert (1, True) == (letter["attempts"], letter["retry_requested"])
    await deliver_all(pool, feed)
    letter = await pool.fetchrow("SELECT attempts, retry_requested, reason FROM feed_dead_letter")
    assert letter is not None
    assert not letter["retry_requested"]
    assert f"tried {room.DEAD_ATTEMPTS} times in vain" in letter["reason"]


async def test_dead_letters__a_sink_that_is_away_is_not_asked_for_each_of_them(
    pool: Pool, collector: Collector, make_feed: MakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that gets no answer ends it for the round, and the round is followed by a rest."""
    collector.answer = lambda _: web.Response(status=422)
    await write_log(pool, *tags(5))
    feed = make_feed(kind="http", url=collector.url)
    await deliver_all(pool, feed)
    async with pool.acquire() as held:
        assert 5 == await feeds.retry_dead_letters(held, name="siem", positions=None)
    collector.answer = lambda _: web.Response(status=503)
    monkeypatch.setattr(room, "FIRST_WAIT_SECONDS", 600.0)
    monkeypatch.setattr(room, "LONGEST_WAIT_SECONDS", 600.0)
    before = len(collector.requests)
    round_ = await feed.run_once()
    assert (1, room.REST_SECONDS) == (len(collector.requests) - before, round_.rest_seconds)


async def test_feed__a_defect_of_a_sink_is_counted_and_waited_for(
    pool: Pool, collector: Collector, make_feed: MakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails is an attempt, is said, and is followed by a wait."""
    await write_log(pool, *tags(1))
    feed = make_feed(kind="http", url=collector.url)

    async def broken(*_given: Any, **_named: Any) -> None:
        raise KeyError("sequence")

    with monkeypatch.context() as defect:
        defect.setattr(feed._sink, "deliver", broken)
        with pytest.raises(Postponed, match="a defect here: KeyError"):
            await feed.run_once()
    row = await row_of(pool)
    assert (1, "a defect here: KeyError: 'sequence'") == (row["attempts"], row["last_error"])
    assert row["retry_at"] is not None
    await deliver_all(pool, feed)
    assert [1] == collector.positions


async def test_http__a_sink_that_refuses_everything_is_stopped(
    pool: Pool, collector: Collector, make_feed: MakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses us and not the entries: the feed waits for an operator before the whole log has died."""
    monkeypatch.setattr(room, "REFUSED_IN_A_ROW", 5)
    collector.answer = lambda _: web.Response(status=400)
    await write_log(pool, *tags(50))
    feed = make_feed(kind="http", url=collector.url)
    await deliver_all(pool, feed)
    row = await row_of(pool)
    assert (5, 5) == (row["position"], await pool.fetchval("SELECT count(*) FROM feed_dead_letter"))
    assert "5 entries in a row were refused" in row["stopped"]
    collector.answer = lambda _: None
    async with pool.acquire() as held:
        await feeds.retry_dead_letters(held, name="siem", positions=None)
    await deliver_all(pool, feed)
    assert [*range(6, 51), *range(1, 6)] == collector.positions


async def test_http__gone_stops_until_an_operator_replays(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """410 is "never again": nothing more is sent, and a replay without a position goes on where it stopped."""
    await write_log(pool, *tags(2))
    feed = make_feed(kind="http", url=collector.url)
    await deliver_all(pool, feed)
    collector.answer = lambda _: web.Response(status=410)
    await write_log(pool, *tags(2))
    for expected in ("410", "stopped until `indexer feeds replay siem`"):
        with pytest.raises(Postponed, match=expected):
            await feed.run_once()
    assert 2 == len(collector.requests)
    collector.answer = lambda _: None
    async with pool.acquire() as held:
        assert 2 == await feeds.replay_feed(held, name="siem", after=None)
    await deliver_all(pool, feed)
    assert [1, 2, 3, 4] == collector.positions


async def test_replay__delivers_again_with_the_same_ids(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """From any position; what arrives twice is the same event to the byte."""
    await write_log(pool, *tags(10))
    feed = make_feed(kind="http", url=collector.url)
    await deliver_all(pool, feed)
    async with pool.acquire() as held:
        await feeds.replay_feed(held, name="siem", after=6)
    await deliver_all(pool, feed)
    assert [*range(1, 11), *range(7, 11)] == collector.positions
    assert collector.events[6:10] == collector.events[10:]


async def test_http__cut_off_after_it_was_taken(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """An answer that does not arrive is no answer: the batch is sent again, with its old ids."""
    collector.cut = 2
    await write_log(pool, *tags(5))
    await deliver_all(pool, make_feed(kind="http", url=collector.url, batch=3))
    assert [1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5] == collector.positions
    assert 5 == len({event["id"] for event in collector.events})


@pytest.mark.parametrize("seed", range(4))
async def test_http__under_any_faults_complete_and_in_order(
    pool: Pool, collector: Collector, make_feed: MakeFeed, seed: int
) -> None:
    """503, cut connections, refusals and processes that end anywhere, by chance: every entry arrives or is dead.

    What arrives first arrives in the log's order, and what is repeated is the same to the byte.
    """
    chance = random.Random(seed)
    bad = {number for number in range(1, 121) if chance.random() < 0.05}

    def answer(events: list[dict[str, Any]]) -> web.Response | None:
        if bad & {int(event["sequence"]) for event in events}:
            return web.Response(status=422)
        collector.cut = 1 if chance.random() < 0.2 else 0
        return web.Response(status=503) if chance.random() < 0.2 else None

    collector.answer = answer
    await write_log(pool, *tags(120))
    feed = make_feed(kind="http", url=collector.url, batch=9)
    for _ in range(60):
        round_ = asyncio.create_task(feed.run_once())
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.02)
            round_.cancel()
        await asyncio.gather(round_, return_exceptions=True)
    await deliver_all(pool, feed)
    expected = [number for number in range(1, 121) if number not in bad]
    assert expected == list(dict.fromkeys(collector.positions))
    assert len(expected) == len({json.dumps(event) for event in collector.events})
    assert bad == {row["position"] for row in await pool.fetch("SELECT position FROM feed_dead_letter")}


async def test_feed__a_slow_sink_delays_no_other(
    pool: Pool, collector: Collector, make_feed: MakeFeed, tmp_path: Path
) -> None:
    """While one sink holds its answer back another feed gets to the end of the log."""
    collector.held = asyncio.Event()
    await write_log(pool, *tags(30))
    slow = make_feed(name="slow", kind="http", url=collector.url, timeout="20s")
    stuck = asyncio.create_task(slow.run_once())
    await deliver_all(pool, make_feed(kind="file", path=tmp_path / "out", batch=7))
    assert (30, 0) == ((await row_of(pool))["position"], (await row_of(pool, "slow"))["position"])
    collector.held.set()
    assert 30 == (await stuck).items


async def test_feed__is_worked_by_one_process_at_a_time(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """A second process waits while the lease lasts, and goes on where the first got to once it has ended."""
    await write_log(pool, *tags(4))
    first, second = (
        make_feed(kind="http", url=collector.url, batch=2),
        make_feed(kind="http", url=collector.url),
    )
    await first.run_once()
    assert 0 == (await second.run_once()).items
    await pool.execute("UPDATE feed SET lease_until = '-infinity'")  # as when the first was killed
    await deliver_all(pool, second)
    assert 0 == (await first.run_once()).items
    assert [1, 2, 3, 4] == collector.positions


async def test_feed__a_cursor_that_moved_meanwhile_is_read_again(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """A replay during a delivery wins over the delivery's own move."""
    collector.held = asyncio.Event()
    await write_log(pool, *tags(3))
    feed = make_feed(kind="http", url=collector.url)
    under_way = asyncio.create_task(feed.run_once())
    async with asyncio.timeout(60):
        while not collector.requests:
            await asyncio.sleep(0.005)
    async with pool.acquire() as held:
        await feeds.replay_feed(held, name="siem", after=1)
    collector.held.set()
    assert 0 == (await under_way).items
    await deliver_all(pool, feed)
    assert [1, 2, 3, 2, 3] == collector.positions


async def test_feed__interrupted_between_delivery_and_cursor_repeats_the_same(
    pool: Pool, collector: Collector, make_feed: MakeFeed
) -> None:
    """What the sink took and the cursor does not show is delivered again, with the same ids, and nothing is missing."""
    collector.held = asyncio.Event()
    await write_log(pool, *tags(3))
    feed = make_feed(kind="http", url=collector.url)
    under_way = asyncio.create_task(feed.run_once())
    async with asyncio.timeout(60):
        while not collector.requests:
            await asyncio.sleep(0.005)
    under_way.cancel()
    await asyncio.gather(under_way, return_exceptions=True)
    collector.held.set()
    await deliver_all(pool, feed)
    assert [1, 2, 3] == sorted({int(event["sequence"]) for event in collector.events})
    assert 3 == len({event["id"] for event in collector.events})


async def test_feed__removed_is_forgotten(pool: Pool, collector: Collector, make_feed: MakeFeed) -> None:
    """Its row and its dead letters are gone."""
    collector.answer = lambda _: web.Response(status=400)
    await write_log(pool, *tags(1))
    await deliver_all(pool, make_feed(kind="http", url=collector.url))
    async with pool.acquire() as held:
        assert await feeds.remove_feed(held, name="siem")
        assert not await feeds.remove_feed(held, name="siem")
    assert 0 == await pool.fetchval("SELECT count(*) FROM feed_dead_letter")


async def test_http__over_tls_with_a_certificate_of_ours(
    pool: Pool, collector: Collector, make_feed: MakeFeed, certificates: Certificates
) -> None:
    """The sink's certificate is verified by the operator's authority, and ours by the sink."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.router.add_post("/events", collector.receive)
    await write_log(pool, *tags(2))
    server = TestServer(app, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=context)
    try:
        table = {"kind": "http", "url": f"https://localhost:{server.port}/events"}
        ours = {"certificate_file": certificates.certificate, "key_file": certificates.key}
        with pytest.raises(Postponed, match="CERTIFICATE_VERIFY_FAILED"):
            await make_feed(name="strangers", **table, **ours).run_once()
        with pytest.raises(Postponed, match="no answer"):
            await make_feed(name="nobody", **table, ca_file=certificates.ca).run_once()
        assert [] == collector.positions
        known = make_feed(**table, **ours, ca_file=certificates.ca)
        await deliver_all(pool, known)
        await known.close()
    finally:
        await server.close()
    assert [1, 2] == collector.positions


async def test_feed__a_seal_wakes_it_unless_it_gives_the_sink_time(
    pool: Pool, collector: Collector, make_feed: MakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a sink is given time new entries change nothing; the harness comes again when the time is over."""
    feed = make_feed(kind="http", url=collector.url)
    feed.wake()
    async with asyncio.timeout(60):
        await feed.alarm.wait(3600)
    monkeypatch.setattr(room, "FIRST_WAIT_SECONDS", 3600.0)
    monkeypatch.setattr(room, "LONGEST_WAIT_SECONDS", 3600.0)
    collector.answer = lambda _: web.Response(status=503)
    await write_log(pool, *tags(1))
    with pytest.raises(Postponed) as told:
        await feed.run_once()
    assert room.LONGEST_REST_SECONDS == told.value.rest_seconds
    feed.wake()
    assert not feed.alarm._event.is_set()


async def test_harness__comes_again_when_a_round_said(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that fails and says when to come again is repeated then, and not after the harness's own wait."""
    monkeypatch.setattr(harness, "FIRST_WAIT_SECONDS", 3600.0)
    monkeypatch.setattr(harness, "LONGEST_WAIT_SECONDS", 3600.0)
    again = asyncio.Event()

    class Failing:
        name = "failing"
        rounds = 0

        async def run_once(self) -> IterationResult:
            self.rounds += 1
            if self.rounds > 1:
                again.set()
                return IterationResult(items=0, rest_seconds=3600)
            raise Postponed("not yet", rest_seconds=0.01)

    service = Service(pool, program="tests")
    service.start(Failing(), WakeEvent())
    async with asyncio.timeout(60):
        await again.wait()
    await service.stop()

"""Feeds to a real NATS server: each entry once in the stream, in order, through restarts and replays."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from indexer.common.errors import Postponed
from indexer.store import feeds
from indexer.store.pool import Pool
from tests.fixtures.feeding import MakeFeed, deliver_all, write_log
from tests.fixtures.nats import looking
from tests.fixtures.sinks import Server

StartNats = Callable[..., Server]


def tags(count: int) -> list[str]:
    return [f"team/app:v{number}" for number in range(count)]


async def make_stream(server: Server, **config: Any) -> None:
    async with looking(server) as stream:
        await stream.add_stream(name="AUDIT", subjects=["registry.audit.>"], **config)


async def stored(server: Server, **options: Any) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """Subject, headers and event of all that the stream holds, in its order."""
    async with looking(server, **options) as stream:
        state = (await stream.stream_info("AUDIT")).state
        found = []
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await stream.get_msg("AUDIT", sequence)
            found.append((message.subject or "", message.headers or {}, json.loads(message.data or b"")))
        return found


def sequences(messages: list[tuple[str, dict[str, str], dict[str, Any]]]) -> list[int]:
    return [int(event["sequence"]) for _, _, event in messages]


def url(server: Server) -> list[str]:
    return [f"nats://127.0.0.1:{server.port}"]


async def test_nats__each_entry_is_a_message(pool: Pool, make_feed: MakeFeed, start_nats: StartNats) -> None:
    """In order, under the subject of its action, with the event's id as the message's."""
    server = start_nats()
    await make_stream(server)
    await write_log(pool, *tags(30))
    await write_log(pool, "team/app:v1", action="tag.moved")
    await deliver_all(pool, make_feed(kind="nats", servers=url(server), batch=8))
    messages = await stored(server)
    assert list(range(1, 32)) == sequences(messages)
    subject, headers, event = messages[-1]
    assert "registry.audit.tag.moved" == subject
    assert event["id"] == headers["Nats-Msg-Id"]
    assert headers["Content-Type"].startswith("application/cloudevents+json")


async def test_nats__what_is_sent_again_is_dropped_by_the_stream(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats
) -> None:
    """A process that ended before the cursor moved: the stream recognises every message."""
    server = start_nats()
    await make_stream(server)
    await write_log(pool, *tags(20))
    feed = make_feed(kind="nats", servers=url(server), batch=8)
    await deliver_all(pool, feed)
    await pool.execute("UPDATE feed SET position = 3")
    await deliver_all(pool, feed)
    assert list(range(1, 21)) == sequences(await stored(server))


async def test_nats__a_replay_is_not_dropped(pool: Pool, make_feed: MakeFeed, start_nats: StartNats) -> None:
    """An operator who replays wants the entries again: as new messages, with the events' own ids."""
    server = start_nats()
    await make_stream(server)
    await write_log(pool, *tags(4))
    feed = make_feed(kind="nats", servers=url(server))
    await deliver_all(pool, feed)
    async with pool.acquire() as held:
        await feeds.replay_feed(held, name="siem", after=2)
    await deliver_all(pool, feed)
    messages = await stored(server)
    assert [1, 2, 3, 4, 3, 4] == sequences(messages)
    assert messages[2][2] == messages[4][2]


@pytest.mark.full
async def test_nats__server_killed_and_started_again(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats
) -> None:
    """While it is away everything waits; afterwards the stream has each entry once, in order."""
    server = start_nats()
    await make_stream(server)
    feed = make_feed(kind="nats", servers=url(server), batch=3, timeout="2s")
    for number in range(3):
        await write_log(pool, *tags(7))
        await deliver_all(pool, feed)
        server.stop(signal.SIGKILL if number else signal.SIGTERM)
        await write_log(pool, *tags(7))
        with pytest.raises(Postponed, match="the server"):
            await feed.run_once()
        server.start()
        await deliver_all(pool, feed)
    assert list(range(1, 43)) == sequences(await stored(server))


async def test_nats__without_a_stream_nothing_is_given_up(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats
) -> None:
    """A subject that no stream takes is the operator's to mend; then all arrives."""
    server = start_nats()
    await write_log(pool, *tags(2))
    feed = make_feed(kind="nats", servers=url(server))
    with pytest.raises(Postponed, match=r"no stream takes registry\.audit"):
        await feed.run_once()
    await make_stream(server)
    await deliver_all(pool, feed)
    assert [1, 2] == sequences(await stored(server))


async def test_nats__too_large_a_message_is_a_dead_letter(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats
) -> None:
    """What the stream or the server does not take for its size is set aside; the others arrive."""
    server = start_nats()
    await make_stream(server, max_msg_size=1500)
    await write_log(pool, "team/app:a", "team/app:" + "b" * 128, "team/app:c")
    for position, size in ((2, 2000), (3, 70_000)):
        detail = {"filler": "x" * size}
        await pool.execute("UPDATE audit_entry SET detail = $2 WHERE position = $1", position, detail)
    await deliver_all(pool, make_feed(kind="nats", servers=url(server)))
    assert [1] == sequences(await stored(server))
    async with pool.acquire() as held:
        letters = await feeds.list_dead_letters(held, name="siem", after=0, limit=9)
    assert [(2, "the stream refuses: message size exceeds maximum allowed"),
            (3, "the event is larger than the server takes")] == [
        (letter.position, letter.reason) for letter in letters
    ]  # fmt: skip

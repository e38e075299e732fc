"""Feeds to a real rsyslog: RFC 5424 over TLS and TCP, whole and in order through restarts of the receiver."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from indexer.common.errors import Postponed
from indexer.store.pool import Pool
from tests.fixtures.feeding import MakeFeed, deliver_all, write_log
from tests.fixtures.sinks import Certificates, Rsyslog

StartRsyslog = Callable[..., Rsyslog]


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


def tags(count: int) -> list[str]:
    return [f"team/app:v{number}" for number in range(count)]


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_syslog__is_understood(
    pool: Pool, make_feed: MakeFeed, start_rsyslog: StartRsyslog, certificates: Certificates, tls: bool
) -> None:
    """Rsyslog parses every part: facility and severity, the time it occurred, our name, the action, the event."""
    rsyslog = start_rsyslog(tls=tls)
    await write_log(pool, *tags(60), action="tag.moved")
    await deliver_all(
        pool,
        make_feed(
            kind="syslog", address=rsyslog.address, batch=7, app_name="memory",
            **({"ca_file": certificates.ca} if tls else {"transport": "tcp"}),
        ),
    )  # fmt: skip
    await until(lambda: len(rsyslog.messages()) >= 60)
    assert list(range(1, 61)) == rsyslog.sequences()
    parts, event = rsyslog.messages()[0]
    assert (str(13 * 8 + 6), "memory", "tag.moved") == (parts[0], parts[2], parts[3])
    assert datetime.fromisoformat(event["time"]) == datetime.fromisoformat(parts[1])
    assert "team/app:v0" == event["subject"]


async def test_syslog__goes_on_when_the_receiver_comes_back(
    pool: Pool, make_feed: MakeFeed, start_rsyslog: StartRsyslog
) -> None:
    """Rsyslog is stopped between batches: nothing is missing, what is doubled has its id, and the order stands."""
    rsyslog = start_rsyslog(tls=False)
    feed = make_feed(kind="syslog", address=rsyslog.address, transport="tcp", batch=5)
    for number in range(3):
        await write_log(pool, *tags(10))
        await deliver_all(pool, feed)
        await until(lambda n=number: len(set(rsyslog.sequences())) >= 10 * n + 10)  # type: ignore[misc]
        rsyslog.server.stop()
        await write_log(pool, *tags(1)) if number == 2 else None
        if number == 2:
            with pytest.raises(Postponed, match="the receiver does not take it"):
                await feed.run_once()
        rsyslog.server.start()
    await deliver_all(pool, feed)
    await until(lambda: len(set(rsyslog.sequences())) >= 31)
    first = list(dict.fromkeys(rsyslog.sequences()))
    assert list(range(1, 32)) == first


async def test_syslog__waits_until_the_receiver_has_it(
    pool: Pool, make_feed: MakeFeed, start_rsyslog: StartRsyslog
) -> None:
    """A receiver that takes nothing does not move the cursor, though our kernel would buffer the batch."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        await write_log(pool, *tags(100))
        feed = make_feed(kind="syslog", address=address, transport="tcp", timeout="300ms")
        with pytest.raises(Postponed, match="it takes too long"):
            await feed.run_once()
    assert 0 == await pool.fetchval("SELECT position FROM feed")


async def test_syslog__killed_receiver_gets_the_last_batch_again(
    pool: Pool, make_feed: MakeFeed, start_rsyslog: StartRsyslog
) -> None:
    """After kill -9 the batch before is sent once more: the receiver may have had it in its buffers only."""
    rsyslog = start_rsyslog(tls=False)
    feed = make_feed(kind="syslog", address=rsyslog.address, transport="tcp", batch=3)
    await write_log(pool, *tags(6))
    await deliver_all(pool, feed)
    rsyslog.server.stop(signal.SIGKILL)
    rsyslog.output.unlink(missing_ok=True)
    rsyslog.server.start()
    await write_log(pool, *tags(1))
    await deliver_all(pool, feed)
    await until(lambda: 7 in rsyslog.sequences())
    assert [4, 5, 6, 7] == rsyslog.sequences()


async def test_syslog__an_unknown_authority_is_refused(
    pool: Pool, make_feed: MakeFeed, start_rsyslog: StartRsyslog
) -> None:
    """Without the operator's authority the receiver's certificate is nobody's, and nothing is sent."""
    rsyslog = start_rsyslog(tls=True)
    await write_log(pool, *tags(1))
    with pytest.raises(Postponed, match="certificate verify failed"):
        await make_feed(kind="syslog", address=rsyslog.address).run_once()
    assert [] == rsyslog.sequences()

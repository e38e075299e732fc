"""Wakes loops when work is due or entries are sealed: LISTEN on a connection of its own, reopened when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from indexer.common.errors import StoreUnavailable
from indexer.store.pool import connect
from indexer.store.work_items import CHANNEL

RECONNECT_SECONDS = 1.0


async def listen(
    database_url: str, wake: Sequence[Callable[[], None]], *, application: str, channel: str = CHANNEL
) -> None:
    """Call every ``wake`` at each notification, and at each new connection, since one may have been missed before."""
    while True:
        with suppress(StoreUnavailable):
            await _listen_once(database_url, wake, application=application, channel=channel)
        await asyncio.sleep(RECONNECT_SECONDS)


async def listen_to_each(
    database_url: str, changed: Callable[[str], None], *, application: str, channel: str
) -> None:
    """Call ``changed`` with the payload of each notification; with an empty one at each new connection."""
    while True:
        with suppress(StoreUnavailable):
            await _listen_once(database_url, [], application=application, channel=channel, changed=changed)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _listen_once(
    database_url: str,
    wake: Sequence[Callable[[], None]],
    *,
    application: str,
    channel: str,
    changed: Callable[[str], None] = lambda _: None,
) -> None:
    connection = await connect(database_url, application=application)
    lost = asyncio.Event()

    def wake_all(*notification: object) -> None:
        for wake_one in wake:
            wake_one()
        changed(str(notification[-1]) if notification else "")

    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(channel, wake_all)
        wake_all()
        await lost.wait()
    finally:
        with suppress(Exception):
            connection.terminate()

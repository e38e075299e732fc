"""The sealed log as it grows: everything behind a position, then every entry as soon as it is sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from indexer.audit.export import EVERYTHING, export
from indexer.background.loop import WakeEvent
from indexer.common.errors import StoreUnavailable
from indexer.common.terminal import printable
from indexer.store.audit import SEALED_CHANNEL
from indexer.store.listen import listen
from indexer.store.listing.audit import AuditFilter, head_position
from indexer.store.pool import Pool, connection

REST_SECONDS = 5.0
"""Between two reads where no notification comes: one may be missed while its connection is made again."""


async def follow(
    pool: Pool,
    database_url: str,
    *,
    after_position: int | None,
    show: Callable[[bytes], Awaitable[object]],
    filters: AuditFilter = EVERYTHING,
) -> None:
    """Show what the filter leaves of the log behind a position, as NDJSON, without end; None: from now on.

    Each entry is shown once and in order, whatever happens to the database meanwhile. Raises
    ``StoreUnavailable`` only where the database does not answer at the beginning.
    """
    async with connection(pool) as held:
        head = await head_position(held)
    position = head if after_position is None else after_position
    sealed = WakeEvent()

    async def write(part: bytes) -> None:
        nonlocal position
        await show(part)
        position = orjson.loads(part.splitlines()[-1])["position"]

    listening = asyncio.create_task(
        listen(database_url, [sealed.wake], channel=SEALED_CHANNEL, application="indexer audit follow"),
        name="listen",
    )
    try:
        while True:
            with suppress(StoreUnavailable):
                position = await export(
                    pool, format="ndjson", after_position=position, out=write, filters=filters
                )
            await sealed.wait(REST_SECONDS)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def line_of(entry: Mapping[str, Any]) -> str:
    """Return a shown entry as one line for people."""
    actor = entry["actor"]["name"] if entry["actor"] else "-"
    resource = entry["repository"] or "-"
    if entry["tag"]:
        resource += f":{entry['tag']}"
    digest = f" {entry['digest']}" if entry["digest"] else ""
    head = f"{entry['position']:>8}  {entry['occurred_at']}  {entry['action']:<16}"
    line = f"{head} {resource}{digest}  {actor} ({entry['source']})"
    return printable(line)

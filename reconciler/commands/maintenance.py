"""``reconciler maintenance``: a time in which nothing acts, for example for the registry's own garbage-collect."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.commands.common import AsJson, Config, operator, with_database
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.common.terminal import write_lines
from reconciler.commands.acting import Reason
from reconciler.commands.shared import write_json

if TYPE_CHECKING:
    from indexer.jobs.job import Job
    from indexer.store.pool import Connection

QUIET_WITHIN_SECONDS = 60.0
POLL_SECONDS = 0.5

app = cyclopts.App(
    name="maintenance",
    help="Pause everything that changes the registry, for example while it collects garbage.",
)


@app.command
def begin(
    *,
    for_: Annotated[
        str | None,
        cyclopts.Parameter(
            name="--for", help="It ends by itself after this time, for example 2h. Without it, `end` ends it."
        ),
    ] = None,
    reason: Reason = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Let nothing act from now on, and wait until nothing does.

    Exit 0: nothing acts; 1: a job still does after a minute, the output says which.
    """
    lasting = _duration(for_)

    async def work(held: Connection) -> int:
        from indexer.store.maintenance import begin_maintenance  # noqa: PLC0415

        who = operator("reconciler maintenance begin")
        async with held.transaction():
            await begin_maintenance(held, lasting=lasting, operator=who, reason=reason)
        acting = await _until_quiet(held)
        await _print(held, acting, as_json=json)
        return exit_codes.FAILED if acting else 0

    return with_database(config, work)


@app.command
def end(*, reason: Reason = None, config: Config = None, json: AsJson = False) -> int:
    """Let everything act again: paused jobs go on. Exit 0 also where there was no maintenance."""

    async def work(held: Connection) -> int:
        from indexer.store.jobs import unpause_jobs  # noqa: PLC0415
        from indexer.store.maintenance import end_maintenance, why_paused  # noqa: PLC0415

        async with held.transaction():
            was = await end_maintenance(held, operator=operator("reconciler maintenance end"), reason=reason)
            if await why_paused(held) is None:
                await unpause_jobs(held)
        if not json and not was:
            sys.stdout.write("there was no maintenance\n")
        await _print(held, [], as_json=json)
        return 0

    return with_database(config, work)


@app.command
def show(*, config: Config = None, json: AsJson = False) -> int:
    """Show whether anything may act now, and why not. Exit 0 in any case."""

    async def work(held: Connection) -> int:
        await _print(held, await _acting(held), as_json=json)
        return 0

    return with_database(config, work)


def _duration(text: str | None) -> timedelta | None:
    from indexer.common.values import parse_duration  # noqa: PLC0415

    if text is None:
        return None
    try:
        lasting = parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"--for: {error}") from None
    if not lasting:
        raise ConfigurationError("--for must be longer than 0s")
    return lasting


async def _acting(held: Connection) -> list[Job]:
    from indexer.store.jobs import list_acting  # noqa: PLC0415

    return await list_acting(held)


async def _until_quiet(held: Connection) -> list[Job]:
    """Wait for jobs that act to pause, which they do at their next request; return those that have not in time."""
    import asyncio  # noqa: PLC0415
    import time  # noqa: PLC0415

    until = time.monotonic() + QUIET_WITHIN_SECONDS
    while True:
        acting = await _acting(held)
        if not acting or time.monotonic() >= until:
            return acting
        await asyncio.sleep(POLL_SECONDS)


async def _print(held: Connection, acting: list[Job], *, as_json: bool) -> None:
    from indexer.common.rfc3339 import format_time  # noqa: PLC0415
    from indexer.store.maintenance import why_paused  # noqa: PLC0415

    pause = await why_paused(held)
    if as_json:
        shown: dict[str, Any] = {
            "may_act": pause is None,
            "code": None if pause is None else pause.code,
            "text": None if pause is None else pause.text,
            "until": None if pause is None else format_time(pause.until),
            "acting": [str(job.id) for job in acting],
        }
        write_json(shown)
        return
    write_lines(["everything may act" if pause is None else pause.text])
    write_lines(f"still acting: job {job.id} ({job.kind}), in {job.worker}" for job in acting)

"""``indexer audit erase``: people leave the log, and it verifies as before."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from json import dumps as json_dumps
from typing import Annotated

import cyclopts

from indexer.commands.audit.shared import open_log
from indexer.commands.common import AsJson, Config, operator, read_settings, run_async
from indexer.common.errors import ConfigurationError


def audit_erase(
    *,
    actor: Annotated[str | None, cyclopts.Parameter(help="Whom: the name that the registry gave.")] = None,
    older_than: Annotated[
        str | None,
        cyclopts.Parameter(help="Everybody, in entries older than this, like 400d. Counts whole days, UTC."),
    ] = None,
    dry_run: Annotated[
        bool, cyclopts.Parameter(negative=(), help="Only say how many entries would be changed.")
    ] = False,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Erase names, addresses and user agents: those of one person, or all of them in old entries.

    The log can still be verified.
    """
    from indexer.audit.erase import erase, plan_erasure  # noqa: PLC0415

    if (actor is None) == (older_than is None):
        raise ConfigurationError("name whom to erase: --actor NAME, or --older-than AGE for everybody")
    before = None if older_than is None else _day_before(older_than)
    settings = read_settings(config, logs=False)

    async def work() -> tuple[int, int]:
        async with open_log(settings, limited=False) as pool:
            if dry_run:
                done = await plan_erasure(pool, actor=actor, before=before)
            else:
                done = await erase(
                    pool,
                    actor=actor,
                    before=before,
                    operator=operator("indexer audit erase"),
                    on_wait=_say,
                )
        return done.entries, done.days

    entries, days = run_async(work())
    said = {"erased": not dry_run, "entries": entries, "days": days, "before": before and before.isoformat()}
    words = "would be erased" if dry_run else "erased"
    text = json_dumps(said) if json else f"{words}: people in {entries} entries, on {days} days"
    sys.stdout.write(text + "\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _day_before(age: str) -> date:
    """Return the day (UTC) that is an age ago: what came before it is older."""
    from indexer.common.values import parse_duration  # noqa: PLC0415

    try:
        return (datetime.now(UTC) - parse_duration(age)).date()
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"--older-than: {error}") from None

"""The verbs of ``reconciler holds``: keep a repository, a tag or a digest from cleanup, whatever a policy says."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from json import dumps as json_dumps
from typing import TYPE_CHECKING, Annotated

import cyclopts

from indexer.commands.common import AsJson, Config, operator, with_database
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.common.terminal import write_lines

if TYPE_CHECKING:
    from indexer.store.pool import Connection

app = cyclopts.App(name="holds", help="Keep repositories, tags and digests from cleanup.")


@app.command(name="add")
def holds_add(
    target: Annotated[
        str, cyclopts.Parameter(help="REPO, REPO:TAG, REPO@DIGEST, or DIGEST (in any repository).")
    ],
    /,
    *,
    reason: Annotated[str, cyclopts.Parameter(help="Why; it is shown with every verdict.")],
    owner: Annotated[str | None, cyclopts.Parameter(help="Whose hold it is; default: your name.")] = None,
    until: Annotated[
        str | None,
        cyclopts.Parameter(help="RFC 3339 time, or a duration from now like 14d; default: until removed."),
    ] = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Put a repository, a tag or a digest on hold: cleanup keeps it, and with a digest its parents and children."""
    from indexer.cleanup.holding import hold_json, parse_target, parse_until  # noqa: PLC0415
    from indexer.store import holds  # noqa: PLC0415

    now = datetime.now(UTC)
    try:
        repository, tag, digest = parse_target(target)
        ends = None if until is None else parse_until(until, now=now)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if not reason.strip():
        raise ConfigurationError("--reason must say why")

    async def work(connection: Connection) -> int:
        asked = operator("reconciler holds add")
        async with connection.transaction():
            hold = await holds.add_hold(
                connection,
                owner=owner or asked.name,
                reason=reason,
                repository=repository,
                tag=tag,
                digest=digest,
                until=ends,
                at=now,
                operator=asked,
            )
        if json:
            sys.stdout.write(json_dumps(hold_json(hold)) + "\n")
        else:
            write_lines([f"hold {hold.id} on {target}"])
        return 0

    return with_database(config, work)


@app.command(name="list")
def holds_list(*, config: Config = None, json: AsJson = False) -> int:
    """List the holds that are not over, oldest first."""
    from indexer.cleanup.holding import hold_json, hold_line  # noqa: PLC0415
    from indexer.store import holds  # noqa: PLC0415

    async def work(connection: Connection) -> int:
        found = await holds.list_holds(connection, now=datetime.now(UTC))
        if json:
            sys.stdout.write(json_dumps({"items": [hold_json(each) for each in found]}) + "\n")
        else:
            write_lines([hold_line(each) for each in found] or ["nothing is on hold"])
        return 0

    return with_database(config, work)


@app.command(name="remove")
def holds_remove(
    hold: Annotated[str, cyclopts.Parameter(help="Its id, as `holds add` and `holds list` print it.")],
    /,
    *,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Remove a hold. Exit 1: there is none of that id."""
    from indexer.cleanup.holding import hold_json  # noqa: PLC0415
    from indexer.store import holds  # noqa: PLC0415

    async def work(connection: Connection) -> int:
        async with connection.transaction():
            removed = await holds.remove_hold(
                connection,
                hold_id=hold,
                at=datetime.now(UTC),
                operator=operator("reconciler holds remove"),
            )
        if removed is None:
            sys.stderr.write(f"reconciler: there is no hold {hold}\n")
            return exit_codes.FAILED
        if json:
            sys.stdout.write(json_dumps(hold_json(removed)) + "\n")
        else:
            write_lines([f"hold {hold} is removed"])
        return 0

    return with_database(config, work)

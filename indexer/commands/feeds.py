"""The verbs of ``indexer feeds``: list, replay, dead, remove."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import cyclopts

from indexer.commands.common import AsJson, Config, operator, print_result, with_database
from indexer.common import exit_codes
from indexer.common.errors import CallerError, ConfigurationError
from indexer.common.terminal import printable

app = cyclopts.App(
    name="feeds",
    help="Feeds, which deliver the audit log to other systems: their state, replays, dead letters.",
)

Name = Annotated[str, cyclopts.Parameter(help="The feed's name.")]


@app.command(name="list")
def list_feeds(*, config: Config = None, json: AsJson = False) -> int:
    """List every feed: its position, its last error, and when it tries again."""
    from indexer.store import feeds  # noqa: PLC0415

    async def work(connection: Any) -> int:
        found = await feeds.list_feeds(connection)
        print_result(
            json,
            {"feeds": [_shown(feed) for feed in found]},
            "\n".join(_line(feed) for feed in found) or "there are no feeds; see docs/reference/feeds.md",
        )
        return 0

    return with_database(config, work)


@app.command
def replay(
    name: Name,
    /,
    *,
    from_: Annotated[
        int | None,
        cyclopts.Parameter(
            name="--from", help="Position of the first entry to deliver. Default: where the feed is."
        ),
    ] = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Deliver again from a position on. Without one, a stopped feed continues where it is."""
    from indexer.store import feeds  # noqa: PLC0415
    from indexer.store.listing.audit import head_position  # noqa: PLC0415

    async def work(connection: Any) -> int:
        head = await head_position(connection)
        if from_ is not None and not 1 <= from_ <= head + 1:
            raise CallerError(f"--from {from_}: the log has the positions 1 to {head}")
        async with connection.transaction():
            position = await feeds.replay_feed(
                connection, name=name, after=None if from_ is None else from_ - 1
            )
            if position is None:
                raise _no_such_feed(name)
            detail = {"feed": name, "from_position": position + 1}
            await _record(connection, "operator.feed_replayed", "indexer feeds replay", detail)
        print_result(
            json, {"feed": name, "from": position + 1}, f"{name} goes on from position {position + 1}"
        )
        return 0

    return with_database(config, work)


@app.command
def dead(
    name: Name,
    /,
    *,
    after: Annotated[int, cyclopts.Parameter(help="List those after this position.")] = 0,
    limit: Annotated[int, cyclopts.Parameter(help="At most so many.")] = 100,
    retry: Annotated[
        bool, cyclopts.Parameter(negative=(), help="Try to deliver them again: those at --position, or all.")
    ] = False,
    discard: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(), help="Delete them for good, with a --reason: those at --position, or --all."
        ),
    ] = False,
    reason: Annotated[
        str | None, cyclopts.Parameter(help="With --discard: why; the audit log records it.")
    ] = None,
    all_of_them: Annotated[
        bool,
        cyclopts.Parameter(name="--all", negative=(), help="With --discard: all dead letters of the feed."),
    ] = False,
    position: Annotated[
        list[int] | None, cyclopts.Parameter(help="Only the entries at these positions.", negative=())
    ] = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """List a feed's dead letters, the entries that its sink refused for good, try them again, or discard them."""
    from indexer.store import feeds  # noqa: PLC0415

    why = _why(reason, discard=discard, retry=retry, named=position is not None, all_of_them=all_of_them)

    async def work(connection: Any) -> int:
        if name not in [feed.name for feed in await feeds.list_feeds(connection)]:
            raise _no_such_feed(name)
        if retry:
            async with connection.transaction():
                count = await feeds.retry_dead_letters(connection, name=name, positions=position)
                detail = {"feed": name, "entries": count, "positions": position}
                if count:
                    await _record(connection, "operator.feed_retried", "indexer feeds dead", detail)
            print_result(json, {"feed": name, "retried": count}, f"{count} will be tried again")
            return 0
        if discard:
            async with connection.transaction():
                gone = await feeds.discard_dead_letters(connection, name=name, positions=position)
                detail = {"feed": name, "entries": len(gone), "positions": position and gone, "reason": why}
                if gone:
                    await _record(connection, "operator.feed_discarded", "indexer feeds dead", detail)
            print_result(json, {"feed": name, "discarded": len(gone)}, f"{len(gone)} discarded")
            return _say_absent(sorted(set(position or ()) - set(gone)))
        letters = await feeds.list_dead_letters(connection, name=name, after=after, limit=limit)
        print_result(
            json,
            {"feed": name, "dead": [_letter(letter) for letter in letters]},
            "\n".join(_letter_line(letter) for letter in letters) or "nothing was refused",
        )
        return 0

    return with_database(config, work)


@app.command
def remove(name: Name, /, *, config: Config = None, json: AsJson = False) -> int:
    """Delete what is stored of a feed that is no longer configured: its position and its dead letters."""
    from indexer.store import feeds  # noqa: PLC0415

    async def work(connection: Any) -> int:
        async with connection.transaction():
            if not await feeds.remove_feed(connection, name=name):
                raise _no_such_feed(name)
            await _record(connection, "operator.feed_removed", "indexer feeds remove", {"feed": name})
        print_result(json, {"removed": name}, f"{name} is forgotten")
        return 0

    return with_database(config, work)


def _why(reason: str | None, *, discard: bool, retry: bool, named: bool, all_of_them: bool) -> str | None:
    """Return the reason of a discard as it is stored; raise ``ConfigurationError`` for options that do not fit."""
    from indexer.store.text import storable  # noqa: PLC0415

    if not discard:
        if reason is not None or all_of_them:
            raise ConfigurationError("--reason and --all belong to --discard")
        return None
    if retry:
        raise ConfigurationError("either --retry or --discard, not both")
    if named == all_of_them:
        raise ConfigurationError("name what to discard: --position from `indexer feeds dead NAME`, or --all")
    if reason is None or not reason.strip():
        raise ConfigurationError("--discard takes a --reason: say why these entries are never delivered")
    return storable(reason.strip())[0]


def _say_absent(positions: Sequence[int]) -> int:
    """Return the exit code: 1 where something was named that is no dead letter, which is said."""
    if positions:
        sys.stderr.write(f"no dead letters: {', '.join(map(str, positions))}\n")
    return exit_codes.FAILED if positions else 0


async def _record(connection: Any, action: str, command: str, detail: dict[str, Any]) -> None:
    from indexer.inventory.changes import AuditAction  # noqa: PLC0415
    from indexer.store.operators import record_action  # noqa: PLC0415

    await record_action(
        connection,
        action=AuditAction(action),
        operator=operator(command),
        at=datetime.now(UTC),
        detail=detail,
    )


def _no_such_feed(name: str) -> CallerError:
    return CallerError(f"there is no feed {name!r}; `indexer feeds list` names them")


def _shown(feed: Any) -> dict[str, Any]:
    members: Sequence[str] = (
        "name", "kind", "position", "behind", "delivered", "dead", "attempts", "replays", "held",
        "behind_since", "delivered_at", "failed_at", "retry_at", "stopped", "last_error",
    )  # fmt: skip
    values = {member: getattr(feed, member) for member in members}
    return {
        member: value.isoformat() if isinstance(value, datetime) else value
        for member, value in values.items()
    }


def _line(feed: Any) -> str:
    state = "stopped" if feed.stopped else "failing" if feed.attempts else "good" if feed.held else "idle"
    line = f"{feed.name:<20} {feed.kind:<7} {state:<8} position {feed.position}, {feed.behind} behind, {feed.dead} dead"
    trouble = feed.stopped or (feed.last_error if feed.attempts else None)
    again = f", tries again at {feed.retry_at:%Y-%m-%d %H:%M:%S}Z" if feed.attempts and feed.retry_at else ""
    return printable(f"{line}{again}" + (f": {trouble}" if trouble else ""))


def _letter(letter: Any) -> dict[str, Any]:
    return {
        "position": letter.position,
        "died_at": letter.refused_at.isoformat(),
        "attempts": letter.tries,
        "first_tried_at": letter.first_tried_at and letter.first_tried_at.isoformat(),
        "tried_at": letter.tried_at.isoformat(),
        "retry": letter.retry_requested,
        "reason": letter.reason,
    }


def _letter_line(letter: Any) -> str:
    waits = " (will be tried again)" if letter.retry_requested else ""
    return printable(f"{letter.position:>12}  {letter.refused_at:%Y-%m-%d %H:%M:%S}Z  {letter.reason}{waits}")

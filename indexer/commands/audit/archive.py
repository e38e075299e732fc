"""``indexer audit archive``: what is old leaves the log, archived or dropped, when an operator says so."""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.commands.common import (
    AsJson,
    Config,
    database_url,
    operator,
    print_result,
    read_settings,
    run_async,
)
from indexer.common.errors import ConfigurationError
from indexer.common.named_paths import check_directory

if TYPE_CHECKING:
    from indexer.audit.archive import Archived
    from indexer.audit.retention import Left
    from indexer.audit.retention_rules import Leaving, LogPart

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
COMMAND = "indexer audit archive"


def archive(
    *,
    before: Annotated[
        str | None,
        cyclopts.Parameter(
            help="Remove the months before this one, like 2026-03. Default: INDEXER_AUDIT_KEEP decides."
        ),
    ] = None,
    output: Annotated[
        Path | None, cyclopts.Parameter(help="Directory for the files. Default: INDEXER_AUDIT_ARCHIVE_DIR.")
    ] = None,
    drop: Annotated[bool, cyclopts.Parameter(negative=(), help="Remove without writing files.")] = False,
    dry_run: Annotated[
        bool, cyclopts.Parameter(negative=(), help="Only say which months would be removed.")
    ] = False,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Write old months to files and remove them from the log. Exit 1: an old month cannot be removed yet."""
    from indexer.audit import retention  # noqa: PLC0415
    from indexer.audit.retention_rules import cut_of  # noqa: PLC0415
    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import close_pool, connection, open_pool  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    month = _month(before)
    now = datetime.now(UTC)
    if month is None and settings.indexer_audit_keep is None:
        raise ConfigurationError("say which months with --before, or set INDEXER_AUDIT_KEEP")
    cut = None if month is not None else cut_of(settings.indexer_audit_keep, now)
    if drop and output is not None:
        raise ConfigurationError("--drop writes no archive, and --output names where to: say one of them")
    directory = None if drop else output or settings.indexer_audit_archive_dir
    if directory is not None and not dry_run:
        check_directory("--output" if output is not None else "INDEXER_AUDIT_ARCHIVE_DIR", directory)
    if directory is None and not drop and not dry_run:
        raise ConfigurationError(
            "say where to with --output, or set INDEXER_AUDIT_ARCHIVE_DIR; --drop writes no archive"
        )

    async def work() -> int:
        pool = await open_pool(database_url(settings), size=2, application=COMMAND)
        try:
            async with connection(pool) as held:
                await check(held)
            if dry_run:
                found = await retention.find_leaving(pool, before=month, cut=cut, archived=not drop)
                return _say_leaving(found, as_json=json)
            await retention.turn(pool, now=now)
            left = await retention.expire_parts(
                pool,
                now=now,
                before=month,
                cut=cut,
                directory=directory,
                operator=operator(COMMAND),
                on_progress=_progress(quiet=json),
            )
            return _say_left(left, as_json=json)
        finally:
            await close_pool(pool)

    return run_async(work())


def _month(text: str | None) -> date | None:
    if text is None:
        return None
    if not _MONTH.fullmatch(text):
        raise ConfigurationError(f"--before {text}: not a month like 2026-03")
    return date.fromisoformat(f"{text}-01")


def _progress(*, quiet: bool) -> Any:
    def show(part: LogPart, done: int) -> None:
        if not quiet and sys.stderr.isatty() and part.last is not None:
            sys.stderr.write(f"\r{part.month:%Y-%m}: {done:,} of {part.last - part.first + 1:,} entries")

    return show


def _shown(part: LogPart, archived: Archived | None = None) -> dict[str, Any]:
    return {
        "month": f"{part.month:%Y-%m}",
        "first_position": part.first,
        "last_position": part.last,
        **({} if archived is None else {"file": archived.file, "sha256": archived.sha256.hex()}),
    }


def _line(shown: dict[str, Any]) -> str:
    file = f"  {shown['sha256']}  {shown['file']}" if "file" in shown else ""
    return f"{shown['month']}  {shown['first_position']} to {shown['last_position']}{file}"


def _say_leaving(found: list[Leaving], *, as_json: bool) -> int:
    free = [_shown(one.part) for one in found if one.held_by is None]
    held = [_shown(one.part) | {"held_by": one.held_by} for one in found if one.held_by is not None]
    lines = [_line(one) for one in free] + [f"{_line(one)}  held: {one['held_by']}" for one in held]
    print_result(as_json, {"would_leave": free, "held": held}, "\n".join(lines) or "nothing is old enough")
    return 1 if held else 0


def _say_left(left: Left, *, as_json: bool) -> int:
    gone = [_shown(part, archived) for part, archived in left.parts]
    held = [] if left.held is None else [_shown(left.held.part) | {"held_by": left.held.held_by}]
    lines = [_line(one) for one in gone] + [f"{_line(one)}  held: {one['held_by']}" for one in held]
    if sys.stderr.isatty() and gone and not as_json:
        sys.stderr.write("\n")
    print_result(as_json, {"left": gone, "held": held}, "\n".join(lines) or "nothing is old enough")
    return 1 if held else 0

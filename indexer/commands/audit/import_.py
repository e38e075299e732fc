"""``indexer audit import``: an older history, from files, into the inbox."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

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
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError

if TYPE_CHECKING:
    from indexer.history_import.importer import Imported, Rules

COMMAND = "indexer audit import"
STANDARD_INPUT = "-"
NAMED = 100
"""Places of what is wrong that the JSON object holds; standard error has all."""


def import_history(
    *files: Annotated[str, cyclopts.Parameter(help="Files, plain or gzip; - is standard input.")],
    dry_run: Annotated[
        bool, cyclopts.Parameter(negative=(), help="Only say what would be imported.")
    ] = False,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Import an older history: a registry's notifications, or an exported log. Exit 1: something was left out."""
    from indexer.history_import.importer import Importer, find_rules  # noqa: PLC0415
    from indexer.history_import.reading import read_lines  # noqa: PLC0415
    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import close_pool, connection, open_pool  # noqa: PLC0415

    if not files:
        raise ConfigurationError("name the files to import; - is standard input")
    settings = read_settings(config, logs=False)
    for name in files:
        with _opened(name, progress=False):
            pass
    named: list[dict[str, str]] = []

    def left_out(place: str, reason: str) -> None:
        if len(named) < NAMED:
            named.append({"place": place, "reason": reason})
        sys.stderr.write(f"left out: {place}: {reason}\n")

    async def work() -> Imported:
        pool = await open_pool(database_url(settings), size=2, application=COMMAND)
        try:
            async with connection(pool) as held:
                await check(held)
            rules = await find_rules(
                pool,
                keep=settings.indexer_audit_keep,
                event_retention=settings.indexer_event_retention,
                now=datetime.now(UTC),
            )
            _announce(rules)
            importer = Importer(
                pool,
                rules=rules,
                operator=None if dry_run else operator(COMMAND),
                files=[Path(name).name for name in files],
                on_left_out=left_out,
            )
            for name in files:
                with _opened(name, progress=not json) as file:
                    await importer.take(read_lines(file, name=name), name=name)
            return importer.done
        finally:
            await close_pool(pool)

    done = run_async(work())
    said = {
        "dry_run": dry_run,
        "events": dict(done.events),
        "known": done.known,
        "left_out": dict(done.left_out),
        "refused": named,
        "from": done.first and done.first.isoformat(),
        "to": done.last and done.last.isoformat(),
    }
    print_result(json, said, _words(done, dry_run=dry_run))
    return exit_codes.FAILED if done.left_out else 0


def _announce(rules: Rules) -> None:
    """Say before anything is written what the policy leaves out."""
    if rules.cut is not None:
        sys.stderr.write(
            f"INDEXER_AUDIT_KEEP: what happened before {rules.cut:%Y-%m-%d %H:%M}Z will be left out\n"
        )


def _words(done: Imported, *, dry_run: bool) -> str:
    kinds = ", ".join(f"{count} {action}" for action, count in sorted(done.events.items()))
    span = "" if done.first is None else f", from {done.first:%Y-%m-%d} to {done.last:%Y-%m-%d}"
    verb = "would be imported" if dry_run else "imported"
    lines = [f"{verb}: {done.events.total()} events{f' ({kinds})' if kinds else ''}{span}"]
    lines += [f"already known: {done.known}"] if done.known else []
    lines += [f"left out: {count}, {reason}" for reason, count in sorted(done.left_out.items())]
    return "\n".join(lines)


@contextmanager
def _opened(name: str, *, progress: bool) -> Iterator[BinaryIO]:
    """Open a file; on a terminal a bar shows how far it was read."""
    if name == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        file: Any = Path(name).open("rb")  # noqa: SIM115 - closed below, whoever wraps it
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}") from None
    with file:
        if not progress or not sys.stderr.isatty():
            yield file
            return
        from rich.console import Console  # noqa: PLC0415 - slow to import, and rarely wanted
        from rich.progress import wrap_file  # noqa: PLC0415

        size = Path(name).stat().st_size
        console = Console(stderr=True)
        with wrap_file(file, size, description="importing", console=console, transient=True) as watched:
            yield watched

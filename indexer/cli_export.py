"""``indexer audit export``: the sealed log, to a file or to standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from json import dumps as json_dumps
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import cyclopts

from indexer import cli_audit
from indexer.cli import AsJson, Config
from indexer.command import actions_of, database_url, read_settings, run_async
from indexer.errors import ConfigurationError


def audit_export(
    *,
    config: Config = None,
    format: Literal["ndjson", "csv"] = "ndjson",  # noqa: A002 - the flag's name
    after: Annotated[int, cyclopts.Parameter(help="Resume behind this position.")] = 0,
    until: Annotated[int | None, cyclopts.Parameter(help="End at this position.")] = None,
    repository: str | None = None,
    prefix: str | None = None,
    tag: str | None = None,
    action: str | None = None,
    actor: str | None = None,
    after_time: datetime | None = None,
    before_time: datetime | None = None,
    output: Annotated[
        Path | None, cyclopts.Parameter(help="File to append to; none is standard output.")
    ] = None,
    proof: Annotated[
        Path | None,
        cyclopts.Parameter(
            help="Write the proof of these entries to this file, and with them what `verify` needs. Ends where the "
            "newest checkpoint does."
        ),
    ] = None,
    json: AsJson = False,
) -> int:
    """Export the sealed log in the order of its positions; says on stderr where to resume."""
    from indexer.audit.export import export  # noqa: PLC0415
    from indexer.store.listing.audit import AuditFilter  # noqa: PLC0415
    from indexer.store.pool import close_pool, open_pool  # noqa: PLC0415

    settings = read_settings(config, logs=False)
    filters = AuditFilter(
        repositories=() if repository is None else (repository,),
        prefix=prefix,
        tag=tag,
        actions=actions_of(action),
        actor=actor,
        occurred_after=_aware(after_time),
        occurred_before=_aware(before_time),
    )

    if proof is not None and (format != "ndjson" or filters != AuditFilter()):
        raise ConfigurationError(
            "--proof is for NDJSON without filters: a proof is of every entry of a part of the log"
        )

    async def work(out: BinaryIO) -> int:
        pool = await open_pool(database_url(settings), size=2, application="indexer audit export")

        async def write(part: bytes) -> None:
            out.write(part)

        last = until
        try:
            if proof is not None:
                last = await cli_audit.write_proof(pool, proof, after=after, until=until)
            with _bar(shown=not json and (output is not None or not sys.stdout.isatty())) as reached:
                return await export(
                    pool,
                    format=format,
                    after_position=after,
                    out=write,
                    until=last,
                    filters=filters,
                    proof=proof is not None,
                    reached=reached,
                )
        finally:
            await close_pool(pool)

    with output.open("ab") if output is not None else nullcontext(sys.stdout.buffer) as out:
        position = run_async(work(out))
        out.flush()
    reached = {"position": position}
    sys.stderr.write(
        (
            json_dumps(reached)
            if json
            else f"exported up to position {position}: resume with --after {position}"
        )
        + "\n"
    )
    return 0


@contextmanager
def _bar(*, shown: bool) -> Iterator[Callable[[int, int], object]]:
    """On a terminal, how far it is; what is exported may go there too, and then nothing does."""
    if not shown or not sys.stderr.isatty():
        yield lambda _position, _last: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and rarely wanted
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("exporting", total=None)
        yield lambda position, last: bar.update(task, completed=position, total=last)


def _aware(at: datetime | None) -> datetime | None:
    """Return a time without a zone as UTC."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at

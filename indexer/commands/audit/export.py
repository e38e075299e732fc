"""``indexer audit export``: the sealed log, to a file or to standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from json import dumps as json_dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import cyclopts

from indexer.commands.audit.proofs import write_proof
from indexer.commands.audit.shared import Action, Actor, Prefix, Repository, Tag
from indexer.commands.common import AsJson, Config, actions_of, database_url, read_settings, run_async
from indexer.common.errors import ConfigurationError

if TYPE_CHECKING:
    from indexer.audit.export import Export
    from indexer.audit.files import FileStanding
    from indexer.store.pool import Connection


def audit_export(
    *,
    config: Config = None,
    format: Annotated[  # noqa: A002 - the flag's name
        Literal["ndjson", "csv"],
        cyclopts.Parameter(help="How entries are written. Only NDJSON can be proven."),
    ] = "ndjson",
    after: Annotated[int | None, cyclopts.Parameter(help="Begin after this position.")] = None,
    until: Annotated[int | None, cyclopts.Parameter(help="End at this position.")] = None,
    repository: Repository = None,
    prefix: Prefix = None,
    tag: Tag = None,
    action: Action = None,
    actor: Actor = None,
    after_time: Annotated[
        datetime | None, cyclopts.Parameter(help="Only what happened after this time, like 2026-01-31.")
    ] = None,
    before_time: Annotated[
        datetime | None, cyclopts.Parameter(help="Only what happened before this time.")
    ] = None,
    output: Annotated[
        Path | None,
        cyclopts.Parameter(
            help="File to write. Default: standard output. A file that holds entries is not overwritten."
        ),
    ] = None,
    append: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(), help="Continue where the file ends; a proof is then for the whole file."
        ),
    ] = False,
    proof: Annotated[
        Path | None,
        cyclopts.Parameter(
            help="Write the proof of these entries to this file, and add to the entries what `verify` needs. The "
            "export then ends with the newest checkpoint."
        ),
    ] = None,
    json: AsJson = False,
) -> int:
    """Write the sealed entries to a file, in the order of their positions; stderr says where to resume."""
    from indexer.audit.export import Export  # noqa: PLC0415
    from indexer.store.listing.audit import AuditFilter  # noqa: PLC0415

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
    filtered = filters != AuditFilter()
    if proof is not None and (format != "ndjson" or filtered):
        raise ConfigurationError(
            "--proof is for NDJSON without filters: a proof is of every entry of a part of the log"
        )
    if append and output is None:
        raise ConfigurationError("--append goes on with a file: name it with --output")
    standing = None if output is None else _standing(output, format)
    begin = _begin(output, standing, after=after, until=until, append=append, filtered=filtered)
    if standing is not None and proof is not None and not standing.provable:
        raise ConfigurationError(
            f"{output} was made without --proof and cannot be proven: export to another file"
        )
    wanted = Export(
        format=format, after_position=begin, until=until, filters=filters, proof=proof is not None
    )
    shown = not json and (output is not None or not sys.stdout.isatty())
    done = run_async(_export(database_url(settings), wanted, _Files(output, standing, proof), shown=shown))
    _say(done, json=json)
    return 0


@dataclass(frozen=True, slots=True)
class _Files:
    """Where to: standard output where there is no ``output``, which holds ``standing`` already."""

    output: Path | None
    standing: FileStanding | None
    proof: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """The position reached, and how many entries stand behind it that no checkpoint counts yet."""

    position: int
    unsigned: int


def _standing(output: Path, format: Literal["ndjson", "csv"]) -> FileStanding | None:  # noqa: A002 - the flag's name
    """Return what the file holds that is to be written; None: nothing, or it is no file."""
    from indexer.audit.files import find_standing  # noqa: PLC0415

    return find_standing(output, format=format) if output.is_file() else None


def _begin(
    output: Path | None,
    standing: FileStanding | None,
    *,
    after: int | None,
    until: int | None,
    append: bool,
    filtered: bool,
) -> int:
    """Return the position to go on behind. Raise ``ConfigurationError`` where the file would not be one export then."""
    if standing is None:
        return after or 0
    if after is None and not append:
        raise ConfigurationError(
            f"{output} holds an export that ends with entry {standing.last}: --append goes on behind it; else name "
            "another file"
        )
    begin = standing.last if after is None else after
    if begin < standing.last or (begin > standing.last and not filtered):
        raise ConfigurationError(
            f"{output} ends with entry {standing.last}, and behind it comes not what follows {begin}: --append goes "
            "on where it ends"
        )
    if until is not None and until < begin:
        raise ConfigurationError(f"{output} ends with entry {standing.last}, which is behind --until {until}")
    return begin


async def _export(url: str, wanted: Export, files: _Files, *, shown: bool) -> _Done:
    from functools import partial  # noqa: PLC0415

    from indexer.audit.export import export_from  # noqa: PLC0415
    from indexer.audit.files import appended, whole  # noqa: PLC0415
    from indexer.store.listing.audit import head_position  # noqa: PLC0415
    from indexer.store.pool import close_pool, connection, open_pool  # noqa: PLC0415

    pool = await open_pool(url, size=2, application="indexer audit export")
    try:
        async with connection(pool) as held:
            head = await head_position(held)
            await _check_goes_on(held, files, head=head)
        last = wanted.until
        with ExitStack() as stack:
            # The proof has its name last: an export that is longer than it is taken up again by --append.
            if files.proof is not None:
                out = stack.enter_context(whole(files.proof))
                first = wanted.after_position + 1 if files.standing is None else files.standing.first
                last = await write_proof(pool, out, after=first - 1, until=wanted.until)
                _check_counted(files, last)
            if files.output is None:
                target: BinaryIO = sys.stdout.buffer
            else:
                open_file = whole if files.standing is None else appended
                target = stack.enter_context(open_file(files.output))

            async def write(part: bytes) -> None:
                target.write(part)

            with _bar(shown=shown) as reached:
                opened = partial(connection, pool)
                position = await export_from(opened, replace(wanted, until=last), write, reached=reached)
            target.flush()
    finally:
        await close_pool(pool)
    unsigned = head - position if files.proof is not None and wanted.until is None else 0
    return _Done(position=position, unsigned=max(0, unsigned))


async def _check_goes_on(held: Connection, files: _Files, *, head: int) -> None:
    """Raise ``ConfigurationError`` where the log is not the one that the file is of: it was put back since."""
    from indexer.audit.leaf import leaf_of  # noqa: PLC0415
    from indexer.audit.prove import leaves_of  # noqa: PLC0415

    standing = files.standing
    if standing is None:
        return
    entry, other = standing.last_entry, standing.last > head
    if not other and standing.provable and entry is not None:
        other = [leaf_of(entry)] != await leaves_of(held, first=standing.last, last=standing.last)
    if other:
        raise ConfigurationError(
            f"entry {standing.last}, with which {files.output} ends, is not in this log, which has {head}: it was put "
            "back to an earlier state, or is another. Keep the file, and export to another"
        )


def _check_counted(files: _Files, last: int) -> None:
    if files.standing is not None and last < files.standing.last:
        raise ConfigurationError(
            f"{files.output} ends with entry {files.standing.last}, and the newest checkpoint counts {last}"
        )


def _say(done: _Done, *, json: bool) -> None:
    if json:
        sys.stderr.write(json_dumps({"position": done.position, "unsigned": done.unsigned}) + "\n")
        return
    behind = f"; {done.unsigned} entries behind it are not signed yet" if done.unsigned else ""
    sys.stderr.write(
        f"exported up to position {done.position}: resume with --after {done.position}{behind}\n"
    )


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

"""What the verbs of ``indexer audit`` share: where they write, and the database of the log."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import cyclopts

from indexer.commands.common import database_url

if TYPE_CHECKING:
    from indexer.settings import Settings
    from indexer.store.pool import Pool

Repository = Annotated[str | None, cyclopts.Parameter(help="Only of this repository.")]
Prefix = Annotated[
    str | None, cyclopts.Parameter(help="Only of repositories whose name begins with this, like team/.")
]
Tag = Annotated[str | None, cyclopts.Parameter(help="Only of tags with this name.")]
Action = Annotated[
    str | None,
    cyclopts.Parameter(help="Only these actions, separated by commas, like tag.moved,tag.deleted."),
]
Actor = Annotated[str | None, cyclopts.Parameter(help="Only by whom the registry gave this name.")]
"""Filters of the log."""

Output = Annotated[Path | None, cyclopts.Parameter(help="File to write. Default: standard output.")]


@contextmanager
def writing(output: Path | None) -> Iterator[BinaryIO]:
    """Write to a file, which appears whole or not at all; None is standard output."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from indexer.audit.files import whole  # noqa: PLC0415

    with whole(output) as file:
        yield file


@asynccontextmanager
async def open_log(settings: Settings, *, limited: bool = True) -> AsyncIterator[Pool]:
    """Open a pool on a database whose schema is current; ``limited``: statements have the usual time limit."""
    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import close_pool, connection, open_pool  # noqa: PLC0415

    pool = await open_pool(database_url(settings), size=2, application="indexer audit", limited=limited)
    try:
        async with connection(pool) as held:
            await check(held)
        yield pool
    finally:
        await close_pool(pool)

"""``indexer audit follow``: the log as it grows, to standard output."""

from __future__ import annotations

import sys
from json import loads
from typing import Annotated

import cyclopts

from indexer.commands.audit.shared import Action, Actor, Prefix, Repository, Tag
from indexer.commands.common import AsJson, Config, actions_of, database_url, read_settings, run_async


def audit_follow(
    *,
    config: Config = None,
    after: Annotated[
        int | None, cyclopts.Parameter(help="Begin after this position. Default: only new entries.")
    ] = None,
    repository: Repository = None,
    prefix: Prefix = None,
    tag: Tag = None,
    action: Action = None,
    actor: Actor = None,
    json: AsJson = False,
) -> int:
    """Print entries as they are sealed, in the order of their positions, until Ctrl-C."""
    from indexer.audit.follow import follow, line_of  # noqa: PLC0415
    from indexer.store.listing.audit import AuditFilter  # noqa: PLC0415
    from indexer.store.pool import close_pool, open_pool  # noqa: PLC0415

    settings = read_settings(config, logs=False)
    url = database_url(settings)
    filters = AuditFilter(
        repositories=() if repository is None else (repository,),
        prefix=prefix,
        tag=tag,
        actions=actions_of(action),
        actor=actor,
    )

    async def show(part: bytes) -> None:
        lines = part if json else b"".join(f"{line_of(loads(e))}\n".encode() for e in part.splitlines())
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()

    async def work() -> int:
        pool = await open_pool(url, size=2, application="indexer audit follow")
        try:
            await follow(pool, url, after_position=after, show=show, filters=filters)
        finally:
            await close_pool(pool)
        return 0

    try:
        return run_async(work())
    except KeyboardInterrupt:  # how following ends
        return 0

"""``reconciler restore``: puts deleted tags back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.commands.common import AsJson, Config, database_url, read_settings, run_async
from indexer.common.errors import ConfigurationError
from reconciler.commands.acting import Detach, Reason, Yes, run_job
from reconciler.commands.delete import lines_of

if TYPE_CHECKING:
    from pathlib import Path

What = Annotated[
    list[str],
    cyclopts.Parameter(
        help="Tags as REPOSITORY:TAG, or the id of a job that deleted tags: all of these.", negative=()
    ),
]


def restore(
    what: What,
    /,
    *,
    force: Annotated[
        bool,
        cyclopts.Parameter(negative=(), help="Also over a tag that points to something else by now."),
    ] = False,
    yes: Yes = False,
    reason: Reason = None,
    detach: Detach = False,
    json: AsJson = False,
    config: Config = None,
) -> int:
    """Put deleted tags back with everything they need, as they were: same manifest, same dates.

    Whether that is possible is found out before anything is changed: every blob must really be there. Exit 0: every tag
    is back; 1: one is not, and the output says why.
    """
    params: dict[str, Any] = {"tags": _tags_of(what, config), "force": force}
    return run_job(
        "restore",
        params,
        command="reconciler restore",
        yes=yes,
        reason=reason,
        detach=detach,
        config=config,
        json=json,
        text_of=lines_of,
    )


def _tags_of(what: list[str], config: Path | None) -> list[str]:
    """Return the tags that are named, those of jobs included."""
    jobs = [text for text in what if _is_id(text)]
    tags = [text for text in what if not _is_id(text)]
    if not jobs:
        return tags
    settings = read_settings(config, logs=True)

    async def find() -> int:
        from indexer.store import tag_actions as store  # noqa: PLC0415
        from indexer.store.pool import connect, translated  # noqa: PLC0415

        held = await connect(database_url(settings), application="reconciler restore")
        try:
            async with translated():
                for job in jobs:
                    actions = [
                        each
                        for each in await store.of_job(held, job=uuid.UUID(job))
                        if each.kind == "delete" and each.done_at is not None
                    ]
                    if not actions:
                        raise ConfigurationError(f"{job} is no job that deleted tags")
                    tags.extend(f"{each.repository}:{each.tag}" for each in actions)
        finally:
            await held.close()
        return 0

    run_async(find())
    return tags


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

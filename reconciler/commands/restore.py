"""``reconciler restore``: puts deleted tags and manifests back."""

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
        help="Tags as REPOSITORY:TAG, manifests as REPOSITORY@DIGEST, or the id of a job: all that it deleted.",
        negative=(),
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
    """Put deleted tags back with everything they need, as they were: same manifest, same dates. Manifests, too.

    Whether that is possible is found out before anything is changed: every blob must really be there. Exit 0: all of it
    is back; 1: something is not, and the output says why.
    """
    names = names_of(what, config)
    params: dict[str, Any] = {
        "tags": [name for name in names if "@" not in name],
        "manifests": [name for name in names if "@" in name],
        "force": force,
    }
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


def names_of(what: list[str], config: Path | None) -> list[str]:
    """Return the tags and manifests that are named, those of jobs included."""
    jobs = [text for text in what if _is_id(text)]
    names = [text for text in what if not _is_id(text)]
    if not jobs:
        return names
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
                        if each.kind in ("delete", "unlink") and each.done_at is not None
                    ]
                    if not actions:
                        raise ConfigurationError(f"{job} is no job that deleted tags or manifests")
                    names.extend(
                        f"{each.repository}:{each.tag}" if each.tag else f"{each.repository}@{each.digest}"
                        for each in actions
                    )
        finally:
            await held.close()
        return 0

    run_async(find())
    return names


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

"""``reconciler delete``: deletes tags, and only these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import cyclopts

from indexer.commands.common import AsJson, Config
from reconciler.commands.acting import Detach, Reason, Yes, run_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from indexer.jobs.job import Job

Tags = Annotated[list[str], cyclopts.Parameter(help="Tags, each as REPOSITORY:TAG.", negative=())]


def delete(
    tags: Tags,
    /,
    *,
    yes: Yes = False,
    reason: Reason = None,
    detach: Detach = False,
    json: AsJson = False,
    config: Config = None,
) -> int:
    """Delete tags of the registry, and only these: other tags of the same manifest stay.

    A push that lands while a tag is deleted is put back. What is deleted can be restored, see `reconciler restore`.
    Exit 0: every tag is gone; 1: one is not, and the output says why.
    """
    return run_job(
        "delete",
        {"tags": tags},
        command="reconciler delete",
        yes=yes,
        reason=reason,
        detach=detach,
        config=config,
        json=json,
        text_of=lines_of,
    )


def lines_of(job: Job) -> Sequence[str]:
    """Return a line for each tag or manifest of a job's result."""
    tags = (job.result or {}).get("tags", [])
    return [f"{_name(each)}: {each['outcome']}: {each['text']}" for each in tags]


def _name(result: Mapping[str, str | None]) -> str:
    tag = result["tag"]
    return f"{result['repository']}@{result['digest']}" if tag is None else f"{result['repository']}:{tag}"

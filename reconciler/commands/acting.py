"""What the verbs that act share: they ask for a job, execute it if no daemon does, and wait for its end.

Exit 0: done; 1: failed, cancelled, or it still waits; 3: the brake held it back; 64: asked for in a wrong way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.commands.common import database_url, name_process, operator, read_settings, run_async
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.common.terminal import write_lines
from reconciler.commands.shared import write_json

if TYPE_CHECKING:
    from indexer.jobs.job import Asked, Job

Yes = Annotated[
    bool,
    cyclopts.Parameter(name="--yes", negative=(), help="Do it. Without this, nothing is done (exit 64)."),
]
Reason = Annotated[
    str | None, cyclopts.Parameter(name="--reason", help="Why; it goes into the audit log with your name.")
]
Detach = Annotated[
    bool,
    cyclopts.Parameter(
        name="--detach",
        negative=(),
        help="Do not wait for the end: print the job, which `reconciler run` executes.",
    ),
]


def run_job(
    kind: str,
    params: Mapping[str, Any],
    *,
    command: str,
    yes: bool,
    reason: str | None,
    detach: bool,
    config: Path | None,
    json: bool,
    text_of: Callable[[Job], Sequence[str]] | None = None,
) -> int:
    """Ask for a job, wait for its end, print it, and return the exit code.

    ``command``: the verb as it is typed, for the log and for messages. ``text_of``: what to print of a job that is
    done, line by line; None: its result's members.
    """
    if not yes:
        raise ConfigurationError(
            f"nothing was done: `{command}` changes the registry, and does so only with --yes"
        )
    settings = read_settings(config, logs=True)
    asked = ask_for(kind, params, command=command, reason=reason)
    name_process(command)

    async def work() -> int:
        from reconciler.commands.following import follow  # noqa: PLC0415

        job = await follow(settings, database_url(settings), asked, detach=detach, quiet=json)
        return finish(job, json=json, detached=detach, text_of=text_of)

    return run_async(work())


def ask_for(kind: str, params: Mapping[str, Any], *, command: str, reason: str | None) -> Asked:
    """Return what a verb asks for; raise ``ConfigurationError`` for parameters that the kind does not take."""
    from pydantic import ValidationError  # noqa: PLC0415

    from indexer.jobs.job import Asked  # noqa: PLC0415
    from indexer.jobs.kinds import KINDS  # noqa: PLC0415

    known = KINDS[kind]
    try:
        wanted = known.params.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{where}: {str(first['msg']).removeprefix('Value error, ')}") from None
    who = operator(command)
    return Asked(
        kind=kind,
        acts=known.acts_with(wanted),
        params=wanted.model_dump(mode="json"),
        repositories=known.repositories(wanted),
        asked_by=who.name,
        asked_from=who.host,
        asked_with=command,
        reason=reason,
        bounds={},
    )


def finish(
    job: Job, *, json: bool, detached: bool = False, text_of: Callable[[Job], Sequence[str]] | None = None
) -> int:
    """Print a job, and return the exit code that its state means."""
    if json:
        write_json(job.show())
    else:
        write_lines(_lines(job, detached=detached, text_of=text_of))
    return exit_code_of(job, detached=detached)


def exit_code_of(job: Job, *, detached: bool = False) -> int:
    """Return the exit code that a job's state means; ``detached``: that it waits is no failure.

    A job that was done and found damage is a failure, as the command line has it.
    """
    if job.state == "done" and job.result is not None and job.result.get("damaged"):
        return exit_codes.FAILED
    if job.state == "done" or (detached and not job.state.has_ended):
        return 0
    if job.state == "failed" and job.result is not None and job.result.get("brake"):
        return exit_codes.BRAKE
    return exit_codes.FAILED


def _lines(job: Job, *, detached: bool, text_of: Callable[[Job], Sequence[str]] | None) -> Sequence[str]:
    if job.state == "done":
        return text_of(job) if text_of is not None else [f"done: job {job.id}", *_members(job.result or {})]
    if job.state == "failed":
        return [f"failed: {job.error}", f"  job {job.id}"]
    if job.state == "cancelled":
        return [f"cancelled by {job.cancelled_by}: job {job.id}"]
    if detached:
        return [f"job {job.id} {job.state}; follow it with `reconciler jobs watch {job.id}`"]
    return [
        f"job {job.id} is not done, it is {job.state}{f': {job.note}' if job.note else ''}",
        f"  `reconciler run` goes on with it; or `reconciler jobs cancel {job.id}`",
    ]


def _members(result: Mapping[str, Any]) -> list[str]:
    return [f"  {name}: {value}" for name, value in result.items() if value not in (None, [], {}, "")]


def warn(line: str) -> None:
    """Say something about the wait, on stderr, where no JSON is expected."""
    sys.stderr.write(line + "\n")

"""``reconciler storage``: reads the registry's storage, beside the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.commands.common import AsJson, Config, database_url, name_process, read_settings, run_async
from indexer.common.errors import ConfigurationError
from indexer.common.terminal import write_lines
from reconciler.commands import storage_import
from reconciler.commands.acting import Detach, Reason, Yes, run_job
from reconciler.commands.shared import write_json

if TYPE_CHECKING:
    from indexer.jobs.job import Job

app = cyclopts.App(
    name="storage",
    help="Read the registry's storage: its past, what cannot be pulled and why, and what its bytes belong to.",
)
app.command(storage_import.import_storage, name="import")

Unproven = Annotated[
    bool,
    cyclopts.Parameter(
        name="--unproven-storage",
        negative=(),
        help="Read it even if nothing shows that it is this registry's storage. Every output says so.",
    ),
]

SHOWN = 50


@app.command
def check(
    *,
    content: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="Compare the bytes of every blob with its digest, not only those of manifests: all is read.",
        ),
    ] = False,
    max_rate: Annotated[
        str,
        cyclopts.Parameter(
            name="--max-rate", help="How fast blobs are read at most, in a second: like 100MiB."
        ),
    ] = "100MiB",
    settle: Annotated[
        str,
        cyclopts.Parameter(
            help="What looks damaged is read a second time after this: a push or a deletion may be under way."
        ),
    ] = "45s",
    repair: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="Write links again that are empty, cut off or wrong, where their path says what they must hold, and "
            "the bytes of it are right. Needs --yes.",
        ),
    ] = False,
    yes: Yes = False,
    unproven_storage: Unproven = False,
    reason: Reason = None,
    detach: Detach = False,
    json: AsJson = False,
    config: Config = None,
) -> int:
    """Find what cannot be pulled, and why: dangling tags, spoiled links, missing or wrong blobs.

    Nothing is changed in the storage, except with --repair. Exit 0: nothing is damaged; 1: something is, or it failed.
    """
    return run_job(
        "storage-check",
        {
            "content": content,
            "bytes_per_second": _rate(max_rate),
            "settle_seconds": _seconds(settle),
            "unproven_storage": unproven_storage,
            "repair": repair,
        },
        command="reconciler storage check",
        yes=yes or not repair,
        reason=reason,
        detach=detach,
        config=config,
        json=json,
        text_of=lambda job: list(check_lines(job)),
    )


@app.command
def report(
    *,
    repository: Annotated[
        str | None, cyclopts.Parameter(help="Also the tags of this repository, by what each would free.")
    ] = None,
    unproven_storage: Unproven = False,
    json: AsJson = False,
    config: Config = None,
) -> int:
    """Show where the bytes of the storage are, and what would free them.

    Exit 0: the report is whole; 1: failed, and nothing was recorded.
    """
    from indexer.oci.reference import parse_repository_name  # noqa: PLC0415
    from reconciler.app import build  # noqa: PLC0415
    from reconciler.storage.report import make_report, report_json, report_lines  # noqa: PLC0415

    try:
        name = None if repository is None else parse_repository_name(repository)
    except ValueError as error:
        raise ConfigurationError(f"--repository: {error}") from None
    settings = read_settings(config, logs=True)
    name_process("reconciler storage report")

    async def work() -> int:
        async with build(settings, database_url=database_url(settings)) as components:
            made = await make_report(components, unproven=unproven_storage, with_tags=name is not None)
        if json:
            write_json(report_json(made, repository=name))
        else:
            write_lines(report_lines(made, repository=name))
        return 0

    return run_async(work())


def check_lines(job: Job) -> Iterator[str]:
    """Return what a check found, for people."""
    result: dict[str, Any] = dict(job.result or {})
    yield result["proof"]["text"]
    compared = "the bytes of all" if result["content"] else f"the bytes of {result['compared']}"
    yield f"{result['repositories']} repositories and {result['blobs']} blobs read, {compared} compared"
    for each in result["findings"][:SHOWN]:
        where = each["repository"] or "no repository"
        yield f"{each['severity']:<9} {each['code']} in {where}: {each['text']}"
        yield f"          {each['advice']} ({each['path']})"
    more = len(result["findings"][SHOWN:]) + result["left_out"]
    if more:
        yield f"and {more} more: GET /api/v1/storage/findings"
    for each in result.get("repairs", []):
        yield f"written again: {each['path']}"
    yield f"{result['damaged']} damaged, {result['new']} of them new; {result['harmless']} harmless"


def _rate(text: str) -> int:
    from indexer.common.values import parse_size  # noqa: PLC0415

    try:
        return parse_size(text)
    except ValueError as error:
        raise ConfigurationError(f"--max-rate: {error}") from None


def _seconds(text: str) -> int:
    from indexer.common.values import parse_duration  # noqa: PLC0415

    try:
        return int(parse_duration(text).total_seconds())
    except ValueError as error:
        raise ConfigurationError(f"--settle: {error}") from None

"""``reconciler once``: one reconcile, and what it came to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import cyclopts

from indexer.commands.common import (
    AsJson,
    Config,
    database_url,
    name_process,
    operator,
    read_settings,
    run_async,
)
from indexer.common import exit_codes
from indexer.common.rfc3339 import format_time
from indexer.common.terminal import write_lines
from reconciler.commands.shared import (
    OF_CACHE,
    MaxRate,
    OnlyRepositories,
    at_most,
    parse_scope,
    progress_bar,
    write_json,
)

if TYPE_CHECKING:
    from reconciler.drift.report import RunReport

LINES_OF_BRAKE = 20


def once(
    *,
    repository: OnlyRepositories = None,
    quick: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="Only ask where tags point; do not read manifests again that were read recently.",
        ),
    ] = False,
    release_brake: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="This once, delete from the inventory what the brake held back. Read the report first.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="Continue a reconcile that was interrupted, or help with a running one. What it has already "
            "compared is not compared again.",
        ),
    ] = False,
    max_rate: MaxRate = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Compare the whole registry with the inventory once, and repair the inventory.

    Exit 0: they agree now; 1: failed or incomplete; 3: the brake held deletions back.
    """
    from reconciler.app import build  # noqa: PLC0415
    from reconciler.app import once as reconcile_once  # noqa: PLC0415

    settings = at_most(read_settings(config, logs=True), max_rate)
    scope = parse_scope(repository)
    name_process("reconciler once")

    async def work() -> int:
        async with build(settings, database_url=database_url(settings)) as components:
            with progress_bar(quiet=json) as on_progress:
                report = await reconcile_once(
                    components,
                    scope=scope,
                    release_brake=release_brake,
                    thorough=not quick,
                    operator=operator("reconciler once"),
                    resume=resume,
                    on_progress=on_progress,
                )
        print_report(report, as_json=json)
        return _exit_code(report)

    return run_async(work())


def _exit_code(report: RunReport) -> int:
    from indexer.store.drift import RunOutcome  # noqa: PLC0415

    if report.outcome is RunOutcome.BRAKED:
        return exit_codes.BRAKE
    waiting = any(name.startswith("waiting_") for name, count in report.counts.items() if count)
    return 0 if report.outcome is RunOutcome.COMPLETE and not waiting else exit_codes.FAILED


def print_report(report: RunReport, *, as_json: bool) -> None:
    """Print what a reconcile came to, for people or for machines."""
    if as_json:
        write_json(report.show())
        return
    counts = report.counts
    if report.resumed_from is not None:
        write_lines([f"continued the reconcile that began at {format_time(report.resumed_from)}"])
    found = f"{counts['found']} tags found, " if counts["found"] else ""
    sys.stdout.write(
        f"{report.outcome}: {counts['repositories']} repositories, {counts['tags']} tags compared, "
        f"{found}{counts['changed']} repaired, {report.undecided_count} undecided"
        f"{f', {report.left_out_count} left out' if report.left_out_count else ''}\n"
    )
    if report.of_cache:
        sys.stdout.write(OF_CACHE)
    for reason in report.reasons:
        write_lines([f"  undecided: {reason}"])
    for reason in report.left_out:
        write_lines([f"  left out: {reason}"])
    for name, count in counts.items():
        if name.startswith("waiting_") and count:
            kind = name.removeprefix("waiting_")
            write_lines([f"  still waiting: {count} to {kind}; see `reconciler status`"])
    if report.brake is not None:
        _print_brake(report)


def _print_brake(report: RunReport) -> None:
    write_lines([f"brake pulled: {report.brake}"])
    if report.counts["held_back"] <= LINES_OF_BRAKE:
        write_lines(f"  would delete {finding.repository}:{finding.tag}" for finding in report.held_back)
    else:  # by repository: the first tags by name are nearly always of one
        write_lines(
            f"  would delete {count} {'tag' if count == 1 else 'tags'} of {name}"
            for name, count in report.held_back_by_repository.items()
        )
        write_lines([f"  … {report.counts['held_back']} tags and manifests in all"])
    sys.stdout.write("if the registry is right, release it once: reconciler once --release-brake\n")

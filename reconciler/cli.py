"""The verbs of ``reconciler``: run, once, plan, status, doctor. Each imports only what it needs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.command import (
    EXIT_FAILED,
    EXIT_MISUSED,
    database_url,
    name_process,
    operator,
    read_settings,
    refuse_verb_of,
    run_async,
    run_verb,
    version,
)
from indexer.common.errors import ConfigurationError
from indexer.common.rfc3339 import format_time
from indexer.common.terminal import write_lines
from indexer.oci.reference import RepositoryName, parse_repository_name

if TYPE_CHECKING:
    from indexer.settings import Settings
    from reconciler.drift.plan import Plan
    from reconciler.drift.report import Progress, RunReport

INDEXER_VERBS = frozenset(
    {"up", "serve", "migrate", "openapi", "jwks", "inbox", "audit", "feeds", "policies"}
)
LINES_OF_BRAKE = 20
EXIT_DRIFT = 2
EXIT_BRAKE = 3

_ALWAYS_COUNTED = (
    "repositories",
    "tags",
    "manifests",
    "changed",
    "held_back",
    "undecided",
    "repositories_undecided",
)
"""What a report for machines counts even where there was none."""

_OF_CACHE = (
    "the registry is a pull-through cache: nothing is compared; what is pulled through it is on record\n"
)

Config = Annotated[
    Path | None, cyclopts.Parameter(name="--config", help="TOML file with settings; the environment wins.")
]
AsJson = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Print JSON for machines.")]
Scope = Annotated[
    list[str] | None,
    cyclopts.Parameter(
        name="--repository",
        negative=(),
        consume_multiple=True,
        help="Only these repositories. Their tags and manifests are compared; the catalog is not read.",
    ),
]

MaxRate = Annotated[
    float | None,
    cyclopts.Parameter(
        name="--max-rate", help="Requests a second that the walk may send; instead of RECONCILER_MAX_RATE."
    ),
]

app = cyclopts.App(
    name="reconciler",
    version=version,
    help_format="plaintext",
    help="Goes and looks: verifies tags, reads manifests, walks the registry for drift, and repairs the "
    "inventory. Settings are environment variables or a TOML file; see docs/reference/settings.md.",
)

checkpoint = cyclopts.App(name="checkpoint", help="Checkpoints of the audit log in the registry.")
app.command(checkpoint)


def main() -> None:
    """Run the command line."""
    # 2 is `plan`'s word for drift. A daemon says it as `indexer serve` does: whoever starts it again should not.
    run_verb(_run, misused=EXIT_MISUSED if sys.argv[1:2] == ["run"] else EXIT_FAILED)


def _run() -> int:
    refuse_verb_of("indexer", INDEXER_VERBS)
    code = app(exit_on_error=True, result_action="return_value")
    return code if isinstance(code, int) else 0


@app.command
def run(*, max_rate: MaxRate = None, config: Config = None) -> int:
    """Keep the inventory right: verify, read and walk until stopped."""
    from reconciler.daemon import run as run_loops  # noqa: PLC0415

    settings = _at_most(read_settings(config, logs=True), max_rate)
    name_process("reconciler run")
    return run_async(run_loops(settings, database_url=database_url(settings)))


@app.command
def once(
    *,
    repository: Scope = None,
    quick: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="Ask only where tags point; do not read again the manifests that were read lately.",
        ),
    ] = False,
    release_brake: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(), help="Delete what the brake held back, this once. Look at the report first."
        ),
    ] = False,
    resume: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="Go on with a walk that was interrupted, or help with one under way, if there is one: what it "
            "compared already is not compared again.",
        ),
    ] = False,
    max_rate: MaxRate = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Walk the registry once and repair the inventory. Exit 0: in step; 1: failed or incomplete; 3: brake pulled."""
    from reconciler.app import build  # noqa: PLC0415
    from reconciler.app import once as reconcile_once  # noqa: PLC0415

    settings = _at_most(read_settings(config, logs=True), max_rate)
    scope = _scope(repository)
    name_process("reconciler once")

    async def work() -> int:
        async with build(settings, database_url=database_url(settings)) as components:
            with _progress(quiet=json) as on_progress:
                report = await reconcile_once(
                    components,
                    scope=scope,
                    release_brake=release_brake,
                    thorough=not quick,
                    operator=operator("reconciler once"),
                    resume=resume,
                    on_progress=on_progress,
                )
        _print_report(report, as_json=json)
        return _exit_code(report)

    return run_async(work())


@app.command
def plan(
    *, repository: Scope = None, max_rate: MaxRate = None, config: Config = None, json: AsJson = False
) -> int:
    """Show what `once` would change; touch nothing. Exit 0: in step; 2: drift found; 1: failed or incomplete."""
    from reconciler.app import build  # noqa: PLC0415
    from reconciler.app import plan as look  # noqa: PLC0415

    settings = _at_most(read_settings(config, logs=True), max_rate)
    scope = _scope(repository)
    name_process("reconciler plan")

    async def work() -> int:
        async with build(settings, database_url=database_url(settings)) as components:
            with _progress(quiet=json) as on_progress:
                made = await look(components, scope=scope, on_progress=on_progress)
        _print_plan(made, as_json=json)
        if made.undecided:
            return EXIT_FAILED
        return EXIT_DRIFT if made.differences else 0

    return run_async(work())


@app.command
def doctor(
    *,
    probe_repository: Annotated[
        str, cyclopts.Parameter(help="Where the canary is pushed; the user needs pull, push and delete.")
    ] = "registry-indexer-doctor/canary",
    read_only: Annotated[bool, cyclopts.Parameter(negative=(), help="Push no canary; only look.")] = False,
    indexer_url: Annotated[
        str | None,
        cyclopts.Parameter(help="Where `indexer serve` is reached from here, if not at INDEXER_LISTEN."),
    ] = None,
    patience: Annotated[
        str, cyclopts.Parameter(help="How long each link of the canary's way may take, like 15s.")
    ] = "15s",
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Find the broken link between a push and its listing. Exit 0: all is well; 1: the last lines name it."""
    from reconciler.diagnosis import examine, parse_patience, prepare  # noqa: PLC0415

    settings = prepare(
        config,
        probe_repository=probe_repository,
        indexer_url=indexer_url,
        read_only=read_only,
        patience_seconds=parse_patience(patience),
    )
    name_process("reconciler doctor")
    return run_async(examine(settings, as_json=json))


@checkpoint.command
def push(*, config: Config = None, json: AsJson = False) -> int:
    """Push the newest checkpoint of the audit log into RECONCILER_CHECKPOINT_REPOSITORY now."""
    from reconciler.app import build, push_checkpoint  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    name_process("reconciler checkpoint push")

    async def work() -> int:
        async with build(settings, database_url=database_url(settings)) as components:
            repository, result = await push_checkpoint(components)
        said = {
            "outcome": result.outcome,
            "repository": repository,
            "tag": result.tag,
            "size": result.size,
            "digest": result.digest,
            "newest_size": result.newest_size,
        }
        text = (
            f"{result.outcome.replace('_', ' ')}: {repository}:{result.tag} {result.digest} counts {result.size} "
            f"entries of {result.newest_size}\n"
        )
        if json:
            _write_json(said)
        else:
            sys.stdout.write(text)
        return 0

    return run_async(work())


@app.command
def status(*, config: Config = None, json: AsJson = False) -> int:
    """Show what waits, the last walk, how well the tags are verified, and how every loop fares."""
    from reconciler.status import show_status  # noqa: PLC0415

    settings = read_settings(config, logs=False)
    return run_async(show_status(database_url(settings), as_json=json))


def _at_most(settings: Settings, max_rate: float | None) -> Settings:
    if max_rate is None:
        return settings
    if not 0 < max_rate < math.inf:
        raise ConfigurationError("--max-rate must be a number of requests a second above 0")
    return replace(settings, reconciler_max_rate=max_rate)


def _scope(names: list[str] | None) -> list[RepositoryName] | None:
    if not names:
        return None
    try:
        return [parse_repository_name(name) for name in names]
    except ValueError as error:
        raise ConfigurationError(f"--repository: {error}") from None


def _exit_code(report: RunReport) -> int:
    from indexer.store.drift import RunOutcome  # noqa: PLC0415

    if report.outcome is RunOutcome.BRAKED:
        return EXIT_BRAKE
    unsettled = any(name.startswith("waiting_") for name, count in report.counts.items() if count)
    return 0 if report.outcome is RunOutcome.COMPLETE and not unsettled else EXIT_FAILED


def _print_report(report: RunReport, *, as_json: bool) -> None:
    if as_json:
        _write_json(
            {
                "outcome": report.outcome,
                "counts": {name: report.counts[name] for name in _ALWAYS_COUNTED} | dict(report.counts),
                "undecided": report.reasons,
                "left_out": report.left_out,
                "brake": report.brake,
                "of_cache": report.of_cache,
                "resumed_from": None if report.resumed_from is None else format_time(report.resumed_from),
                "held_back": [
                    {"repository": finding.repository, "tag": finding.tag} for finding in report.held_back
                ],
                "held_back_by_repository": dict(report.held_back_by_repository),
            }
        )
        return
    counts = report.counts
    if report.resumed_from is not None:
        write_lines([f"went on with the walk that began at {format_time(report.resumed_from)}"])
    sys.stdout.write(
        f"{report.outcome}: {counts['repositories']} repositories, {counts['tags']} tags compared, "
        f"{counts['changed']} repaired, {report.undecided_count} undecided"
        f"{f', {report.left_out_count} left out' if report.left_out_count else ''}\n"
    )
    if report.of_cache:
        sys.stdout.write(_OF_CACHE)
    for reason in report.reasons:
        write_lines([f"  undecided: {reason}"])
    for reason in report.left_out:
        write_lines([f"  left out: {reason}"])
    for name, count in counts.items():
        if name.startswith("waiting_") and count:
            kind = name.removeprefix("waiting_")
            write_lines([f"  not settled yet: {count} to {kind}; see `reconciler status`"])
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


def _print_plan(made: Plan, *, as_json: bool) -> None:
    if as_json:
        _write_json(
            {
                "differences": [
                    {
                        "kind": item.kind,
                        "repository": item.repository,
                        "tag": item.tag,
                        "expected": item.expected,
                        "found": item.found,
                    }
                    for item in made.differences
                ],
                "undecided": made.undecided,
                "left_out": made.left_out,
                "of_cache": made.of_cache,
                "counts": {"repositories": made.repositories, "tags": made.tags},
            }
        )
        return
    for item in made.differences:
        name = f"{item.repository}:{item.tag}" if item.tag else f"{item.repository}@{item.expected}"
        write_lines([f"{item.kind:<15} {name}  {item.expected or '-'} → {item.found or '-'}"])
    if made.of_cache:
        sys.stdout.write(_OF_CACHE)
    for reason in made.undecided:
        write_lines([f"undecided       {reason}"])
    for reason in made.left_out:
        write_lines([f"left out        {reason}"])
    sys.stdout.write(
        f"{made.repositories} repositories, {made.tags} tags compared, {len(made.differences)} differences\n"
    )


def _write_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and rarely wanted
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("repositories", total=None)
        yield lambda at: bar.update(
            task, completed=at.repositories, total=at.total, description=f"repositories ({at.tags} tags)"
        )

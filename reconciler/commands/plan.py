"""``reconciler plan``: what a reconcile would change."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from indexer.commands.common import (
    AsJson,
    Config,
    database_url,
    name_process,
    read_settings,
    run_async,
)
from indexer.common import exit_codes
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
    from reconciler.drift.plan import Plan


def plan(
    *,
    repository: OnlyRepositories = None,
    max_rate: MaxRate = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Show what `once` would change, and change nothing.

    Exit 0: registry and inventory agree; 1: failed or incomplete; 2: differences were found.
    """
    from reconciler.app import build  # noqa: PLC0415
    from reconciler.app import plan as compare  # noqa: PLC0415

    settings = at_most(read_settings(config, logs=True), max_rate)
    scope = parse_scope(repository)
    name_process("reconciler plan")

    async def work() -> int:
        async with build(settings, database_url=database_url(settings)) as components:
            with progress_bar(quiet=json) as on_progress:
                made = await compare(components, scope=scope, on_progress=on_progress)
        _print_plan(made, as_json=json)
        if made.undecided:
            return exit_codes.FAILED
        return exit_codes.WOULD_CHANGE if made.differences else 0

    return run_async(work())


def _print_plan(made: Plan, *, as_json: bool) -> None:
    if as_json:
        write_json(
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
        sys.stdout.write(OF_CACHE)
    for reason in made.undecided:
        write_lines([f"undecided       {reason}"])
    for reason in made.left_out:
        write_lines([f"left out        {reason}"])
    sys.stdout.write(
        f"{made.repositories} repositories, {made.tags} tags compared, {len(made.differences)} differences\n"
    )

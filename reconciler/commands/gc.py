"""``reconciler gc``: what the registry's own collection of garbage would delete. Nothing here deletes anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts

from indexer.commands.common import (
    AsJson,
    Config,
    database_url,
    name_process,
    read_settings,
    run_async,
    with_database,
)
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.common.terminal import write_lines
from reconciler.commands.shared import write_json

if TYPE_CHECKING:
    from reconciler.collection.dry_run import DryRun
    from reconciler.collection.plan import CollectionPlan

app = cyclopts.App(name="gc", help="Show what the registry's garbage-collect would delete, and damage.")

DryRunText = Annotated[
    Path | None,
    cyclopts.Parameter(
        name="--from-dry-run",
        help="Read what the dry run of the registry's garbage-collect printed, not the storage. `-`: standard input.",
    ),
]


@app.command(name="plan")
def gc_plan(
    *,
    delete_untagged: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(), help="Of a collection with --delete-untagged (-m), which deletes untagged manifests."
        ),
    ] = False,
    registry_version: Annotated[
        Literal["2.8", "3"] | None,
        cyclopts.Parameter(help="Whose collection. Without it the registry is asked."),
    ] = None,
    from_dry_run: DryRunText = None,
    compare: Annotated[
        Path | None,
        cyclopts.Parameter(
            help="Compare with what the dry run of the registry's garbage-collect printed. Exit 1 if they differ."
        ),
    ] = None,
    unproven_storage: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(),
            help="Read it even if nothing shows that it is this registry's storage. Every output says so.",
        ),
    ] = False,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Show what the registry's garbage-collect would delete, and which images it would damage. Deletes nothing.

    Computed from the storage, as the registry's own dry run would say it. Exit 0: it would delete nothing; 2: it would
    delete something; 1: it would fail, the storage is not the registry's, or --compare found differences.
    """
    if from_dry_run is not None:
        if compare is not None or delete_untagged or registry_version or unproven_storage:
            raise ConfigurationError("--from-dry-run stands alone: the text says what it is of")
        return _from_text(from_dry_run, config=config, json=json)
    read = None if compare is None else _read(compare)
    settings = read_settings(config, logs=True)
    name_process("reconciler gc plan")

    async def work() -> int:
        import asyncio  # noqa: PLC0415
        import os  # noqa: PLC0415

        from reconciler.app import build  # noqa: PLC0415
        from reconciler.collection.planning import Asked, differences, plan_from_storage  # noqa: PLC0415
        from reconciler.collection.references import Release  # noqa: PLC0415
        from reconciler.storage.objects import open_storage  # noqa: PLC0415
        from reconciler.storage.whereabouts import descriptor_cache_of  # noqa: PLC0415

        storage = await asyncio.to_thread(open_storage, settings)
        asked = Asked(
            release=None if registry_version is None else Release(registry_version),
            delete_untagged=delete_untagged,
            unproven=unproven_storage,
            cache=descriptor_cache_of(settings, os.environ),
        )
        async with build(settings, database_url=database_url(settings)) as components:
            plan, collection = await plan_from_storage(components, storage, asked)
        differing = None if read is None else differences(collection, read)
        return _print(plan, differing, as_json=json)

    return run_async(work())


def _from_text(place: Path, *, config: Path | None, json: bool) -> int:
    from reconciler.collection.planning import plan_from_text  # noqa: PLC0415

    read = _read(place)
    if read.problem is not None:
        sys.stderr.write(f"reconciler: {read.problem}; what it would delete is not known\n")
        return exit_codes.FAILED

    async def work(held: object) -> int:
        return _print(await plan_from_text(held, read), None, as_json=json)  # type: ignore[arg-type]

    return with_database(config, work)


def _read(place: Path) -> DryRun:
    from reconciler.collection.dry_run import read_dry_run  # noqa: PLC0415

    try:
        if str(place) == "-":
            return read_dry_run(sys.stdin)
        with place.open(encoding="utf-8", errors="replace") as lines:
            return read_dry_run(lines)
    except OSError as error:
        raise ConfigurationError(f"{place} cannot be read: {error.strerror}") from None


def _print(plan: CollectionPlan, differing: list[str] | None, *, as_json: bool) -> int:
    from reconciler.collection.plan import plan_json, plan_lines  # noqa: PLC0415

    if as_json:
        write_json({**plan_json(plan), "differences": differing})
    else:
        write_lines(plan_lines(plan))
        if differing is not None:
            write_lines(differing or ["the dry run says the same"])
    if plan.fails or differing:
        return exit_codes.FAILED
    return exit_codes.WOULD_CHANGE if plan.would_delete else 0

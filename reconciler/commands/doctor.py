"""``reconciler doctor``: the chain from a push to its listing, examined link by link."""

from __future__ import annotations

from typing import Annotated

import cyclopts

from indexer.commands.common import AsJson, Config, name_process, run_async


def doctor(
    *,
    probe_repository: Annotated[
        str, cyclopts.Parameter(help="Where the canary is pushed; the user needs pull, push and delete.")
    ] = "registry-indexer-doctor/canary",
    read_only: Annotated[bool, cyclopts.Parameter(negative=(), help="Push no canary; only read.")] = False,
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
    from reconciler.commands.examine import examine, parse_patience, prepare  # noqa: PLC0415

    settings = prepare(
        config,
        probe_repository=probe_repository,
        indexer_url=indexer_url,
        read_only=read_only,
        patience_seconds=parse_patience(patience),
    )
    name_process("reconciler doctor")
    return run_async(examine(settings, as_json=json))

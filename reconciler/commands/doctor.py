"""``reconciler doctor``: the chain from a push to its listing, examined link by link."""

from __future__ import annotations

from typing import Annotated

import cyclopts

from indexer.commands.common import AsJson, Config, name_process, run_async


def doctor(
    *,
    probe_repository: Annotated[
        str,
        cyclopts.Parameter(
            help="Repository for the test image (the canary). The user needs pull, push and delete there."
        ),
    ] = "registry-indexer-doctor/canary",
    read_only: Annotated[bool, cyclopts.Parameter(negative=(), help="Push nothing; only read.")] = False,
    indexer_url: Annotated[
        str | None,
        cyclopts.Parameter(
            help="URL of `indexer serve` as this command reaches it. Default: from INDEXER_LISTEN."
        ),
    ] = None,
    patience: Annotated[
        str, cyclopts.Parameter(help="How long each step of the test image may take, like 15s.")
    ] = "15s",
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Push a test image, follow it to the listing, and name the first step that fails.

    Exit 0: every step works; 1: one failed, and the last lines name it.
    """
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

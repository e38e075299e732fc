"""``reconciler checkpoint``: checkpoints of the audit log in the registry."""

from __future__ import annotations

import sys

import cyclopts

from indexer.commands.common import AsJson, Config, database_url, name_process, read_settings, run_async
from reconciler.commands.shared import write_json

app = cyclopts.App(name="checkpoint", help="Push checkpoints of the audit log into the registry.")


@app.command
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
            write_json(said)
        else:
            sys.stdout.write(text)
        return 0

    return run_async(work())

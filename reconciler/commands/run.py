"""``reconciler run``: the daemon."""

from __future__ import annotations

from indexer.commands.common import Config, database_url, name_process, read_settings, run_async
from reconciler.commands.shared import MaxRate, at_most


def run(*, max_rate: MaxRate = None, config: Config = None) -> int:
    """Keep the inventory right until stopped: verify tags, read manifests, reconcile the whole registry regularly."""
    from indexer.common.log_thread import logs_in_a_thread  # noqa: PLC0415
    from reconciler.daemon import run as run_loops  # noqa: PLC0415

    settings = at_most(read_settings(config, logs=True), max_rate)
    name_process("reconciler run")
    with logs_in_a_thread():
        return run_async(run_loops(settings, database_url=database_url(settings)))

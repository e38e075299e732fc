"""``reconciler run``: the daemon."""

from __future__ import annotations

from indexer.commands.common import Config, read_settings
from reconciler.commands.shared import MaxRate, at_most


def run(*, max_rate: MaxRate = None, config: Config = None) -> int:
    """Keep the inventory right until stopped: verify tags, read manifests, reconcile the whole registry regularly."""
    from reconciler.commands.running import run as run_loops  # noqa: PLC0415

    return run_loops(at_most(read_settings(config, logs=True), max_rate))

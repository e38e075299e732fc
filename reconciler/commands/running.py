"""``reconciler run``, once its settings are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.commands.process import database_url, name_process, run_async

if TYPE_CHECKING:
    from indexer.settings import Settings


def run(settings: Settings) -> int:
    """Run the loops until they are stopped; return the exit code."""
    from indexer.common.log_thread import logs_in_a_thread  # noqa: PLC0415
    from reconciler.daemon import run as run_loops  # noqa: PLC0415

    name_process("reconciler run")
    with logs_in_a_thread():
        return run_async(run_loops(settings, database_url=database_url(settings)))

"""``indexer serve``, once its settings are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.commands.process import database_url, name_process, run_async

if TYPE_CHECKING:
    from indexer.settings import Settings


def serve(settings: Settings) -> int:
    """Run the server until it is stopped; return its exit code."""
    from indexer.app import serve as run_server  # noqa: PLC0415
    from indexer.common.heap import give_back_large_blocks  # noqa: PLC0415
    from indexer.common.log_thread import logs_in_a_thread  # noqa: PLC0415

    name_process("indexer serve")
    give_back_large_blocks()
    with logs_in_a_thread():
        return run_async(run_server(settings, database_url=database_url(settings)))

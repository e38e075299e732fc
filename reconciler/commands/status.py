"""``reconciler status``."""

from __future__ import annotations

from indexer.commands.common import AsJson, Config, database_url, read_settings, run_async


def status(*, config: Config = None, json: AsJson = False) -> int:
    """Show what waits, the last full reconcile, how many tags are verified, and the state of every loop."""
    from reconciler.commands.status_view import show_status  # noqa: PLC0415

    settings = read_settings(config, logs=False)
    takes_notices = not settings.proxy_secret_missing
    return run_async(show_status(database_url(settings), as_json=json, takes_notices=takes_notices))

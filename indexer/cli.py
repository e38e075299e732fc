"""The verbs of ``indexer``: up, serve, migrate, openapi, jwks. Each imports only what it needs.

The groups of verbs are loaded when one of theirs is asked for: ``cli_inbox``, ``cli_audit``, ``cli_feeds``,
``cli_policies``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from json import dumps as json_dumps
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from indexer.command import (
    database_url,
    name_process,
    read_settings,
    refuse_verb_of,
    run_async,
    run_verb,
    version,
)

RECONCILER_VERBS = frozenset({"run", "once", "plan", "status", "doctor", "checkpoint"})
OPENAPI = Path(__file__).with_name("api") / "openapi.json"
Config = Annotated[
    Path | None, cyclopts.Parameter(name="--config", help="TOML file with settings; the environment wins.")
]
AsJson = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Print JSON for machines.")]

app = cyclopts.App(
    name="indexer",
    version=version,
    help_format="plaintext",
    help="The memory of a container registry: receives its notifications, keeps inventory, history and audit "
    "log in PostgreSQL, and serves them over HTTP. Settings are environment variables or a TOML file; see "
    "docs/reference/settings.md.",
)
app.command("indexer.cli_inbox:app", name="inbox", help="Deliveries that could not be applied.")
app.command("indexer.cli_audit:app", name="audit", help="The audit log.")
app.command("indexer.cli_feeds:app", name="feeds", help="Where the audit log is delivered to.")
app.command("indexer.cli_policies:app", name="policies", help="The file of policies.")


def main() -> None:
    """Run the command line."""
    run_verb(_run)


def _run() -> int:
    refuse_verb_of("reconciler", RECONCILER_VERBS)
    code = app(exit_on_error=True, result_action="return_value")
    return code if isinstance(code, int) else 0


@app.command
def up(*, config: Config = None) -> int:
    """Run everything on this machine: embedded PostgreSQL (unless a database is set), server and reconciler."""
    from indexer.api.trust import read_trust  # noqa: PLC0415
    from indexer.feeds.sinks import read_feeds  # noqa: PLC0415
    from indexer.local.supervisor import UpSettings  # noqa: PLC0415
    from indexer.local.supervisor import up as run_up  # noqa: PLC0415
    from indexer.settings import CONFIG_VARIABLE  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    settings.check_tokens()
    read_trust(settings)  # a server that cannot start should not be started again and again
    read_feeds(settings.indexer_feeds_file)
    name_process("indexer up")
    token = settings.indexer_notifications_token
    given = settings.indexer_database_url
    named = {} if config is None else {CONFIG_VARIABLE: str(config.absolute())}
    return run_async(
        run_up(
            UpSettings(
                data_dir=settings.indexer_data_dir,
                registry_url=settings.reconciler_registry_url,
                database_url=given.get_secret_value() if given is not None else None,
                notifications_token=token.get_secret_value() if token is not None else None,
                listen=settings.indexer_listen,
                readable=not settings.nobody_may_read,
                environment={**os.environ, **named},
            )
        )
    )


@app.command
def serve(*, config: Config = None) -> int:
    """Receive notifications, apply them, and serve the APIs. Never calls the registry."""
    from indexer.app import serve as run_server  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    name_process("indexer serve")
    return run_async(run_server(settings, database_url=database_url(settings)))


@app.command
def migrate(*, config: Config = None, json: AsJson = False) -> int:
    """Bring the database up to date."""
    from indexer.store.migrate import migrate as run_migrations  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work() -> int:
        applied = await run_migrations(database_url(settings))
        _print(json, {"applied": applied}, "\n".join(f"applied {name}" for name in applied) or "up to date")
        return 0

    return run_async(work())


@app.command
def openapi() -> int:
    """Print the OpenAPI 3.1 document of the API."""
    # As committed: building it loads the whole server. A test holds the file to the code.
    sys.stdout.write(OPENAPI.read_text(encoding="utf-8"))
    return 0


@app.command
def jwks(
    keys: Annotated[Path, cyclopts.Parameter(help="PEM certificates, PEM public keys or a JWK set.")],
    /,
) -> int:
    """Print public keys as the JWK set that Distribution 3.x needs to take GitLab's tokens (auth.token.jwks)."""
    from indexer.api.trust import key_set, load_keys  # noqa: PLC0415

    sys.stdout.write(json_dumps(key_set(load_keys(keys)), indent=2) + "\n")
    return 0


def _with_database(config: Path | None, work: Callable[[Any], Awaitable[int]]) -> int:
    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import connect, translated  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def connected() -> int:
        connection = await connect(database_url(settings), application="indexer")
        try:
            async with translated():
                await check(connection)
                return await work(connection)
        finally:
            await connection.close()

    return run_async(connected())


def _print(as_json: bool, value: dict[str, Any], text: str) -> None:
    sys.stdout.write((json_dumps(value) if as_json else text) + "\n")
